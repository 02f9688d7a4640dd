//! What a manager is told by its flags.

pub use cluster_proxy_kube_api::names::FIELD_MANAGER;
use cluster_proxy_kube_api::names::{CONTROLLERS_LEASE, DEFAULT_AGENT_NAMESPACE, MANAGER_LEASE};

/// What a manager is there for. Each duty has a Lease of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// The whole addon.
    Addon,
    /// The one certificate that all service-proxies of a Go installation share, beside its
    /// manager.
    SharedCertificate {
        /// The namespace of its Secret.
        namespace: String,
    },
}

impl Duty {
    /// The Lease by which one of several leads; a Go program of the same duty uses the same.
    pub(crate) fn lease(&self) -> &'static str {
        match self {
            Self::Addon => MANAGER_LEASE,
            Self::SharedCertificate { .. } => CONTROLLERS_LEASE,
        }
    }
}

/// What a manager is told by its flags, the same for every object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerConfig {
    /// What it is there for.
    pub duty: Duty,
    /// The manager's own namespace: of its leader election, its events and `ocm-tls-profile`.
    pub namespace: String,
    /// Who this manager is among its replicas, best its pod's name.
    pub identity: String,
    /// Whether several managers may run, of which one works.
    pub leader_election: bool,
    /// Where the CA is kept.
    pub signer_secret_namespace: String,
    /// The Secret that holds it.
    pub signer_secret_name: String,
    /// The image of the agents; empty is the one of the configuration.
    pub agent_image: String,
    /// `Always`, `IfNotPresent` or `Never`, for every container that is rendered.
    pub image_pull_policy: String,
    /// Whether agents answer for their cluster's name, beside their tunnel host.
    pub kube_api_proxy: bool,
    /// Whether agents run a service-proxy.
    pub service_proxy: bool,
    /// Whether network policies are rendered.
    pub network_policies: bool,
    /// Where agents are installed unless their AddOnDeploymentConfig says otherwise.
    pub agent_install_namespace: String,
    /// Whether ClusterProfiles get an access provider.
    pub cluster_profile: bool,
}

impl ManagerConfig {
    /// A manager in `namespace` that is `identity` among its replicas; the rest as the flags'
    /// defaults are.
    #[must_use]
    pub fn new(namespace: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            duty: Duty::Addon,
            namespace: namespace.into(),
            identity: identity.into(),
            leader_election: false,
            signer_secret_namespace: "default".to_owned(),
            signer_secret_name: "cluster-proxy-signer".to_owned(),
            agent_image: String::new(),
            image_pull_policy: "IfNotPresent".to_owned(),
            kube_api_proxy: true,
            service_proxy: true,
            network_policies: false,
            agent_install_namespace: DEFAULT_AGENT_NAMESPACE.to_owned(),
            cluster_profile: false,
        }
    }
}
