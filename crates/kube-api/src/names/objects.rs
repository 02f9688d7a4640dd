//! Names of objects, labels, annotations and signers that the programs of an installation, Open
//! Cluster Management and the Go cluster-proxy agree on.
//!
//! An installation of the Go cluster-proxy that is upgraded, or rolled back to, finds its objects
//! by these names and its pods by these labels: none of them can be changed.

/// Name of the addon: of its ClusterManagementAddOn, its ManagedClusterAddOns, its configuration,
/// its Lease and its ServiceAccounts.
pub const ADDON_NAME: &str = "cluster-proxy";

/// As whom the manager applies objects.
pub const FIELD_MANAGER: &str = "cluster-proxy-addon-manager";
/// Leader election of the managers.
pub const MANAGER_LEASE: &str = "cluster-proxy-addon-manager";
/// Leader election of `cluster-proxy controllers`.
pub const CONTROLLERS_LEASE: &str = "cluster-proxy-service-proxy";
/// ConfigMap in the manager's namespace with the TLS versions and ciphers of the whole hub.
pub const TLS_PROFILE_CONFIG_MAP: &str = "ocm-tls-profile";

/// Namespace of agents unless something else is asked for.
pub const DEFAULT_AGENT_NAMESPACE: &str = "open-cluster-management-cluster-proxy";
/// Namespace of agents whose ClusterRoleBinding bears no namespace in its name.
pub const AGENT_ADDON_NAMESPACE: &str = "open-cluster-management-agent-addon";

/// Label of the pods and Deployments of this addon; the value is [`ADDON_NAME`].
pub const ADDON_LABEL: &str = "open-cluster-management.io/addon";
/// Label of everything on the hub that belongs to an addon; the value is [`ADDON_NAME`].
pub const ADDON_NAME_LABEL: &str = "open-cluster-management.io/addon-name";
/// Label of everything on the hub that belongs to a cluster; the value is its name.
pub const CLUSTER_NAME_LABEL: &str = "open-cluster-management.io/cluster-name";
/// Label of the tunnel's pods; the value is [`PROXY_SERVER`] or [`PROXY_AGENT`].
pub const COMPONENT_NAME_LABEL: &str = "proxy.open-cluster-management.io/component-name";
/// Label of the pods of the manager and the user-server; the value is [`MANAGER_COMPONENT`] or
/// [`USER_SERVER`].
pub const COMPONENT_LABEL: &str = "component";
/// Value of [`COMPONENT_LABEL`] for the manager.
pub const MANAGER_COMPONENT: &str = "cluster-proxy-manager";

/// Generation of the configuration that an object was rendered from.
pub const CONFIGURATION_GENERATION: &str =
    "proxy.open-cluster-management.io/configuration-generation";
/// Hash of an object as the Go cluster-proxy renders it.
pub const RENDERED_HASH: &str = "proxy.open-cluster-management.io/rendered-hash";
/// Hash of the TLS versions and ciphers that an object was rendered from.
pub const TLS_CONFIG_HASH: &str = "proxy.open-cluster-management.io/tls-config-hash";
/// Annotation of objects that stay in a managed cluster when the addon goes.
pub const DELETION_ORPHAN: &str = "addon.open-cluster-management.io/deletion-orphan";
/// Annotation of a ManagedCluster: where its images come from, as JSON.
pub const IMAGE_REGISTRIES: &str = "open-cluster-management.io/image-registries";
/// Annotation of the hub's own ManagedCluster: on which nodes agents run, as JSON.
pub const NODE_SELECTOR: &str = "open-cluster-management/nodeSelector";

/// The proxy-server's container, and its pods' component.
pub const PROXY_SERVER: &str = "proxy-server";
/// The proxy-agent's container, and its pods' component.
pub const PROXY_AGENT: &str = "proxy-agent";
/// The addon-agent's container.
pub const ADDON_AGENT: &str = "addon-agent";
/// The service-proxy's container.
pub const SERVICE_PROXY: &str = "service-proxy";
/// The user-server's Deployment and Service, and its pods' component.
pub const USER_SERVER: &str = "cluster-proxy-addon-user";
/// The agents' Deployment in a managed cluster.
pub const AGENT_DEPLOYMENT: &str = "cluster-proxy-proxy-agent";

/// ServiceAccount, on the hub and in managed clusters.
pub const SERVICE_ACCOUNT: &str = "cluster-proxy";
/// ServiceAccount of the proxy-server on the hub: it reads the table of agents and nothing else.
pub const PROXY_SERVER_ACCOUNT: &str = "cluster-proxy-proxy-server";
/// Role and RoleBinding that let the proxy-server read the table of agents.
pub const PROXY_SERVER_ROLE: &str = "cluster-proxy-proxy-server";
/// Role and RoleBinding for the PortForward entrypoint.
pub const PORT_FORWARD_ROLE: &str = "cluster-proxy-addon-agent:portforward";
/// Role and RoleBinding of an agent: on the hub in its cluster's namespace, in the managed cluster
/// in the agents' namespace.
pub const AGENT_ROLE: &str = "cluster-proxy-addon-agent";
/// ClusterRole and ClusterRoleBinding on the hub for agents that review tokens there.
pub const AGENT_TOKEN_REVIEW_ROLE: &str = "cluster-proxy-addon-agent-tokenreview";
/// ClusterRole of the service-proxy in a managed cluster.
pub const IMPERSONATOR_ROLE: &str = "cluster-proxy-addon-agent-impersonator";

/// Secret with the CA certificates, for those who verify on the hub.
pub const PROXY_SERVER_CA_SECRET: &str = "proxy-server-ca";
/// Secret with the CA certificates, for those who verify in a managed cluster.
pub const AGENT_CA_SECRET: &str = "cluster-proxy-ca";
/// Secret with the addon-agent's kubeconfig for the hub.
pub const HUB_KUBECONFIG_SECRET: &str = "cluster-proxy-hub-kubeconfig";
/// Secret on the hub with the one service-proxy certificate of the Go cluster-proxy.
pub const SHARED_SERVICE_PROXY_SECRET: &str = "cluster-proxy-service-proxy-server-cert";
/// Secret in managed clusters with the one service-proxy certificate of the Go cluster-proxy.
pub const SHARED_SERVICE_PROXY_AGENT_SECRET: &str =
    "cluster-proxy-service-proxy-server-certificates";
/// Secret on the hub with the user-server's serving certificate.
pub const USER_SERVING_SECRET: &str = "cluster-proxy-user-serving-cert";

/// ConfigMap, in the proxy-server's namespace, that says which clusters are accepted and which
/// names are theirs. The manager writes it and every proxy-server watches it.
pub const AGENT_TABLE_CONFIG_MAP: &str = "cluster-proxy-agents";
/// Key in it: `cluster` or `prefer`.
pub const AGENT_TABLE_IDENTITY_KEY: &str = "agent-identity";
/// Key in it: the list of clusters, as YAML or JSON: `{name, agentNamespace, certificate}`.
pub const AGENT_TABLE_CLUSTERS_KEY: &str = "clusters";

/// Network policy of the proxy-server.
pub const PROXY_SERVER_NETWORK_POLICY: &str = "cluster-proxy-proxy-server-network-policy";
/// Network policy of the agents.
pub const PROXY_AGENT_NETWORK_POLICY: &str = "cluster-proxy-proxy-agent-network-policy";

/// Signer of the addon-agent's certificate for the hub's kube-apiserver.
pub const KUBE_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Signer of the proxy-agent's certificate.
pub const PROXY_AGENT_SIGNER: &str = "open-cluster-management.io/proxy-agent-signer";
/// Signer of the service-proxy's certificate.
pub const SERVICE_PROXY_SIGNER: &str = "open-cluster-management.io/service-proxy-signer";

/// Group of every agent of the addon, on the hub and in certificates.
pub const ADDON_GROUP: &str = "open-cluster-management:cluster-proxy";
/// The addon-agent as the Go cluster-proxy registers it, the same for every cluster.
pub const SHARED_ADDON_AGENT_USER: &str = "open-cluster-management:cluster-proxy:addon-agent";
/// The proxy-agent as the Go cluster-proxy registers it, the same for every cluster.
pub const SHARED_PROXY_AGENT_USER: &str = "open-cluster-management:cluster-proxy:proxy-agent";

/// Name of the Secret in which Open Cluster Management's agent keeps the certificate that `signer`
/// issued to this addon.
#[must_use]
pub fn signed_certificate_secret(signer: &str) -> String {
    format!("{ADDON_NAME}-{}-client-cert", signer.replace('/', "-"))
}

/// Group of this addon's agent in `cluster`, as Open Cluster Management names it.
#[must_use]
pub fn cluster_addon_group(cluster: &str) -> String {
    format!("system:open-cluster-management:cluster:{cluster}:addon:{ADDON_NAME}")
}

/// User of `agent` (such as `proxy-agent`) of this addon in `cluster`, as Open Cluster Management
/// names it.
#[must_use]
pub fn cluster_agent_user(cluster: &str, agent: &str) -> String {
    format!("{}:agent:{agent}", cluster_addon_group(cluster))
}

/// Name of the ClusterRoleBinding of [`IMPERSONATOR_ROLE`] to agents in `namespace`.
#[must_use]
pub fn impersonator_binding(namespace: &str) -> String {
    if namespace == AGENT_ADDON_NAMESPACE {
        IMPERSONATOR_ROLE.to_owned()
    } else {
        format!("{IMPERSONATOR_ROLE}:{namespace}")
    }
}

/// Name of the ManifestWork with the `number`-th part, from 0, of an agent's manifests.
#[must_use]
pub fn deploy_work(number: usize) -> String {
    format!("{DEPLOY_WORK_PREFIX}{number}")
}

/// How the names of the ManifestWorks with an agent's manifests begin.
pub const DEPLOY_WORK_PREFIX: &str = "addon-cluster-proxy-deploy-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_registration_agent() {
        assert_eq!(
            signed_certificate_secret(PROXY_AGENT_SIGNER),
            "cluster-proxy-open-cluster-management.io-proxy-agent-signer-client-cert"
        );
        assert_eq!(
            signed_certificate_secret(SERVICE_PROXY_SIGNER),
            "cluster-proxy-open-cluster-management.io-service-proxy-signer-client-cert"
        );
        assert_eq!(
            cluster_agent_user("managed", PROXY_AGENT),
            "system:open-cluster-management:cluster:managed:addon:cluster-proxy:agent:proxy-agent"
        );
    }

    #[test]
    fn the_binding_bears_its_namespace_but_in_one() {
        assert_eq!(
            impersonator_binding("open-cluster-management-agent-addon"),
            "cluster-proxy-addon-agent-impersonator"
        );
        assert_eq!(
            impersonator_binding("n"),
            "cluster-proxy-addon-agent-impersonator:n"
        );
    }
}
