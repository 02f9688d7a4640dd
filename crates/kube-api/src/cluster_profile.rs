//! What we read and write of `multicluster.x-k8s.io/v1alpha1` ClusterProfiles.

use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Label that names who writes a profile, and Open Cluster Management's value.
pub const CLUSTER_MANAGER_LABEL: (&str, &str) =
    ("x-k8s.io/cluster-manager", "open-cluster-management");
/// Name of our access provider.
pub const ACCESS_PROVIDER_NAME: &str = "open-cluster-management";
/// Name of the extension whose content a client hands its exec plugin.
pub const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

/// A cluster as tools for several clusters know it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multicluster.x-k8s.io",
    version = "v1alpha1",
    kind = "ClusterProfile",
    plural = "clusterprofiles",
    namespaced,
    status = "ClusterProfileStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    doc = "A cluster as tools for several clusters know it.",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterProfileSpec {
    /// Who writes the profile.
    pub cluster_manager: ClusterManager,
}

/// Who writes a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterManager {
    /// Its name.
    pub name: String,
}

/// What is known about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterProfileStatus {
    /// Ways to its kube-apiserver, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_providers: Vec<AccessProvider>,
}

/// A way to a kube-apiserver.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessProvider {
    /// Its name.
    pub name: String,
    /// Where that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterAccess>,
    /// Whatever else there is: the list is written whole, other providers' entries included.
    #[serde(flatten)]
    pub other: serde_json::Map<String, Value>,
}

/// Where a kube-apiserver is, as in the `cluster` of a kubeconfig.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ClusterAccess {
    /// Its URL.
    pub server: String,
    /// CA certificates (PEM) for its certificate, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    /// What plug-ins are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Extension>,
    /// Whatever else there is.
    #[serde(flatten)]
    pub other: serde_json::Map<String, Value>,
}

/// What one plug-in is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Extension {
    /// Which.
    pub name: String,
    /// What.
    pub extension: Value,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_providers_survive_a_round_trip() {
        let status = json!({"accessProviders": [
            {"name": "other", "new": 1, "cluster": {
                "server": "https://a", "insecure-skip-tls-verify": true,
                "certificate-authority-data": "YQ==",
                "extensions": [{"name": "e", "extension": {"k": [1]}}],
            }},
            {"name": "bare"},
        ]});
        let read: ClusterProfileStatus = serde_json::from_value(status.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), status);
    }
}
