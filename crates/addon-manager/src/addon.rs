//! OCM's objects about one managed cluster, as far as the controllers share them.
//!
//! They are read and written as plain JSON: OCM's own controllers, of other versions than we
//! know, write into the same status, and what we do not know must stay.

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::ManagedClusterAddOn;
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::names::ADDON_NAME;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Map, Value, json};

use crate::config::FIELD_MANAGER;
use crate::context::Context;
use crate::failure::RequestFailure;

/// ManagedClusterAddOns, in the version that every OCM serves.
#[must_use]
pub fn addon_resource() -> ApiResource {
    ApiResource::erase::<ManagedClusterAddOn>(&())
}

/// ManagedClusters.
#[must_use]
pub fn cluster_resource() -> ApiResource {
    ApiResource::erase::<ManagedCluster>(&())
}

/// The ManagedClusterAddOns of all clusters, of this and of other addons.
#[must_use]
pub fn addons(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &addon_resource())
}

/// All ManagedClusters.
#[must_use]
pub fn clusters(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &cluster_resource())
}

/// Reads a ManagedCluster, if it is there.
///
/// # Errors
/// When the hub refuses, in its words.
pub async fn read_cluster(
    client: &Client,
    cluster: &ClusterName,
) -> Result<Option<DynamicObject>, RequestFailure> {
    let read = clusters(client).get_opt(cluster.as_str()).await;
    read.map_err(RequestFailure::of(
        "read",
        format!("ManagedCluster {cluster}"),
    ))
}

/// Reads the addon of a cluster, if it has it.
///
/// # Errors
/// When the hub refuses, in its words.
pub async fn read_addon(
    client: &Client,
    cluster: &ClusterName,
) -> Result<Option<DynamicObject>, RequestFailure> {
    let read = in_cluster(client, cluster.as_str())
        .get_opt(ADDON_NAME)
        .await;
    read.map_err(RequestFailure::of("read", describe(cluster.as_str())))
}

/// Whether the hub has accepted the ManagedCluster and is not about to forget it.
#[must_use]
pub fn is_accepted(cluster: &DynamicObject) -> bool {
    let accepts = cluster.data.pointer("/spec/hubAcceptsClient");
    accepts.and_then(Value::as_bool).unwrap_or_default() && !is_leaving(cluster)
}

/// Whether the object is being deleted.
#[must_use]
pub fn is_leaving(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_some()
}

/// The cluster whose addon this is; `None` for another addon's object.
#[must_use]
pub fn cluster_of(addon: &DynamicObject) -> Option<ClusterName> {
    if addon.name_any() != ADDON_NAME {
        return None;
    }
    addon.namespace()?.parse().ok()
}

/// Whether OCM's addon manager has claimed the addon: from then on it may be configured.
#[must_use]
pub fn is_claimed(addon: &DynamicObject) -> bool {
    addon
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "ClusterManagementAddOn" && owner.name == ADDON_NAME)
}

/// The status, empty if there is none yet.
#[must_use]
pub fn status(addon: &DynamicObject) -> Map<String, Value> {
    match addon.data.get("status") {
        Some(Value::Object(status)) => status.clone(),
        _ => Map::new(),
    }
}

/// Whether the condition is there and `True`.
#[must_use]
pub fn condition_is_true(status: &Map<String, Value>, kind: &str) -> bool {
    find_condition(status, kind).is_some_and(|it| it.get("status") == Some(&json!("True")))
}

/// The condition, if it is there.
#[must_use]
pub fn find_condition<'a>(status: &'a Map<String, Value>, kind: &str) -> Option<&'a Value> {
    let conditions = status.get("conditions")?.as_array()?;
    conditions.iter().find(|it| it["type"] == kind)
}

/// A condition to be set. Its time changes only when its state does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub kind: &'static str,
    /// Whether it holds.
    pub state: State,
    /// One word for machines.
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
}

/// The state of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell.
    Unknown,
}

impl State {
    /// As it stands in a status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// As it stands in a status; what nobody knows is unknown.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

impl From<bool> for State {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Sets the condition and leaves the others.
pub fn set_condition(status: &mut Map<String, Value>, wanted: &Condition, now: Timestamp) {
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let state = wanted.state.as_str();
    let mut condition = json!({
        "type": wanted.kind,
        "status": state,
        "reason": wanted.reason,
        "message": shortened(&wanted.message),
        "lastTransitionTime": seconds(now),
    });
    match conditions.iter_mut().find(|it| it["type"] == wanted.kind) {
        Some(current) => {
            if current["status"] == state {
                condition["lastTransitionTime"] = current["lastTransitionTime"].take();
            }
            *current = condition;
        }
        None => conditions.push(condition),
    }
}

/// Removes the condition, if it is there.
pub fn remove_condition(status: &mut Map<String, Value>, kind: &str) {
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        conditions.retain(|it| it["type"] != kind);
    }
}

/// Writes the parts of an object's status as [`patch_status`] does, and tells whether there were
/// any.
///
/// # Errors
/// When the hub refuses, in its words.
pub async fn write_status(
    client: &Client,
    resource: &ApiResource,
    object: &DynamicObject,
    wanted: &Map<String, Value>,
) -> Result<bool, RequestFailure> {
    let written = patch_status(client, resource, object, wanted).await?;
    Ok(written.is_some())
}

/// Writes the parts of an object's status that differ from what `object` has: the object as the
/// hub keeps it then, `None` when there were none. Whoever changed the object since it was read makes this fail with a conflict:
/// lists such as the conditions are written whole, and nobody's entry may be lost.
///
/// # Errors
/// When the hub refuses, in its words.
pub async fn patch_status(
    client: &Client,
    resource: &ApiResource,
    object: &DynamicObject,
    wanted: &Map<String, Value>,
) -> Result<Option<DynamicObject>, RequestFailure> {
    let current = status(object);
    let changed: Map<_, _> = wanted
        .iter()
        .filter(|(key, value)| current.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    let patch = json!({
        "metadata": {"resourceVersion": object.resource_version()},
        "status": changed,
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let name = object.name_any();
    let written = api.patch_status(&name, &params, &Patch::Merge(patch)).await;
    let written = written.map_err(RequestFailure::of(
        "write the status of",
        format!("{} {name}", resource.kind),
    ))?;
    Ok(Some(written))
}

/// Follows, for the controller `name`, all objects that `api` gives and `config` selects: where
/// they are kept, and a stream that keeps them there as long as it is polled and gives an item for
/// each change.
pub fn followed(
    context: &Context,
    name: &'static str,
    api: Api<DynamicObject>,
    config: watcher::Config,
    resource: ApiResource,
) -> (Store<DynamicObject>, impl Stream<Item = ()> + Send + use<>) {
    let writer = reflector::store::Writer::new(resource);
    let store = writer.as_reader();
    let changes = watcher(api, config)
        .default_backoff()
        // Nobody here reads who owns which field, and it is half of an object.
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .map(changed(context, name));
    (store, changes)
}

/// An item for each change that a watch of the controller `name` sees; one that broke off is told
/// and counted, and is an item too, since something may have gone unseen.
pub fn changed<T>(
    context: &Context,
    name: &'static str,
) -> impl FnMut(Result<T, watcher::Error>) + Send + use<T> {
    let metrics = context.metrics.clone();
    move |change| {
        if let Err(error) = change {
            metrics.watch_failed(name);
            tracing::warn!(controller = name, %error, "watch broke off, trying again");
        }
    }
}

/// The ManagedClusterAddOns of one cluster.
#[must_use]
pub fn in_cluster(client: &Client, cluster: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), cluster, &addon_resource())
}

/// The addon of `cluster`, for a controller's queue.
#[must_use]
pub fn reference(cluster: &str) -> ObjectRef<DynamicObject> {
    ObjectRef::new_with(ADDON_NAME, addon_resource()).within(cluster)
}

/// The addon of `cluster` in words.
#[must_use]
pub fn describe(cluster: &str) -> String {
    format!("ManagedClusterAddOn {cluster}/{ADDON_NAME}")
}

/// `metav1.Time` has no fractions of a second.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn shortened(message: &str) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message.to_owned();
    }
    message.chars().take(MAX_MESSAGE).collect()
}

/// Selects the addon's objects among those of other addons, in a watch.
pub const SELECTOR: &str = "metadata.name=cluster-proxy";

/// What `metav1.Condition` takes.
const MAX_MESSAGE: usize = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(holds: bool) -> Condition {
        Condition {
            kind: "RegistrationApplied",
            state: holds.into(),
            reason: "Why",
            message: "so".to_owned(),
        }
    }

    #[test]
    fn the_time_of_a_condition_changes_with_its_state() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut status = Map::new();
        status.insert("conditions".to_owned(), json!([{"type": "Other"}]));
        set_condition(&mut status, &condition(true), at(1));
        let first = status.clone();
        set_condition(&mut status, &condition(true), at(2));
        assert_eq!(status, first);
        assert!(condition_is_true(&status, "RegistrationApplied"));
        set_condition(&mut status, &condition(false), at(3));
        let condition = find_condition(&status, "RegistrationApplied").unwrap();
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:03Z");
        assert!(!condition_is_true(&status, "RegistrationApplied"));
        assert!(find_condition(&status, "Other").is_some());
        remove_condition(&mut status, "RegistrationApplied");
        assert_eq!(status["conditions"], json!([{"type": "Other"}]));
    }
}
