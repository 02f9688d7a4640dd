//! The hashes of the configurations that the ClusterManagementAddOn names, for all clusters or for
//! those of a placement: OCM's addon manager hands them on to the addons, and by them knows when a
//! configuration is carried out.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_kube_api::addon::ClusterManagementAddOn;
use cluster_proxy_kube_api::names::ADDON_NAME;
use futures_util::{StreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{WatchStreamExt, predicates, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Map, Value, json};

use crate::addon;
use crate::context::Context;
use crate::controller;
use crate::deploy::{read, spec_hash, understood};
use crate::deployment_config::{configuration_resource, deployment_config_resource};
use crate::failure::RequestFailure;

/// Keeps the hashes until the context's drain.
pub async fn run(context: Arc<Context>) {
    let client = &context.watch_client;
    let changes = [configuration_resource(), deployment_config_resource()].map(|resource| {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &resource);
        watcher(api, watcher::Config::default())
            .default_backoff()
            .touched_objects()
            .predicate_filter(predicates::generation, Default::default())
            .map(addon::changed(&context, NAME))
            .boxed()
    });
    let controller = Controller::new_with(
        Api::all_with(client.clone(), &resource()),
        watcher::Config::default().fields(addon::SELECTOR),
        resource(),
    )
    .reconcile_all_on(stream::select_all(changes));
    controller::run(context, NAME, controller, reconcile).await;
}

/// Brings the hashes up to date. Doing it twice changes nothing.
///
/// # Errors
/// When the hub refuses, in its words; a conflict with somebody else's write is none.
pub async fn reconcile(
    management_addon: Arc<DynamicObject>,
    context: Arc<Context>,
) -> Result<Action, RequestFailure> {
    if management_addon.name_any() != ADDON_NAME || addon::is_leaving(&management_addon) {
        return Ok(Action::await_change());
    }
    let client = &context.client;
    let mut status = addon::status(&management_addon);
    hash(client, &mut status).await?;
    match addon::write_status(client, &resource(), &management_addon, &status).await {
        Err(failure) if failure.is_conflict() => Ok(Action::requeue(AFTER_CONFLICT)),
        written => written.map(|_| Action::await_change()),
    }
}

async fn hash(client: &Client, status: &mut Map<String, Value>) -> Result<(), RequestFailure> {
    if let Some(defaults) = status.get_mut("defaultconfigReferences") {
        hash_all(client, defaults).await?;
    }
    if let Some(Value::Array(progressions)) = status.get_mut("installProgressions") {
        for progression in progressions {
            if let Some(references) = progression.get_mut("configReferences") {
                hash_all(client, references).await?;
            }
        }
    }
    Ok(())
}

async fn hash_all(client: &Client, references: &mut Value) -> Result<(), RequestFailure> {
    for reference in references.as_array_mut().into_iter().flatten() {
        let Some((resource, desired)) = understood(reference) else {
            continue;
        };
        let config = read(client, &resource, &desired).await?;
        // One that does not exist has no hash, and so is never carried out.
        let hash = config.as_ref().map(spec_hash).unwrap_or_default();
        reference["desiredConfig"]["specHash"] = json!(hash);
    }
    Ok(())
}

pub(crate) fn resource() -> ApiResource {
    ApiResource::erase::<ClusterManagementAddOn>(&())
}

/// In metrics and logs.
const NAME: &str = "management-addon";

/// The change that was in the way usually brings the object here by itself.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_testing::Fleet;
    use crate::testing::soon;

    #[tokio::test]
    async fn hashes_follow_the_configurations() {
        let fleet = Fleet::start().await;
        fleet.join("managed").await;
        let reference = json!([
            {
                "group": "proxy.open-cluster-management.io",
                "resource": "managedproxyconfigurations",
                "desiredConfig": {"name": "cluster-proxy", "specHash": ""},
            },
            {
                "group": "example.com", "resource": "others",
                "desiredConfig": {"name": "theirs", "specHash": "theirs"},
            },
        ]);
        let status = json!({
            "defaultconfigReferences": reference,
            "installProgressions": [{"name": "p", "namespace": "n", "configReferences": reference}],
        });
        fleet.set_status(&resource(), "", ADDON_NAME, status).await;
        let hashes = || {
            let found = fleet.find(&resource(), "", ADDON_NAME)?;
            let status = &found["status"];
            let of = |references: &Value, index: usize| {
                references[index]["desiredConfig"]["specHash"].clone()
            };
            let defaults = &status["defaultconfigReferences"];
            let placed = &status["installProgressions"][0]["configReferences"];
            assert_eq!(
                (of(defaults, 1), of(placed, 1)),
                (json!("theirs"), json!("theirs"))
            );
            (of(defaults, 0) == of(placed, 0)).then(|| of(defaults, 0))
        };
        let running = tokio::spawn(run(Arc::clone(&fleet.context)));
        let wanted = || {
            let configuration = serde_json::from_value(fleet.configuration()).unwrap();
            Some(json!(spec_hash(&configuration)))
        };
        soon("the hashes", || (hashes() == wanted()).then_some(())).await;
        fleet.configure(json!({"type": "PortForward"}));
        soon("the new hashes", || (hashes() == wanted()).then_some(())).await;
        running.abort();
    }
}
