//! Whether the hub lets somebody use a cluster at all, asked before anything leaves the hub.

use cluster_proxy_authentication::{Access, AccessReviewer, ReviewError};
use cluster_proxy_identity::{ClusterName, User};
use cluster_proxy_kube_api::status::StatusReply;
use http::header::UPGRADE;
use http::{HeaderMap, Method};
use k8s_openapi::api::authorization::v1::ResourceAttributes;

use crate::caller::Caller;

/// Why a cluster may not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorizationError {
    #[error(
        "user {user:?} may not {verb} managedclusters/proxy of cluster \"{cluster}\" on the hub; an \
         administrator of the hub grants it by a ClusterRole (resource managedclusters/proxy in \
         group {MANAGED_CLUSTER_GROUP})"
    )]
    Denied {
        user: String,
        verb: &'static str,
        cluster: ClusterName,
    },
    #[error("the hub does not know this bearer token, and only its users may use a cluster")]
    Stranger,
    #[error("the hub's kube-apiserver could not say whether the user may use the cluster")]
    Failed {
        #[source]
        source: ReviewError,
    },
}

/// Asks the hub whether `caller` may do this to `cluster`. Who is not the hub's user is
/// `system:anonymous` to it.
pub(crate) async fn authorize(
    hub: &AccessReviewer,
    caller: &Caller,
    cluster: &ClusterName,
    verb: &'static str,
) -> Result<(), AuthorizationError> {
    let attributes = ResourceAttributes {
        group: Some(MANAGED_CLUSTER_GROUP.to_owned()),
        version: Some("*".to_owned()),
        resource: Some("managedclusters".to_owned()),
        subresource: Some("proxy".to_owned()),
        name: Some(cluster.to_string()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let access = match caller {
        Caller::HubUser(user) => hub.review(user, &attributes).await,
        Caller::Stranger => hub.review(&nobody(), &attributes).await,
    };
    match (access, caller) {
        (Access::Allowed, _) => Ok(()),
        (Access::Denied, Caller::Stranger) => Err(AuthorizationError::Stranger),
        (Access::Denied, Caller::HubUser(user)) => Err(AuthorizationError::Denied {
            user: user.name.clone(),
            verb,
            cluster: cluster.clone(),
        }),
        (Access::Failed(source), _) => Err(AuthorizationError::Failed { source }),
    }
}

/// The verb of a request, as Kubernetes has it for proxies, except that an upgrade is `create`
/// whatever its method: exec by WebSocket is a GET.
pub(crate) fn verb(method: &Method, headers: &HeaderMap) -> &'static str {
    if headers.contains_key(UPGRADE) {
        return "create";
    }
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "create",
    }
}

fn nobody() -> User {
    User {
        name: "system:anonymous".to_owned(),
        groups: vec!["system:unauthenticated".to_owned()],
        ..User::default()
    }
}

impl AuthorizationError {
    pub(crate) fn reply(&self) -> StatusReply {
        match self {
            Self::Denied { .. } => StatusReply::forbidden(self.to_string()),
            Self::Stranger => StatusReply::unauthorized(self.to_string()),
            Self::Failed { source } => StatusReply::service_unavailable(
                format!("{self} ({})", source.reason()),
                Some(RETRY_AFTER_SECONDS),
            ),
        }
    }

    /// A short fixed word for metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Denied { .. } | Self::Stranger => "denied",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Of ManagedClusters.
const MANAGED_CLUSTER_GROUP: &str = "cluster.open-cluster-management.io";

/// A kube-apiserver that restarts is back in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_upgrade_is_no_mere_reading() {
        let plain = HeaderMap::new();
        let upgrade = HeaderMap::from_iter([(UPGRADE, HeaderValue::from_static("websocket"))]);
        for (method, expected) in [
            (Method::GET, "get"),
            (Method::HEAD, "get"),
            (Method::POST, "create"),
            (Method::PUT, "update"),
            (Method::PATCH, "patch"),
            (Method::DELETE, "delete"),
        ] {
            assert_eq!(verb(&method, &plain), expected);
            assert_eq!(verb(&method, &upgrade), "create");
        }
        let unknown = Method::from_bytes(b"PURGE").expect("a method");
        assert_eq!(verb(&unknown, &plain), "create");
    }
}
