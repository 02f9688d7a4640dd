//! Request headers with a meaning of their own between the parts of cluster-proxy, and between
//! cluster-proxy and a kube-apiserver.
//!
//! All of them carry authority, so each face removes them from whom it does not trust. The checks
//! compare whole names as HTTP does, letter case aside: `impersonate_user` with an underscore is
//! another header, neither removed nor understood, and no kube-apiserver reads it as
//! `Impersonate-User`.

use http::HeaderName;

/// Scheme of the target that the user-server asks a service-proxy for: `http` or `https`.
pub const CLUSTER_PROXY_PROTO: HeaderName = HeaderName::from_static("cluster-proxy-proto");
/// Namespace of the target.
pub const CLUSTER_PROXY_NAMESPACE: HeaderName = HeaderName::from_static("cluster-proxy-namespace");
/// Service name of the target.
pub const CLUSTER_PROXY_SERVICE: HeaderName = HeaderName::from_static("cluster-proxy-service");
/// Port of the target.
pub const CLUSTER_PROXY_PORT: HeaderName = HeaderName::from_static("cluster-proxy-port");

/// User to act as. The kube-apiserver checks the verb `impersonate` on `users` or
/// `serviceaccounts`.
pub const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
/// Group to act in, once per group.
pub const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// Unique id to act as.
pub const IMPERSONATE_UID: HeaderName = HeaderName::from_static("impersonate-uid");
/// Beginning of the headers that carry extra attributes, in the lower case that [`HeaderName`]
/// keeps. The rest is the percent-encoded key.
pub const IMPERSONATE_EXTRA_PREFIX: &str = "impersonate-extra-";

/// Name of the user whom a front proxy has authenticated.
pub const X_REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
/// Group of that user, once per group.
pub const X_REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
/// Unique id of that user.
pub const X_REMOTE_UID: HeaderName = HeaderName::from_static("x-remote-uid");
/// Beginning of the headers that carry that user's extra attributes, in lower case.
pub const X_REMOTE_EXTRA_PREFIX: &str = "x-remote-extra-";

/// Id under which a kube-apiserver's audit log names the request.
pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Whether the header asks a kube-apiserver for impersonation.
///
/// Any `Impersonate-*` counts: a name that today's Kubernetes does not know may mean something to
/// the next.
#[must_use]
pub fn is_impersonate_header(name: &HeaderName) -> bool {
    name.as_str().starts_with(IMPERSONATE_PREFIX)
}

/// Whether the header steers a service-proxy. Any `Cluster-Proxy-*` counts.
#[must_use]
pub fn is_cluster_proxy_header(name: &HeaderName) -> bool {
    name.as_str().starts_with(CLUSTER_PROXY_PREFIX)
}

/// Whether the header says who the user is, in the convention of Kubernetes' front proxy.
///
/// Any `X-Remote-*` counts: Kubernetes has added kinds of it (`X-Remote-Uid` came in 1.33).
#[must_use]
pub fn is_remote_header(name: &HeaderName) -> bool {
    name.as_str().starts_with(REMOTE_PREFIX)
}

/// Whether a WebSocket subprotocol is a bearer token: browsers cannot set `Authorization` on a
/// WebSocket and offer the token as a protocol (kubernetes/kubernetes,
/// `apiserver/pkg/authentication/request/websocket`).
#[must_use]
pub fn is_websocket_bearer(protocol: &[u8]) -> bool {
    protocol.starts_with(b"base64url.bearer.authorization.k8s.io.")
}

const IMPERSONATE_PREFIX: &str = "impersonate-";
const CLUSTER_PROXY_PREFIX: &str = "cluster-proxy-";
const REMOTE_PREFIX: &str = "x-remote-";

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).expect("a valid header name")
    }

    #[test]
    fn identity_headers_are_known_in_any_letter_case() {
        for text in [
            "Impersonate-User",
            "IMPERSONATE-GROUP",
            "impersonate-uid",
            "Impersonate-Extra-Scopes",
            "Impersonate-Extra-example.com%2Fkey",
            "Impersonate-Something-New",
        ] {
            assert!(is_impersonate_header(&name(text)), "{text}");
        }
        for text in [
            "X-Remote-User",
            "x-remote-group",
            "X-REMOTE-UID",
            "X-Remote-Extra-Scopes",
            "X-Remote-Something-New",
        ] {
            assert!(is_remote_header(&name(text)), "{text}");
        }
        for text in [
            "Cluster-Proxy-Proto",
            "CLUSTER-PROXY-SERVICE",
            "cluster-proxy-new",
        ] {
            assert!(is_cluster_proxy_header(&name(text)), "{text}");
        }
    }

    #[test]
    fn look_alikes_are_other_headers() {
        for text in [
            "impersonate_user",
            "Impersonate_Group",
            "impersonate",
            "impersonateuser",
            "x-impersonate-user",
            "x_remote_user",
            "x-remote",
            "x-remote_user",
            "cluster_proxy_proto",
            "cluster-proxy",
            "x-cluster-proxy-proto",
        ] {
            let name = name(text);
            assert!(!is_impersonate_header(&name), "{text}");
            assert!(!is_remote_header(&name), "{text}");
            assert!(!is_cluster_proxy_header(&name), "{text}");
        }
    }
}
