//! `Impersonate-*` headers: a request acts as somebody else if its sender may, part by part
//! (apiserver/pkg/endpoints/filters/impersonation). The result has nothing of the sender's own.

use std::collections::BTreeMap;

use cluster_proxy_identity::User;
use cluster_proxy_kube_api::headers::{
    IMPERSONATE_EXTRA_PREFIX, IMPERSONATE_GROUP, IMPERSONATE_UID, IMPERSONATE_USER,
};
use cluster_proxy_kube_api::names::{AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP};
use http::header::HeaderValue;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use crate::authentication::{ANONYMOUS, tokens};
use crate::failure::Failure;
use crate::rbac::{self, Attributes, Target};
use crate::store::Transaction;

/// The user that a request acts as: its sender, if it asks for nobody else.
///
/// # Errors
/// 403 for a part that the sender may not impersonate, 400 for parts without a user.
pub(crate) fn acting(
    store: &Transaction<'_>,
    sender: User,
    headers: &HeaderMap,
) -> Result<User, Failure> {
    let Some(wanted) = Wanted::read(headers)? else {
        return Ok(sender);
    };
    wanted.authorize(store, &sender)?;
    Ok(wanted.into_user())
}

/// What the headers ask for.
struct Wanted {
    user: String,
    groups: Vec<String>,
    uid: Option<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let first = |name: &HeaderName| {
            headers
                .get(name)
                .map(text)
                .filter(|value| !value.is_empty())
        };
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            if let Some(key) = name.as_str().strip_prefix(IMPERSONATE_EXTRA_PREFIX) {
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                extra.entry(key).or_default().push(text(value));
            }
        }
        let groups: Vec<_> = headers
            .get_all(IMPERSONATE_GROUP)
            .iter()
            .map(text)
            .collect();
        let uid = first(&IMPERSONATE_UID);
        match first(&IMPERSONATE_USER) {
            Some(user) => Ok(Some(Self {
                user,
                groups,
                uid,
                extra,
            })),
            None if groups.is_empty() && uid.is_none() && extra.is_empty() => Ok(None),
            None => Err(Failure::bad_request(
                "requested groups, uid or extra without impersonating a user",
            )),
        }
    }

    /// Every part is a right of its own.
    fn authorize(&self, store: &Transaction<'_>, sender: &User) -> Result<(), Failure> {
        let check = |group, resource, subresource, namespace, name| {
            let attributes = Attributes {
                user: sender,
                verb: "impersonate",
                target: Target::Resource {
                    group,
                    resource,
                    subresource,
                    namespace,
                    name,
                },
            };
            let decision = rbac::authorize(store, &attributes);
            if decision.allowed {
                Ok(())
            } else {
                Err(rbac::denial(&attributes, &decision))
            }
        };
        match tokens::split_user_name(&self.user) {
            Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name)?,
            None => check("", "users", "", "", &self.user)?,
        }
        for group in &self.groups {
            check("", "groups", "", "", group)?;
        }
        for (key, values) in &self.extra {
            for value in values {
                check(AUTHENTICATION, "userextras", key, "", value)?;
            }
        }
        if let Some(uid) = &self.uid {
            check(AUTHENTICATION, "uids", "", "", uid)?;
        }
        Ok(())
    }

    fn into_user(self) -> User {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = tokens::split_user_name(&self.user)
        {
            groups = tokens::groups(namespace);
        }
        let has = |groups: &[String], name| groups.iter().any(|group| group == name);
        let general = if self.user == ANONYMOUS {
            UNAUTHENTICATED_GROUP
        } else {
            AUTHENTICATED_GROUP
        };
        // Who asks for system:unauthenticated gets it, and is not authenticated as well.
        if !has(&groups, general) && !has(&groups, UNAUTHENTICATED_GROUP) {
            groups.push(general.to_owned());
        }
        User {
            name: self.user,
            uid: self.uid,
            groups,
            extra: self.extra,
        }
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

const AUTHENTICATION: &str = "authentication.k8s.io";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES};
    use crate::store::Store;

    /// `agent` may impersonate any user, service account and the group `staff`, and the key
    /// `scopes` of extra.
    fn act(headers: &[(&'static str, &'static str)]) -> Result<User, String> {
        let store = Store::new();
        store
            .write(false, |state| {
                state.put(
                    CLUSTER_ROLES,
                    json!({"metadata": {"name": "impersonator"}, "rules": [
                        {
                            "apiGroups": [""], "verbs": ["impersonate"],
                            "resources": ["users", "serviceaccounts"],
                        },
                        {
                            "apiGroups": [""], "verbs": ["impersonate"],
                            "resources": ["groups"], "resourceNames": ["staff"],
                        },
                        {
                            "apiGroups": ["authentication.k8s.io"], "verbs": ["impersonate"],
                            "resources": ["userextras/scopes"],
                        },
                    ]}),
                );
                state.put(
                    CLUSTER_ROLE_BINDINGS,
                    json!({
                        "metadata": {"name": "agent"},
                        "roleRef": {"kind": "ClusterRole", "name": "impersonator"},
                        "subjects": [{"kind": "User", "name": "agent"}],
                    }),
                );
                Ok(())
            })
            .unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let sender = User {
            name: "agent".to_owned(),
            groups: vec!["system:masters-not".to_owned()],
            ..User::default()
        };
        store
            .read(|view| acting(view, sender, &map))
            .map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn the_result_has_nothing_of_the_sender() {
        let user = act(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "staff"),
            ("impersonate-extra-scopes", "read"),
            ("impersonate-extra-scopes", "write"),
        ])
        .unwrap();
        assert_eq!(user.name, "jane");
        assert_eq!(user.groups, ["staff", "system:authenticated"]);
        assert_eq!(user.extra["scopes"], ["read", "write"]);
        assert_eq!(act(&[]).unwrap().name, "agent");
    }

    #[test]
    fn service_accounts_bring_their_groups() {
        let user = act(&[("impersonate-user", "system:serviceaccount:a:robot")]).unwrap();
        assert_eq!(
            user.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                "system:authenticated"
            ]
        );
        let anonymous = act(&[("impersonate-user", "system:anonymous")]).unwrap();
        assert_eq!(anonymous.groups, ["system:unauthenticated"]);
    }

    #[test]
    fn each_part_needs_its_right() {
        let denied = act(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "system:masters"),
        ]);
        assert_eq!(
            denied.unwrap_err(),
            "groups \"system:masters\" is forbidden: User \"agent\" cannot impersonate resource \
             \"groups\" in API group \"\" at the cluster scope"
        );
        let denied = act(&[
            ("impersonate-user", "jane"),
            ("impersonate-extra-example.com%2fkey", "v"),
        ]);
        assert_eq!(
            denied.unwrap_err(),
            "userextras.authentication.k8s.io \"v\" is forbidden: User \"agent\" cannot \
             impersonate resource \"userextras/example.com/key\" in API group \
             \"authentication.k8s.io\" at the cluster scope"
        );
        assert!(act(&[("impersonate-user", "jane"), ("impersonate-uid", "1")]).is_err());
        assert!(act(&[("impersonate-group", "staff")]).is_err());
    }
}
