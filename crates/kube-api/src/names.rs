//! Names with a meaning of their own in Kubernetes or in cluster-proxy: of users and groups here,
//! and of objects.

pub use objects::*;

mod objects;

/// What a hub service account's user name is prefixed with on a managed cluster, so that the hub's
/// `system:serviceaccount:default:ci` is never the managed cluster's account of that name.
pub const HUB_USER_PREFIX: &str = "cluster:hub:";

/// How the user name of every service account begins:
/// `system:serviceaccount:<namespace>:<name>`.
pub const SERVICE_ACCOUNT_USER_PREFIX: &str = "system:serviceaccount:";

/// The group of all service accounts. `<group>:<namespace>` is the group of one namespace's.
pub const SERVICE_ACCOUNTS_GROUP: &str = "system:serviceaccounts";

/// The group of everybody whom the kube-apiserver authenticated.
pub const AUTHENTICATED_GROUP: &str = "system:authenticated";

/// The group of requests without credentials.
pub const UNAUTHENTICATED_GROUP: &str = "system:unauthenticated";

/// The group that no authorizer ever denies anything: nobody may be made a member from outside.
pub const MASTERS_GROUP: &str = "system:masters";

/// Extra attributes that say where a token came from and change nobody's rights (KEP-4193): where
/// they may be impersonated, a managed cluster's audit log is worth more; left out, they widen
/// nothing.
pub const INFORMATIVE_EXTRA: [&str; 5] = [
    "authentication.kubernetes.io/credential-id",
    "authentication.kubernetes.io/node-name",
    "authentication.kubernetes.io/node-uid",
    "authentication.kubernetes.io/pod-name",
    "authentication.kubernetes.io/pod-uid",
];
