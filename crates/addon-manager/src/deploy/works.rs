//! An agent's manifests as ManifestWorks, and what became of them.

use std::collections::BTreeMap;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::{ConfigReference, MANIFEST_APPLIED};
use cluster_proxy_kube_api::names::{ADDON_NAME, ADDON_NAME_LABEL, DELETION_ORPHAN, deploy_work};
use cluster_proxy_kube_api::work::{
    CONFIG_SPEC_HASH_ANNOTATION, DeleteOption, ManifestWork, ManifestWorkSpec, ResourceIdentifier,
    SelectivelyOrphans, WORK_APPLIED, Workload,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use kube::ResourceExt;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use serde_json::Value;

use crate::addon;

/// The works for `manifests`, split by number where they are too large for one, in their order;
/// they go with `owner`, the addon. `references` are the configurations from which the manifests
/// were rendered, noted in the form that OCM's addon manager compares with the addon's status.
///
/// # Errors
/// [`TooLarge`] for a manifest that no work can hold.
pub fn works(
    cluster: &ClusterName,
    manifests: Vec<Value>,
    references: &[ConfigReference],
    owner: &OwnerReference,
) -> Result<Vec<ManifestWork>, TooLarge> {
    let delete_option = delete_option(&manifests);
    let hashes = config_hashes(references);
    let annotations = (!hashes.is_empty()).then(|| {
        let hashes = serde_json::json!(hashes).to_string();
        BTreeMap::from([(CONFIG_SPEC_HASH_ANNOTATION.to_owned(), hashes)])
    });
    let label = (ADDON_NAME_LABEL.to_owned(), ADDON_NAME.to_owned());
    let parts = split(manifests)?.into_iter().enumerate();
    Ok(parts
        .map(|(number, manifests)| ManifestWork {
            metadata: ObjectMeta {
                name: Some(deploy_work(number)),
                namespace: Some(cluster.to_string()),
                labels: Some([label.clone()].into()),
                annotations: annotations.clone(),
                owner_references: Some(vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: ManifestWorkSpec {
                workload: Workload { manifests },
                delete_option: delete_option.clone(),
                ..ManifestWorkSpec::default()
            },
            status: None,
        })
        .collect())
}

/// A manifest that no ManifestWork can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{object} has {bytes} bytes, and a ManifestWork holds {MAX_BYTES}; its content comes from the \
     configuration"
)]
pub struct TooLarge {
    /// Plural kind and name.
    pub object: String,
    /// Its size as JSON.
    pub bytes: usize,
}

/// What became of the works: the condition `ManifestApplied`, or `None` while the managed cluster
/// has not said anything yet.
#[must_use]
pub(super) fn applied(works: &[ManifestWork]) -> Option<addon::Condition> {
    let states: Vec<_> = works.iter().map(State::of).collect();
    if let Some(problems) = states.iter().find_map(|state| match state {
        State::Failed(problems) => Some(problems),
        _ => None,
    }) {
        return Some(addon::Condition {
            kind: MANIFEST_APPLIED,
            state: addon::State::False,
            reason: "AddonManifestAppliedFailed",
            message: format!("the managed cluster did not take the agent: {problems}"),
        });
    }
    states
        .iter()
        .all(|state| *state == State::Applied)
        .then(|| addon::Condition {
            kind: MANIFEST_APPLIED,
            state: addon::State::True,
            reason: "AddonManifestApplied",
            message: "manifests of addon are applied successfully".to_owned(),
        })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not yet, or not yet as it is now.
    Unknown,
    Applied,
    /// Why, in one line.
    Failed(String),
}

impl State {
    fn of(work: &ManifestWork) -> Self {
        let Some(status) = &work.status else {
            return Self::Unknown;
        };
        let Some(applied) = find(&status.conditions) else {
            return Self::Unknown;
        };
        let is_current = applied
            .observed_generation
            .is_none_or(|it| Some(it) == work.metadata.generation);
        match (applied.status.as_str(), is_current) {
            ("True", true) => Self::Applied,
            ("False", true) => {
                let manifests = status.resource_status.iter().flat_map(|it| &it.manifests);
                let failed = manifests.filter_map(|manifest| {
                    let condition = find(&manifest.conditions)?;
                    let meta = &manifest.resource_meta;
                    (condition.status == "False")
                        .then(|| format!("{} {}: {}", meta.kind, meta.name, condition.message))
                });
                let failed: Vec<_> = failed.take(MAX_PROBLEMS).collect();
                Self::Failed(if failed.is_empty() {
                    format!("{}: {}", work.name_any(), applied.message)
                } else {
                    failed.join("; ")
                })
            }
            _ => Self::Unknown,
        }
    }
}

fn find(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|it| it.type_ == WORK_APPLIED)
}

fn config_hashes(references: &[ConfigReference]) -> BTreeMap<String, String> {
    let hashes = references.iter().filter_map(|reference| {
        let desired = reference.desired_config.as_ref()?;
        let kind = if reference.group.is_empty() {
            reference.resource.clone()
        } else {
            format!("{}.{}", reference.resource, reference.group)
        };
        let namespace = desired.namespace.as_deref().unwrap_or_default();
        let key = format!("{kind}/{namespace}/{}", desired.name);
        Some((key, desired.spec_hash.clone()))
    });
    hashes.collect()
}

/// What stays in the managed cluster when the addon goes.
fn delete_option(manifests: &[Value]) -> Option<DeleteOption> {
    let orphans = manifests.iter().filter(|manifest| {
        let annotations = &manifest["metadata"]["annotations"];
        annotations.get(DELETION_ORPHAN).is_some()
    });
    let rules: Vec<_> = orphans.map(identifier).collect();
    (!rules.is_empty()).then(|| DeleteOption {
        propagation_policy: "SelectivelyOrphan".to_owned(),
        selectively_orphans: Some(SelectivelyOrphans {
            orphaning_rules: rules,
        }),
    })
}

fn identifier(manifest: &Value) -> ResourceIdentifier {
    let text = |pointer| {
        let value = manifest.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let version = text("/apiVersion");
    let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
    let kind = GroupVersionKind::gvk(group, version, &text("/kind"));
    let resource = ApiResource::from_gvk(&kind);
    ResourceIdentifier {
        group: resource.group,
        resource: resource.plural,
        name: text("/metadata/name"),
        namespace: text("/metadata/namespace"),
    }
}

/// In their order, as many in each part as it holds.
fn split(manifests: Vec<Value>) -> Result<Vec<Vec<Value>>, TooLarge> {
    let mut parts: Vec<Vec<Value>> = Vec::new();
    let mut room = 0;
    for manifest in manifests {
        let bytes = manifest.to_string().len();
        if bytes > MAX_BYTES {
            let ResourceIdentifier { resource, name, .. } = identifier(&manifest);
            let object = format!("{resource}/{name}");
            return Err(TooLarge { object, bytes });
        }
        match parts.last_mut() {
            Some(part) if bytes <= room => part.push(manifest),
            _ => {
                room = PART_BYTES.max(bytes);
                parts.push(vec![manifest]);
            }
        }
        room -= bytes;
    }
    Ok(parts)
}

/// What OCM's webhook takes of one work.
const MAX_BYTES: usize = 500 * 1024;

/// Four fifths of that, as upstream fills works: the rest is for what is measured otherwise.
const PART_BYTES: usize = MAX_BYTES / 5 * 4;

/// Enough to act on; who needs all of them reads the work.
const MAX_PROBLEMS: usize = 5;

#[cfg(test)]
mod tests;
