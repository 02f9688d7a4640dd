//! From the claims of an ID token to a user, by the rules of the kube-apiserver.
//!
//! Distributed claims (OpenID Connect Core, section 5.6.2) are not fetched: a token whose groups
//! lie elsewhere is refused, since its user would have fewer groups than the issuer says.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use cluster_proxy_identity::{Token, User};
use serde_json::{Map, Value};

use super::settings::{EMAIL, OidcSettings};
use crate::jws;

/// The claims of a token, as they stand in it: the signature is another's business.
pub(super) struct Claims(Map<String, Value>);

/// The user that claims describe.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) user: User,
    pub(super) expires: SystemTime,
}

/// Why an ID token of the issuer is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It is signed by an algorithm that is not allowed, or by none.
    #[error("its signing algorithm is not allowed")]
    Algorithm,
    /// Its header has extensions that must be understood.
    #[error("it has a critical header extension")]
    CriticalExtension,
    /// None of the issuer's keys made the signature.
    #[error("none of the issuer's keys signed it")]
    Signature,
    /// It is for another client.
    #[error("it is meant for another audience")]
    Audience,
    /// It has expired, or does not say when it does.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet, or was issued in the future.
    #[error("it is not valid yet")]
    NotYetValid,
    /// A claim is missing, or not of the kind that is needed.
    #[error("its claim {claim:?} is {what}")]
    Claim {
        /// Which.
        claim: String,
        /// What about it.
        what: &'static str,
    },
    /// The issuer has not verified the e-mail address that is the user's name.
    #[error("its e-mail address is not verified")]
    EmailNotVerified,
    /// The issuer keeps the groups elsewhere.
    #[error("its groups are a distributed claim, which is not supported")]
    DistributedGroups,
    /// A user or a group has a name that is reserved. Only said of a token that the issuer signed.
    #[error("the name {name:?} is reserved")]
    ReservedName {
        /// Which name.
        name: String,
    },
}

impl Denial {
    /// A word for metrics and logs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::CriticalExtension => "critical-extension",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Claim { .. } => "claim",
            Self::EmailNotVerified => "email-not-verified",
            Self::DistributedGroups => "distributed-groups",
            Self::ReservedName { .. } => "reserved-name",
        }
    }
}

impl Claims {
    pub(super) fn parse(token: &Token) -> Option<Self> {
        let payload = jws::payload(token)?;
        serde_json::from_slice(&payload).ok().map(Self)
    }

    pub(super) fn issuer_is(&self, settings: &OidcSettings) -> bool {
        self.0.get("iss").and_then(Value::as_str) == Some(settings.issuer())
    }

    /// The user, if the token is for us and valid at `now`.
    pub(super) fn map(&self, settings: &OidcSettings, now: SystemTime) -> Result<Mapped, Denial> {
        self.check_audience(settings.client_id())?;
        let expires = self.check_times(now)?;
        for (claim, value) in &settings.required_claims {
            if self.text(claim)? != value {
                return Err(wrong(claim, "not the required one"));
            }
        }
        let user = User {
            name: self.username(settings)?,
            uid: None,
            groups: self.groups(settings)?,
            extra: self.extra(),
        };
        Ok(Mapped { user, expires })
    }

    fn check_audience(&self, client_id: &str) -> Result<(), Denial> {
        let meant = match self.0.get("aud") {
            Some(Value::String(audience)) => audience == client_id,
            Some(Value::Array(audiences)) => {
                // One that is no string makes the claim no audience at all.
                let strings = audiences.iter().all(Value::is_string);
                strings && audiences.iter().any(|audience| audience == client_id)
            }
            _ => false,
        };
        meant.then_some(()).ok_or(Denial::Audience)
    }

    fn check_times(&self, now: SystemTime) -> Result<SystemTime, Denial> {
        let expires = self.time("exp")?.ok_or(Denial::Expired)?;
        if expires <= now {
            return Err(Denial::Expired);
        }
        for claim in ["nbf", "iat"] {
            let begins = self.time(claim)?;
            if begins.is_some_and(|begins| begins > now + LEEWAY) {
                return Err(Denial::NotYetValid);
            }
        }
        Ok(expires)
    }

    /// A NumericDate (RFC 7519, section 2).
    fn time(&self, claim: &str) -> Result<Option<SystemTime>, Denial> {
        let Some(value) = self.present(claim) else {
            return Ok(None);
        };
        value
            .as_f64()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .and_then(|since_epoch| SystemTime::UNIX_EPOCH.checked_add(since_epoch))
            .map(Some)
            .ok_or_else(|| wrong(claim, "not a time"))
    }

    fn username(&self, settings: &OidcSettings) -> Result<String, Denial> {
        let claim = settings.username_claim();
        let name = self.text(claim)?;
        if name.is_empty() {
            return Err(wrong(claim, "empty"));
        }
        if claim == EMAIL {
            match self.0.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(_) => return Err(Denial::EmailNotVerified),
            }
        }
        Ok(format!("{}{name}", settings.username_prefix()))
    }

    fn groups(&self, settings: &OidcSettings) -> Result<Vec<String>, Denial> {
        let Some((claim, prefix)) = settings.groups_claim() else {
            return Ok(Vec::new());
        };
        let prefixed = |group: &str| format!("{prefix}{group}");
        match self.present(claim) {
            None if self.is_distributed(claim) => Err(Denial::DistributedGroups),
            None => Ok(Vec::new()),
            Some(Value::String(group)) => Ok(vec![prefixed(group)]),
            Some(Value::Array(groups)) if groups.len() > MAX_GROUPS => {
                Err(wrong(claim, "a list of too many groups"))
            }
            Some(Value::Array(groups)) => groups
                .iter()
                .map(|group| {
                    let group = group.as_str();
                    group
                        .map(prefixed)
                        .ok_or_else(|| wrong(claim, "not a list of strings"))
                })
                .collect(),
            Some(_) => Err(wrong(claim, "neither a string nor a list of strings")),
        }
    }

    fn is_distributed(&self, claim: &str) -> bool {
        let names = self.0.get("_claim_names").and_then(Value::as_object);
        names.is_some_and(|names| names.contains_key(claim))
    }

    /// The token's id, under the name and in the form that the kube-apiserver gives it.
    fn extra(&self) -> BTreeMap<String, Vec<String>> {
        let id = self.0.get("jti").and_then(Value::as_str);
        // One that no header can carry must not keep its user out.
        let id = id.filter(|id| {
            (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        });
        id.map(|id| (CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]))
            .into_iter()
            .collect()
    }

    fn text(&self, claim: &str) -> Result<&str, Denial> {
        match self.present(claim) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong(claim, "not a string")),
            None => Err(wrong(claim, "missing")),
        }
    }

    /// Go reads `null` as if nothing stood there.
    fn present(&self, claim: &str) -> Option<&Value> {
        self.0.get(claim).filter(|value| !value.is_null())
    }
}

fn wrong(claim: &str, what: &'static str) -> Denial {
    Denial::Claim {
        claim: claim.to_owned(),
        what,
    }
}

/// How far the issuer's clock may be ahead of ours (`nbf`, `iat`): what go-oidc, and so the
/// kube-apiserver, allows for `nbf`. For the end of a token there is no leeway, there as here.
const LEEWAY: Duration = Duration::from_secs(300);

/// A token of 64 KiB has fewer; each becomes a header, and the kube-apiserver takes 1 MiB of them.
const MAX_GROUPS: usize = 10_000;

/// A UUID or a hash is far shorter.
const MAX_ID_BYTES: usize = 512;

const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

#[cfg(test)]
mod tests;
