//! From a user of the hub to a user of this cluster.
//!
//! The statement comes from the user-server, or from a review by the hub, and is bounded here all
//! the same: a stolen key of the user-server, or a hub that is not what it should be, must not be
//! root on the fleet.
//!
//! - Service accounts of the hub get the prefix `cluster:hub:`, user and groups, and so are never
//!   taken for this cluster's own.
//! - Other names that begin with `system:` belong to this cluster's machinery: a user of such a
//!   name, and a group that gives power over the cluster, refuse the request. Harmless or unknown
//!   `system:` groups are left out, except for a list: less rights, never more.
//! - Names that begin with `cluster:hub:` could pass for a prefixed one and refuse the request.
//! - The uid, and extra attributes that only inform, are left out where this cluster does not let
//!   us impersonate them. An extra attribute that may narrow the user's rights (a scope), or that
//!   nobody here knows, refuses the request: without it the user could do more than on the hub.

use cluster_proxy_identity::{Token, User};
use cluster_proxy_kube_api::headers::{
    IMPERSONATE_EXTRA_PREFIX, IMPERSONATE_GROUP, IMPERSONATE_UID, IMPERSONATE_USER,
    is_impersonate_header,
};
use cluster_proxy_kube_api::names::{
    AUTHENTICATED_GROUP, HUB_USER_PREFIX, INFORMATIVE_EXTRA, SERVICE_ACCOUNT_USER_PREFIX,
    SERVICE_ACCOUNTS_GROUP,
};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Impersonation;

/// A user of this cluster, as whom a request is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Impersonated {
    user: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: Vec<(String, Vec<String>)>,
}

/// Why nobody is impersonated. The texts go to the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("impersonation of hub users is switched off on this cluster")]
    SwitchedOff,
    #[error("the name {name:?} is reserved on managed clusters: no ID token may state it")]
    ReservedByOidc { name: String },
    #[error("the hub user {name:?} has a name that is reserved on managed clusters")]
    ReservedUser { name: String },
    #[error("the hub user's group {name:?} is reserved on managed clusters")]
    ReservedGroup { name: String },
    #[error("nobody may impersonate {name:?} through cluster-proxy: the name is reserved")]
    ReservedForNobody { name: String },
    #[error("{what} cannot be impersonated on this cluster: the service-proxy has no right to it")]
    BeyondUs { what: String },
    #[error(
        "the hub user's extra attribute {key:?} may narrow its rights and cannot be impersonated \
         on this cluster"
    )]
    Extra { key: String },
    #[error("the user's {what} cannot be carried in a header")]
    Unspeakable { what: &'static str },
}

impl Impersonated {
    /// The user of this cluster that `hub_user` becomes.
    pub(crate) fn map(hub_user: &User, bounds: &Impersonation) -> Result<Self, Refusal> {
        if !bounds.enabled {
            return Err(Refusal::SwitchedOff);
        }
        let mut groups = Vec::with_capacity(hub_user.groups.len());
        for group in &hub_user.groups {
            if let Some(mapped) = map_group(group, bounds)? {
                groups.push(mapped);
            }
        }
        let mut extra = Vec::new();
        for (key, values) in &hub_user.extra {
            if bounds.extra_keys.contains(key) {
                extra.push((key.clone(), values.clone()));
            } else if !INFORMATIVE_EXTRA.contains(&key.as_str()) {
                return Err(Refusal::Extra { key: key.clone() });
            }
        }
        Ok(Self {
            user: map_user(&hub_user.name)?,
            uid: hub_user.uid.clone().filter(|_| bounds.uid),
            groups,
            extra,
        })
    }

    /// The user of this cluster that an ID token's is, who is authenticated here like any other.
    ///
    /// The issuer's word has bounds that no flag widens: the names of this cluster's machinery and
    /// of its service accounts, and those of the hub's.
    pub(crate) fn of_id_token(user: &User, bounds: &Impersonation) -> Result<Self, Refusal> {
        let names = || std::iter::once(&user.name).chain(&user.groups);
        if let Some(name) = names().find(|name| is_never_an_id_tokens(name)) {
            return Err(Refusal::ReservedByOidc { name: name.clone() });
        }
        let mut groups: Vec<_> = user
            .groups
            .iter()
            .filter(|group| !group.is_empty())
            .collect();
        let authenticated = AUTHENTICATED_GROUP.to_owned();
        if !groups.contains(&&authenticated) {
            groups.push(&authenticated);
        }
        let permitted = |(key, _): &(&String, _)| bounds.extra_keys.contains(*key);
        Ok(Self {
            user: user.name.clone(),
            uid: None,
            groups: groups.into_iter().cloned().collect(),
            extra: user
                .extra
                .iter()
                .filter(permitted)
                .map(|(key, values)| (key.clone(), values.clone()))
                .collect(),
        })
    }

    /// The user of this cluster as whom a hub user wants to act, who has been asked whether they
    /// may.
    pub(crate) fn wanted(user: &User, bounds: &Impersonation) -> Result<Self, Refusal> {
        let names = || std::iter::once(&user.name).chain(&user.groups);
        let reserved = |name: &&String| POWERFUL_GROUPS.iter().any(|power| power.covers(name));
        if let Some(name) = names().find(reserved) {
            return Err(Refusal::ReservedForNobody { name: name.clone() });
        }
        if user.name.starts_with(SYSTEM_PREFIX) && user.name != ANONYMOUS_USER {
            let name = user.name.clone();
            return Err(Refusal::ReservedForNobody { name });
        }
        if user.uid.is_some() && !bounds.uid {
            let what = "a uid".to_owned();
            return Err(Refusal::BeyondUs { what });
        }
        if let Some(key) = user
            .extra
            .keys()
            .find(|key| !bounds.extra_keys.contains(*key))
        {
            let what = format!("extra attribute {key:?}");
            return Err(Refusal::BeyondUs { what });
        }
        Ok(Self {
            user: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone().into_iter().collect(),
        })
    }

    /// As the kube-apiserver sees who is impersonated so.
    pub(crate) fn as_seen(&self) -> User {
        let mut groups = self.groups.clone();
        if !groups.iter().any(|group| group == AUTHENTICATED_GROUP) {
            groups.push(AUTHENTICATED_GROUP.to_owned());
        }
        User {
            name: self.user.clone(),
            uid: self.uid.clone(),
            groups,
            extra: self.extra.iter().cloned().collect(),
        }
    }

    /// The name that this cluster sees.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Makes `headers` those of this user, sent by us with `own` as our credential. Whatever of
    /// the kind stood there is gone; nothing else may change them afterwards.
    pub(crate) fn set(&self, own: Option<&Token>, headers: &mut HeaderMap) -> Result<(), Refusal> {
        strip(headers);
        if let Some(token) = own {
            let mut bearer = value(&format!("Bearer {}", token.expose()), "credential")?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        headers.insert(IMPERSONATE_USER, value(&self.user, "name")?);
        if let Some(uid) = &self.uid {
            headers.insert(IMPERSONATE_UID, value(uid, "uid")?);
        }
        for group in &self.groups {
            headers.append(IMPERSONATE_GROUP, value(group, "group")?);
        }
        for (key, values) in &self.extra {
            let name = format!("{IMPERSONATE_EXTRA_PREFIX}{}", encode_key(key));
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::Unspeakable {
                    what: "extra attribute",
                })?;
            for text in values {
                headers.append(name.clone(), value(text, "extra attribute")?);
            }
        }
        Ok(())
    }
}

/// Removes what a client says of its identity towards the kube-apiserver.
fn strip(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let names: Vec<_> = headers
        .keys()
        .filter(|name| is_impersonate_header(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

fn map_user(name: &str) -> Result<String, Refusal> {
    if name.starts_with(SERVICE_ACCOUNT_USER_PREFIX) {
        return Ok(format!("{HUB_USER_PREFIX}{name}"));
    }
    let reserved =
        name.is_empty() || name.starts_with(HUB_USER_PREFIX) || name.starts_with(SYSTEM_PREFIX);
    if reserved {
        return Err(Refusal::ReservedUser {
            name: name.to_owned(),
        });
    }
    Ok(name.to_owned())
}

/// The group here, or `None` when it is left out.
fn map_group(name: &str, bounds: &Impersonation) -> Result<Option<String>, Refusal> {
    let reserved = || Refusal::ReservedGroup {
        name: name.to_owned(),
    };
    if name.starts_with(HUB_USER_PREFIX) || POWERFUL_GROUPS.iter().any(|power| power.covers(name)) {
        return Err(reserved());
    }
    let of_service_accounts = name
        .strip_prefix(SERVICE_ACCOUNTS_GROUP)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    if of_service_accounts && !bounds.raw_service_account_groups {
        return Ok(Some(format!("{HUB_USER_PREFIX}{name}")));
    }
    let passes = !name.starts_with(SYSTEM_PREFIX)
        || of_service_accounts
        || bounds.system_groups.contains(name);
    Ok((passes && !name.is_empty()).then(|| name.to_owned()))
}

/// Whether an ID token's user or group would be somebody of a cluster itself.
fn is_never_an_id_tokens(name: &str) -> bool {
    let beginnings = [
        HUB_USER_PREFIX,
        SERVICE_ACCOUNT_USER_PREFIX,
        SERVICE_ACCOUNTS_GROUP,
    ];
    name == ANONYMOUS_USER
        || beginnings
            .iter()
            .any(|beginning| name.starts_with(beginning))
        || POWERFUL_GROUPS.iter().any(|power| power.covers(name))
}

/// Groups that stand for power over a cluster.
enum Power {
    Exactly(&'static str),
    Beginning(&'static str),
}

impl Power {
    fn covers(&self, name: &str) -> bool {
        match self {
            Self::Exactly(group) => name == *group,
            Self::Beginning(prefix) => name.starts_with(prefix),
        }
    }
}

/// UTF-8 goes as bytes, as client-go sends it. White space around a value would be gone after the
/// next HTTP/1.1 hop, and with it what the checks above looked at.
fn value(text: &str, what: &'static str) -> Result<HeaderValue, Refusal> {
    let padded = text.trim_ascii().len() != text.len();
    HeaderValue::from_bytes(text.as_bytes())
        .ok()
        .filter(|_| !padded)
        .ok_or(Refusal::Unspeakable { what })
}

/// Percent-encodes what a header name cannot carry, upper case letters and `%`: the kube-apiserver
/// turns the header's name to lower case first and decodes it then.
fn encode_key(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02x}"));
        }
    }
    encoded
}

const SYSTEM_PREFIX: &str = "system:";

/// Whom a kube-apiserver makes of a request without credentials.
const ANONYMOUS_USER: &str = "system:anonymous";

const POWERFUL_GROUPS: [Power; 4] = [
    Power::Exactly("system:masters"),
    Power::Beginning("system:node"),
    Power::Beginning("system:kube-"),
    // OpenShift's.
    Power::Exactly("system:cluster-admins"),
];

#[cfg(test)]
mod tests;
