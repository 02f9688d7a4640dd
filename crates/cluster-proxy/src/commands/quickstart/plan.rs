//! Names that quickstart uses, and the rights it needs.

use cluster_proxy_identity::ClusterName;

/// Which names go where. With embedded clusters they are the user story's; with real clusters
/// everything lies in namespaces of quickstart's own, and the pods shown are those that are there.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The managed cluster's name, first part of every URL.
    pub(super) cluster: ClusterName,
    /// Namespace of the roles' accounts, in both clusters.
    pub(super) roles_namespace: String,
    /// Namespace of the hub user.
    pub(super) user_namespace: String,
    /// Namespace whose pods the hub user may see, in the managed cluster.
    pub(super) pods_namespace: String,
    /// Whether that namespace and its pods are made here.
    pub(super) makes_pods: bool,
}

impl Plan {
    pub(super) const USER: &str = "test-sa";
    pub(super) const USER_ROLE: &str = "test-sa-role";
    pub(super) const USER_SERVER_ACCOUNT: &str = "cluster-proxy-addon-user";
    pub(super) const USER_SERVER_ROLE: &str = "cluster-proxy-quickstart:user-server";
    pub(super) const SERVICE_PROXY_ACCOUNT: &str = "cluster-proxy";
    pub(super) const SERVICE_PROXY_ROLE: &str = "cluster-proxy-quickstart:service-proxy";
    pub(super) const PODS: [&str; 2] = ["klusterlet-agent-0", "klusterlet-agent-1"];

    pub(super) fn embedded(cluster: ClusterName) -> Self {
        Self {
            cluster,
            roles_namespace: "open-cluster-management-addon".to_owned(),
            user_namespace: "open-cluster-management-hub".to_owned(),
            pods_namespace: "open-cluster-management-agent".to_owned(),
            makes_pods: true,
        }
    }

    pub(super) fn existing(cluster: ClusterName) -> Self {
        Self {
            cluster,
            roles_namespace: "cluster-proxy-quickstart".to_owned(),
            user_namespace: "cluster-proxy-quickstart".to_owned(),
            pods_namespace: "kube-system".to_owned(),
            makes_pods: false,
        }
    }

    /// The hub user's name on the hub.
    pub(super) fn hub_user_name(&self) -> String {
        format!(
            "system:serviceaccount:{}:{}",
            self.user_namespace,
            Self::USER
        )
    }

    /// The hub user's name in the managed cluster.
    pub(super) fn managed_user_name(&self) -> String {
        format!("cluster:hub:{}", self.hub_user_name())
    }

    /// The pods that the hub user may list.
    pub(super) fn pods_path(&self) -> String {
        format!(
            "/{}/api/v1/namespaces/{}/pods",
            self.cluster, self.pods_namespace
        )
    }

    /// A namespace of which the hub user may see nothing.
    pub(super) fn forbidden_path(&self) -> String {
        format!("/{}/api/v1/namespaces/default/secrets", self.cluster)
    }
}
