//! What OCM's addon manager wants to know of the configurations in use: which generation was seen,
//! and the hash of those that are this cluster's own.

use cluster_proxy_kube_api::addon::{AddOnConfig, ConfigSpecHash};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use serde_json::{Map, Value, json};

use super::spec_hash;
use crate::deployment_config::{configuration_resource, deployment_config_resource};
use crate::failure::RequestFailure;

/// Brings `status.configReferences` up to date. Configurations of kinds that are not ours, and
/// those that do not exist, stay as they are. The hashes of configurations that are all clusters'
/// come from the ClusterManagementAddOn ([`crate::management_addon`]).
pub(super) async fn observe(
    client: &Client,
    addon: &DynamicObject,
    status: &mut Map<String, Value>,
) -> Result<(), RequestFailure> {
    let own = addon.data.pointer("/spec/configs").cloned();
    let own: Vec<AddOnConfig> = own
        .and_then(|it| serde_json::from_value(it).ok())
        .unwrap_or_default();
    let Some(Value::Array(references)) = status.get_mut("configReferences") else {
        return Ok(());
    };
    for reference in references {
        let Some((resource, desired)) = understood(reference) else {
            continue;
        };
        let Some(config) = read(client, &resource, &desired).await? else {
            continue;
        };
        let generation = config.metadata.generation.unwrap_or_default();
        reference["lastObservedGeneration"] = json!(generation);
        let is_own = own.iter().any(|it| {
            it.group == resource.group
                && it.resource == resource.plural
                && it.namespace.as_deref().unwrap_or_default()
                    == desired.namespace.as_deref().unwrap_or_default()
                && it.name == desired.name
        });
        if is_own {
            reference["desiredConfig"]["specHash"] = json!(spec_hash(&config));
        }
    }
    Ok(())
}

/// The kind, if it is one of ours, and the configuration that should be in use.
pub(crate) fn understood(reference: &Value) -> Option<(ApiResource, ConfigSpecHash)> {
    let resource = [configuration_resource(), deployment_config_resource()]
        .into_iter()
        .find(|it| {
            reference["resource"] == it.plural.as_str() && reference["group"] == it.group.as_str()
        })?;
    let desired: ConfigSpecHash =
        serde_json::from_value(reference.get("desiredConfig")?.clone()).ok()?;
    (!desired.name.is_empty()).then_some((resource, desired))
}

/// The configuration, if it exists.
pub(crate) async fn read(
    client: &Client,
    resource: &ApiResource,
    config: &ConfigSpecHash,
) -> Result<Option<DynamicObject>, RequestFailure> {
    let api: Api<DynamicObject> = match config.namespace.as_deref() {
        None | Some("") => Api::all_with(client.clone(), resource),
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
    };
    api.get_opt(&config.name).await.map_err(RequestFailure::of(
        "read",
        format!("{} {}", resource.kind, config.name),
    ))
}
