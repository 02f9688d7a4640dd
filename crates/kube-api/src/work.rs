//! What we read and write of `work.open-cluster-management.io/v1` ManifestWorks.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Condition: every manifest was applied to the managed cluster.
pub const WORK_APPLIED: &str = "Applied";
/// Condition: every manifest's object exists there.
pub const WORK_AVAILABLE: &str = "Available";
/// Beginning of the annotations, one for each configuration, that hold the hash of the spec from
/// which a work was rendered.
pub const CONFIG_SPEC_HASH_ANNOTATION: &str = "open-cluster-management.io/config-spec-hash";

/// Objects for a managed cluster, which Open Cluster Management's agent there keeps applied.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "work.open-cluster-management.io",
    version = "v1",
    kind = "ManifestWork",
    plural = "manifestworks",
    namespaced,
    status = "ManifestWorkStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    doc = "Objects for the managed cluster whose namespace it is in.",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestWorkSpec {
    /// The objects.
    pub workload: Workload,
    /// What becomes of them when the work goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_option: Option<DeleteOption>,
    /// How some of them are applied and what is reported about them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifest_configs: Vec<ManifestConfig>,
}

/// The objects of a work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workload {
    /// Whole objects, in the order in which they are applied.
    pub manifests: Vec<Value>,
}

/// What becomes of objects when their work goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOption {
    /// `Foreground`, `Orphan` or `SelectivelyOrphan`.
    pub propagation_policy: String,
    /// With `SelectivelyOrphan`: which stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selectively_orphans: Option<SelectivelyOrphans>,
}

/// Objects that stay when their work goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelectivelyOrphans {
    /// Each of them.
    pub orphaning_rules: Vec<ResourceIdentifier>,
}

/// An object by kind and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceIdentifier {
    /// API group; empty is the core group.
    pub group: String,
    /// Plural name of its kind.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// Its namespace; empty when it has none.
    pub namespace: String,
}

/// How an object is applied and what is reported about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestConfig {
    /// The object.
    pub resource_identifier: ResourceIdentifier,
    /// How it is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
}

/// How an object is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateStrategy {
    /// `Update`, `CreateOnly`, `ServerSideApply` or `ReadOnly`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What became of the objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestWorkStatus {
    /// What holds of them all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What holds of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_status: Option<ResourceStatus>,
}

/// What became of each object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceStatus {
    /// In the order of the manifests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestCondition>,
}

/// What became of one object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestCondition {
    /// Which.
    pub resource_meta: ManifestResourceMeta,
    /// What holds of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An object as the managed cluster knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestResourceMeta {
    /// Its place among the manifests.
    pub ordinal: i32,
    /// API group; empty is the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; empty when it has none.
    pub namespace: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_a_status_as_the_work_agent_writes_it() {
        let work: ManifestWork = serde_json::from_value(json!({
            "metadata": {"name": "w"},
            "spec": {"workload": {"manifests": [{"kind": "ConfigMap"}]}, "executor": {}},
            "status": {
                "conditions": [{
                    "type": "Applied", "status": "True", "reason": "AppliedManifestWorkComplete",
                    "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "resourceStatus": {"manifests": [{
                    "resourceMeta": {"ordinal": 0, "kind": "ConfigMap", "name": "c", "version": "v1"},
                    "statusFeedback": {},
                    "conditions": [],
                }]},
            },
        }))
        .unwrap();
        let status = work.status.unwrap();
        assert_eq!(status.conditions[0].type_, WORK_APPLIED);
        assert_eq!(
            status.resource_status.unwrap().manifests[0]
                .resource_meta
                .name,
            "c"
        );
        assert_eq!(
            serde_json::to_value(&work.spec).unwrap(),
            json!({"workload": {"manifests": [{"kind": "ConfigMap"}]}})
        );
    }
}
