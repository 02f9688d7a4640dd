//! What we read of `cluster.open-cluster-management.io/v1` ManagedClusters.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};

/// Label of the hub as its own managed cluster, in any letter case `true`.
const LOCAL_CLUSTER_LABEL: &str = "local-cluster";

/// A cluster that joined, or asks to join, the hub.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cluster.open-cluster-management.io",
    version = "v1",
    kind = "ManagedCluster",
    plural = "managedclusters",
    status = "ManagedClusterStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    doc = "A cluster that joined, or asks to join, the hub.",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedClusterSpec {
    /// Whether the hub's administrator let it in.
    pub hub_accepts_client: bool,
    /// How its kube-apiserver is reached by those who can.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub managed_cluster_client_configs: Vec<ClientConfig>,
}

impl ManagedCluster {
    /// Whether this is the hub itself.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(LOCAL_CLUSTER_LABEL))
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }
}

/// How a kube-apiserver is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConfig {
    /// Its URL.
    pub url: String,
    /// CA certificates (PEM) for its certificate.
    #[serde(rename = "caBundle", skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ByteString>,
}

/// What is known about a managed cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedClusterStatus {
    /// What holds and what does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hub_itself_is_known_by_its_label() {
        let cluster = |label: &str| -> ManagedCluster {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "labels": {"local-cluster": label}},
                "spec": {"taints": [{"key": "k"}]},
            }))
            .unwrap()
        };
        assert!(cluster("true").is_local());
        assert!(cluster("True").is_local());
        assert!(!cluster("false").is_local());
        assert!(!ManagedCluster::default().is_local());
        assert!(!cluster("true").spec.hub_accepts_client);
    }
}
