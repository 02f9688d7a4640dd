//! What we read and write of `addon.open-cluster-management.io/v1alpha1`: it is the stored version,
//! served by the Open Cluster Management of today and of two years ago alike.
//!
//! Fields that are not here stay out of what is written, and so belong to whoever wrote them.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};

/// Condition of a ManagedClusterAddOn: its configuration is known.
pub const CONFIGURED: &str = "Configured";
/// Condition of a ManagedClusterAddOn: its accounts on the hub are set up.
pub const REGISTRATION_APPLIED: &str = "RegistrationApplied";
/// Condition of a ManagedClusterAddOn: its manifests are on the managed cluster.
pub const MANIFEST_APPLIED: &str = "ManifestApplied";
/// Condition of a ManagedClusterAddOn: a configuration change is being carried out.
pub const PROGRESSING: &str = "Progressing";
/// Condition of a ManagedClusterAddOn: its agent is alive.
pub const AVAILABLE: &str = "Available";
/// Condition of a ManagedClusterAddOn, ours: a request really went through the tunnel.
pub const TUNNEL_REACHABLE: &str = "TunnelReachable";

/// Health of an addon by a Lease that its agent renews.
pub const HEALTH_CHECK_LEASE: &str = "Lease";

/// The annotation of a ClusterManagementAddOn that says who installs the addon, and its value for
/// Open Cluster Management's own addon manager.
pub const LIFECYCLE_ANNOTATION: (&str, &str) = (
    "addon.open-cluster-management.io/lifecycle",
    "addon-manager",
);

/// Install strategy of an addon that is installed where placements say.
pub const INSTALL_BY_PLACEMENTS: &str = "Placements";

/// The addon in one managed cluster.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "addon.open-cluster-management.io",
    version = "v1alpha1",
    kind = "ManagedClusterAddOn",
    plural = "managedclusteraddons",
    namespaced,
    status = "ManagedClusterAddOnStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    doc = "An addon in the managed cluster whose namespace it is in.",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedClusterAddOnSpec {
    /// Where the agent was to be installed, before `status.namespace` said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_namespace: Option<String>,
    /// Configurations of this cluster's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<AddOnConfig>,
}

/// What became of the addon in one managed cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedClusterAddOnStatus {
    /// What holds and what does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Kinds of configuration that the addon understands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_configs: Vec<ConfigGroupResource>,
    /// Configurations in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_references: Vec<ConfigReference>,
    /// Where the agent is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// As whom the agent asks for certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registrations: Vec<RegistrationConfig>,
    /// How the agent's health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How the agent gets at the hub: `csr`, or `token` with a subject that OCM writes itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_client_driver: Option<String>,
}

/// A configuration by kind and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddOnConfig {
    /// API group of the configuration's kind.
    pub group: String,
    /// Plural name of its kind.
    pub resource: String,
    /// Its namespace, unless it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// A kind of configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigGroupResource {
    /// API group.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

/// A configuration in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigReference {
    /// API group of the configuration's kind.
    pub group: String,
    /// Plural name of its kind.
    pub resource: String,
    /// Its namespace, in the form that precedes `desiredConfig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name, in the form that precedes `desiredConfig`. Required by the schema.
    pub name: String,
    /// The generation that was last seen.
    pub last_observed_generation: i64,
    /// The configuration that should be in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_config: Option<ConfigSpecHash>,
    /// The configuration that was last carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_applied_config: Option<ConfigSpecHash>,
}

/// A configuration and the hash of its spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigSpecHash {
    /// Its namespace, unless it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Hash of its spec.
    pub spec_hash: String,
}

/// As whom the agent asks for a certificate of one signer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistrationConfig {
    /// The signer.
    pub signer_name: String,
    /// The certificate's subject.
    pub subject: Subject,
}

/// The subject of a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// Common name.
    pub user: String,
    /// Organizations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Organizational units.
    #[serde(rename = "organizationUnit", skip_serializing_if = "Vec::is_empty")]
    pub organization_units: Vec<String>,
}

/// How an agent's health is found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// [`HEALTH_CHECK_LEASE`] or `Customized`.
    pub mode: String,
}

/// The addon on the hub.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "addon.open-cluster-management.io",
    version = "v1alpha1",
    kind = "ClusterManagementAddOn",
    plural = "clustermanagementaddons",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    doc = "An addon: what configures it and where it is installed.",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterManagementAddOnSpec {
    /// What people read about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_on_meta: Option<AddOnMeta>,
    /// Kinds of configuration that it understands, and the default of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_configs: Vec<ConfigMeta>,
    /// Where it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_strategy: Option<InstallStrategy>,
}

/// What people read about an addon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddOnMeta {
    /// Its name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A kind of configuration and its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMeta {
    /// API group.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// The configuration of clusters that have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_config: Option<ConfigReferent>,
}

/// The name of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigReferent {
    /// Its namespace, unless it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Where an addon is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstallStrategy {
    /// `Manual` or [`INSTALL_BY_PLACEMENTS`].
    #[serde(rename = "type")]
    pub kind: String,
    /// In the clusters that these select.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placements: Vec<PlacementStrategy>,
}

/// Clusters that a Placement selects, and their configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementStrategy {
    /// Namespace of the Placement.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Configurations in place of the defaults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<AddOnConfig>,
}

/// How an addon's agent is deployed.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "addon.open-cluster-management.io",
    version = "v1alpha1",
    kind = "AddOnDeploymentConfig",
    plural = "addondeploymentconfigs",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    doc = "How an addon's agent is deployed in some clusters.",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct AddOnDeploymentConfigSpec {
    /// Variables that the addon gives a meaning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub customized_variables: Vec<CustomizedVariable>,
    /// On which nodes the agent runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_placement: Option<NodePlacement>,
    /// Where images come from instead; the last that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<ImageMirror>,
    /// The HTTP proxy between the managed cluster and the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_config: Option<ProxyConfig>,
    /// Where the agent is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_install_namespace: Option<String>,
    /// What the agent's containers request and are limited to; the last that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_requirements: Vec<ContainerResourceRequirements>,
}

/// A variable and its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomizedVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// On which nodes an agent runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePlacement {
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// Where the images of one place come from instead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageMirror {
    /// Where they come from.
    pub mirror: String,
    /// How the names begin that this is for; empty is all.
    pub source: String,
}

/// The HTTP proxy between the managed cluster and the hub.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// For `http://`.
    #[serde(rename = "httpProxy", skip_serializing_if = "String::is_empty")]
    pub http_proxy: String,
    /// For `https://`.
    #[serde(rename = "httpsProxy", skip_serializing_if = "String::is_empty")]
    pub https_proxy: String,
    /// CA certificates (PEM) of the proxy.
    #[serde(rename = "caBundle", skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ByteString>,
    /// Hosts that are reached without it, separated by commas.
    #[serde(rename = "noProxy", skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
}

/// What some containers request and are limited to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerResourceRequirements {
    /// `resource:name:container`, each of which may be `*`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Requests and limits.
    pub resources: ResourceRequirements,
}

#[cfg(test)]
mod tests {
    use kube_core::Resource as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_ours_stays_out_of_what_is_written() {
        let addon: ManagedClusterAddOn = serde_json::from_value(json!({
            "apiVersion": "addon.open-cluster-management.io/v1alpha1",
            "kind": "ManagedClusterAddOn",
            "metadata": {"name": "cluster-proxy", "namespace": "managed"},
            "spec": {"unknown": 1},
            "status": {
                "addOnMeta": {"displayName": "somebody else's"},
                "registrations": [{
                    "signerName": "s",
                    "subject": {"user": "u", "groups": ["g"], "organizationUnit": ["o"]},
                }],
            },
        }))
        .unwrap();
        let written = serde_json::to_value(&addon).unwrap();
        assert_eq!(
            written["apiVersion"],
            "addon.open-cluster-management.io/v1alpha1"
        );
        assert_eq!(written["kind"], "ManagedClusterAddOn");
        assert_eq!(written["spec"], json!({}));
        assert_eq!(
            written["status"],
            json!({"registrations": [{
                "signerName": "s",
                "subject": {"user": "u", "groups": ["g"], "organizationUnit": ["o"]},
            }]})
        );
    }

    #[test]
    fn an_object_with_little_in_it_is_read() {
        let empty = r#"{"metadata": {"name": "a"}, "spec": {}}"#;
        serde_json::from_str::<ManagedClusterAddOn>(empty).unwrap();
        serde_json::from_str::<ClusterManagementAddOn>(empty).unwrap();
        let config: AddOnDeploymentConfig = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {
                "proxyConfig": {"httpsProxy": "https://proxy:3128", "caBundle": "YQ=="},
                "resourceRequirements": [{"containerID": "*:*:*"}],
                "registries": [{"mirror": "m"}],
            },
        }))
        .unwrap();
        let proxy = config.spec.proxy_config.unwrap();
        assert_eq!(proxy.ca_bundle, Some(ByteString(b"a".to_vec())));
        assert_eq!(proxy.https_proxy, "https://proxy:3128");
        assert_eq!(config.spec.resource_requirements[0].container_id, "*:*:*");
    }

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(
            ManagedClusterAddOn::url_path(&(), Some("managed")),
            "/apis/addon.open-cluster-management.io/v1alpha1/namespaces/managed/\
             managedclusteraddons"
        );
        assert_eq!(
            ClusterManagementAddOn::url_path(&(), None),
            "/apis/addon.open-cluster-management.io/v1alpha1/clustermanagementaddons"
        );
    }
}
