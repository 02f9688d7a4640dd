//! A hub user who wants to act as somebody else (`kubectl --as`).
//!
//! Impersonation does not nest, so what a kube-apiserver would check of an impersonator is asked by
//! SubjectAccessReview for the user of this cluster that the hub user is; then it is done on their
//! behalf, with our own credentials. The names that no hub user may bear are nobody's to take here
//! either, whatever rights the cluster gives.

use cluster_proxy_authentication::{Access, AccessReviewer, ReviewError};
use cluster_proxy_identity::User;
use cluster_proxy_kube_api::headers::{
    IMPERSONATE_EXTRA_PREFIX, IMPERSONATE_GROUP, IMPERSONATE_UID, IMPERSONATE_USER,
    X_REMOTE_EXTRA_PREFIX, X_REMOTE_GROUP, X_REMOTE_UID, X_REMOTE_USER, is_impersonate_header,
};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName};
use k8s_openapi::api::authorization::v1::ResourceAttributes;

/// Why a hub user does not act as somebody else. The texts go to the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActingError {
    #[error("the Impersonate-* headers impersonate nobody that this cluster can make: {cause}")]
    Unreadable { cause: String },
    #[error("to impersonate more than {MAX_PARTS} groups and extra attributes is too much")]
    TooMuch,
    #[error("user {user:?} may not impersonate {what} on this cluster")]
    Denied { user: String, what: String },
    #[error("the service-proxy could not ask this cluster whether the user may impersonate")]
    Failed {
        #[source]
        source: ReviewError,
    },
}

/// Whom the headers ask to act as, as the kube-apiserver reads them.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<User, ActingError> {
    let unreadable = |cause: String| ActingError::Unreadable { cause };
    // The same convention under other names: one reader is enough.
    let mut stated = HeaderMap::new();
    for (name, value) in headers {
        if !is_impersonate_header(name) {
            continue;
        }
        let name = match name {
            name if *name == IMPERSONATE_USER => X_REMOTE_USER,
            name if *name == IMPERSONATE_GROUP => X_REMOTE_GROUP,
            name if *name == IMPERSONATE_UID => X_REMOTE_UID,
            name => {
                let key = name.as_str().strip_prefix(IMPERSONATE_EXTRA_PREFIX);
                let key = key.ok_or_else(|| unreadable(format!("{name} is not known")))?;
                HeaderName::try_from(format!("{X_REMOTE_EXTRA_PREFIX}{key}"))
                    .map_err(|error| unreadable(error.to_string()))?
            }
        };
        stated.append(name, value.clone());
    }
    let user = User::from_remote_headers(&stated)
        .map_err(|error| unreadable(error.to_string().replace("X-Remote", "Impersonate")))?
        .ok_or_else(|| unreadable("there is no Impersonate-User".to_owned()))?;
    let parts = user.groups.len() + user.extra.values().map(Vec::len).sum::<usize>();
    if parts > MAX_PARTS {
        return Err(ActingError::TooMuch);
    }
    Ok(user)
}

/// Whether `user` of this cluster may act as `wanted`, asked part by part.
pub(crate) async fn authorize(
    cluster: &AccessReviewer,
    user: &User,
    wanted: &User,
) -> Result<(), ActingError> {
    let parts = parts(wanted);
    let answers = parts
        .iter()
        .map(|(_, attributes)| cluster.review(user, attributes));
    for ((what, _), access) in parts.iter().zip(join_all(answers).await) {
        match access {
            Access::Allowed => {}
            Access::Denied => {
                return Err(ActingError::Denied {
                    user: user.name.clone(),
                    what: what.clone(),
                });
            }
            Access::Failed(source) => return Err(ActingError::Failed { source }),
        }
    }
    Ok(())
}

/// What must be allowed, each with its name for people (kubernetes/kubernetes,
/// `apiserver/pkg/endpoints/filters/impersonation.go`).
fn parts(wanted: &User) -> Vec<(String, ResourceAttributes)> {
    let part = |group: &str, resource: &str, subresource: Option<&str>, name: &str| {
        let attributes = ResourceAttributes {
            verb: Some("impersonate".to_owned()),
            group: Some(group.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            name: Some(name.to_owned()),
            ..ResourceAttributes::default()
        };
        let resource = match subresource {
            Some(subresource) => format!("{resource}/{subresource}"),
            None => resource.to_owned(),
        };
        (format!("{resource} {name:?}"), attributes)
    };
    let mut parts = vec![part("", "users", None, &wanted.name)];
    let groups = wanted.groups.iter();
    parts.extend(groups.map(|group| part("", "groups", None, group)));
    let uid = wanted.uid.iter();
    parts.extend(uid.map(|uid| part(AUTHENTICATION, "uids", None, uid)));
    for (key, values) in &wanted.extra {
        let values = values.iter();
        parts.extend(
            values.map(|value| part(AUTHENTICATION, "userextras", Some(key.as_str()), value)),
        );
    }
    parts
}

const AUTHENTICATION: &str = "authentication.k8s.io";

/// Each is a question of its own to the kube-apiserver.
const MAX_PARTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn all_that_is_asked_for_is_read_and_must_be_allowed() {
        let user = wanted(&headers(&[
            ("impersonate-user", "bob"),
            ("impersonate-group", "one"),
            ("impersonate-group", "two"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.com%2fscopes", "a"),
            ("accept", "*/*"),
        ]))
        .expect("somebody");
        let asked: Vec<_> = parts(&user).into_iter().map(|(what, _)| what).collect();
        assert_eq!(
            asked,
            [
                "users \"bob\"",
                "groups \"one\"",
                "groups \"two\"",
                "uids \"7\"",
                "userextras/example.com/scopes \"a\"",
            ]
        );
    }

    #[test]
    fn half_a_wish_is_refused() {
        for fields in [
            &[("impersonate-group", "system:masters")][..],
            &[("impersonate-uid", "0")],
            &[("impersonate-user", "")],
            &[("impersonate-user", "a"), ("impersonate-user", "b")],
            &[
                ("impersonate-user", "a"),
                ("impersonate-something-new", "b"),
            ],
        ] {
            let error = wanted(&headers(fields)).expect_err("nobody");
            assert!(matches!(error, ActingError::Unreadable { .. }), "{error}");
            assert!(!error.to_string().contains("Remote"), "{error}");
        }
        let mut many = headers(&[("impersonate-user", "a")]);
        for _ in 0..=MAX_PARTS {
            many.append(IMPERSONATE_GROUP, http::HeaderValue::from_static("g"));
        }
        assert!(matches!(wanted(&many), Err(ActingError::TooMuch)));
    }
}
