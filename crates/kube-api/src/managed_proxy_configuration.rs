//! ManagedProxyConfiguration: how the addon is set up, for the hub and for every managed cluster.
//!
//! The schema of the CustomResourceDefinition is generated from these types, so that a default, an
//! enum or a description is written once. It accepts whatever the releases 0.9 and later of the Go
//! cluster-proxy accept.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crd::crd;

mod crd;

/// The name of the one configuration that the addon uses.
pub const CONFIGURATION_NAME: &str = "cluster-proxy";

/// Condition: the proxy-server's objects are applied and its pods are available.
pub const PROXY_SERVER_DEPLOYED: &str = "ProxyServerDeployed";
/// Condition: the certificate for the tunnel's clients is there.
pub const PROXY_SERVER_SECRET_SIGNED: &str = "ProxyServerSecretSigned";
/// Condition: the certificate that agents see is there.
pub const AGENT_SERVER_SECRET_SIGNED: &str = "AgentServerSecretSigned";
/// Condition: the certificate of the tunnel's clients is there.
pub const PROXY_CLIENT_SECRET_SIGNED: &str = "ProxyClientSecretSigned";
/// Condition: the certificate that users see is there.
pub const USER_SERVER_SECRET_SIGNED: &str = "UserServerSecretSigned";

/// How proxy-servers and proxy-agents are run and how they trust each other.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "proxy.open-cluster-management.io",
    version = "v1alpha1",
    kind = "ManagedProxyConfiguration",
    plural = "managedproxyconfigurations",
    status = "ManagedProxyConfigurationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "How the cluster-proxy addon is set up. The one named cluster-proxy is used.",
    crates(kube_core = "::kube_core"),
    printcolumn = r#"{"name": "Entrypoint", "type": "string", "jsonPath": ".spec.proxyServer.entrypoint.type", "description": "How agents reach the proxy-server."}"#,
    printcolumn = r#"{"name": "Replicas", "type": "integer", "jsonPath": ".spec.proxyServer.replicas", "description": "Proxy-servers asked for."}"#,
    printcolumn = r#"{"name": "Deployed", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"ProxyServerDeployed\")].status", "description": "Whether the proxy-server is deployed."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["authentication", "proxyAgent", "proxyServer"]))]
pub struct ManagedProxyConfigurationSpec {
    /// Who signs certificates and where they are kept.
    pub authentication: Authentication,
    /// The hub's end of the tunnel.
    pub proxy_server: ProxyServer,
    /// The managed clusters' end of the tunnel.
    pub proxy_agent: ProxyAgent,
    /// Details of the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    /// When present, the user-server's serving certificate is signed and renewed here; otherwise
    /// somebody else provides the Secret cluster-proxy-user-serving-cert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_server: Option<UserServer>,
}

/// Who signs certificates and where they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    /// Who signs.
    pub signer: Signer,
    /// Where the signed certificates are kept.
    pub dump: Dump,
}

/// Who signs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Signer {
    /// Only SelfSigned is implemented: a CA made on the hub when there is none.
    #[serde(rename = "type")]
    pub kind: SignerType,
    /// Details of signing with the addon's own CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSigned>,
}

/// Where the CA comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SignerType {
    /// Made on the hub when there is none.
    #[default]
    SelfSigned,
    /// Not implemented, here or elsewhere.
    Provided,
    /// Not implemented, here or elsewhere.
    CertManager,
}

/// Details of signing with the addon's own CA.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SelfSigned {
    /// Host names and IP addresses that the servers' certificates hold besides their own.
    #[serde(rename = "additionalSANs", skip_serializing_if = "Vec::is_empty")]
    pub additional_sans: Vec<String>,
}

/// Where the signed certificates are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Dump {
    /// Names of the Secrets, in the proxy-server's namespace.
    pub secrets: Secrets,
}

/// Names of the Secrets that hold the signed certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Secrets {
    /// Secret with the certificate that the tunnel's clients see.
    pub signing_proxy_server_secret_name: String,
    /// Secret with the certificate of the tunnel's clients.
    pub signing_proxy_client_secret_name: String,
    /// Secret with the certificate that agents see.
    pub signing_agent_server_secret_name: String,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            signing_proxy_server_secret_name: "proxy-server".to_owned(),
            signing_proxy_client_secret_name: "proxy-client".to_owned(),
            signing_agent_server_secret_name: "agent-server".to_owned(),
        }
    }
}

/// The hub's end of the tunnel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["image"]))]
pub struct ProxyServer {
    /// Image of the proxy-server.
    pub image: String,
    /// How many proxy-servers run. Every agent connects to each.
    pub replicas: i32,
    /// Service for those who reach the tunnel from within the hub.
    pub in_cluster_service_name: String,
    /// Where the proxy-server and all that belongs to it is deployed.
    pub namespace: String,
    /// How agents reach the proxy-server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Entrypoint>,
    /// More arguments of the proxy-server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_args: Vec<String>,
    /// On which nodes it may run.
    pub node_placement: NodePlacement,
}

impl Default for ProxyServer {
    fn default() -> Self {
        Self {
            image: String::new(),
            replicas: 3,
            in_cluster_service_name: "proxy-entrypoint".to_owned(),
            namespace: "open-cluster-management-cluster-proxy".to_owned(),
            entrypoint: None,
            additional_args: Vec::new(),
            node_placement: NodePlacement::default(),
        }
    }
}

/// How agents reach the proxy-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["type"]))]
pub struct Entrypoint {
    /// Hostname: a host of your own that leads to the proxy-server. LoadBalancerService: a Service
    /// of that type, made here. PortForward: through the hub's kube-apiserver, with no port of the
    /// hub open to managed clusters.
    #[serde(rename = "type")]
    pub kind: EntrypointType,
    /// For the type Hostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<EntrypointHostname>,
    /// For the type LoadBalancerService.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_service: Option<LoadBalancerService>,
    /// Port under which agents reach the proxy-server.
    #[schemars(range(min = 1))]
    pub port: i32,
}

impl Default for Entrypoint {
    fn default() -> Self {
        Self {
            kind: EntrypointType::PortForward,
            hostname: None,
            load_balancer_service: None,
            port: 8091,
        }
    }
}

/// What leads agents to the proxy-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EntrypointType {
    /// A host of your own.
    Hostname,
    /// A Service of that type.
    LoadBalancerService,
    /// The hub's kube-apiserver.
    PortForward,
}

/// A host of your own that leads to the proxy-server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["value"]))]
pub struct EntrypointHostname {
    /// Host name or IP address that managed clusters can reach.
    pub value: String,
}

/// A load balancer in front of the proxy-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerService {
    /// Name of the Service.
    pub name: String,
    /// Its annotations, for what a cloud provider understands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

impl Default for LoadBalancerService {
    fn default() -> Self {
        Self {
            name: "proxy-agent-entrypoint".to_owned(),
            annotations: Vec::new(),
        }
    }
}

/// One annotation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["key"]))]
pub struct Annotation {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// On which nodes pods may run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePlacement {
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::tolerations")]
    pub tolerations: Vec<Toleration>,
}

/// The managed clusters' end of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["image"]))]
pub struct ProxyAgent {
    /// Image of the proxy-agent.
    pub image: String,
    /// How many agents run in each managed cluster.
    pub replicas: i32,
    /// More arguments of the proxy-agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_args: Vec<String>,
    /// More arguments of the service-proxy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_service_proxy_args: Vec<String>,
    /// Secrets with which the images are pulled; they must exist in the agents' namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// A ConfigMap of the managed cluster, in the agents' namespace, that holds more CA
    /// certificates for Services under the key service-ca.crt.
    #[serde(
        rename = "additionalServiceCAConfigMap",
        skip_serializing_if = "String::is_empty"
    )]
    pub additional_service_ca_config_map: String,
    /// What release 0.9 took in place of the fields above. enableImpersonation and
    /// addtionalServiceCAConfigMap still count where nothing newer is set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_values: BTreeMap<String, String>,
}

impl Default for ProxyAgent {
    fn default() -> Self {
        Self {
            image: String::new(),
            replicas: 3,
            additional_args: Vec::new(),
            additional_service_proxy_args: Vec::new(),
            image_pull_secrets: Vec::new(),
            additional_service_ca_config_map: String::new(),
            additional_values: BTreeMap::new(),
        }
    }
}

/// Details of the deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Deploy {
    /// Ports of the proxy-server's containers. Its Services keep 8090 and 8091.
    pub ports: Ports,
}

/// Ports of the proxy-server's containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Ports {
    /// For the tunnel's clients.
    pub proxy_server: i32,
    /// For agents.
    pub agent_server: i32,
    /// For health checks and metrics.
    pub health_server: i32,
    /// Taken for compatibility. Nothing listens there.
    pub admin_server: i32,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            proxy_server: 8090,
            agent_server: 8091,
            health_server: 8092,
            admin_server: 8095,
        }
    }
}

/// The user-server's serving certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UserServer {
    /// Host names and IP addresses that the certificate holds besides those of the Service
    /// cluster-proxy-addon-user.
    #[serde(rename = "additionalSANs", skip_serializing_if = "Vec::is_empty")]
    pub additional_sans: Vec<String>,
}

/// What became of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedProxyConfigurationStatus {
    /// The generation that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_observed_generation: Option<i64>,
    /// What holds and what does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::conditions")]
    pub conditions: Vec<Condition>,
}
