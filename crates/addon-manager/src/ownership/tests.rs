use cluster_proxy_kube_api::names::ADDON_NAME;
use kube::api::{Patch, PatchParams};
use serde_json::Value;

use super::*;
use crate::fleet_testing::Fleet;
use crate::testing::{NAMESPACE, soon};

async fn certified(fleet: &Fleet, cluster: &str, since: &str) {
    let patch = json!({"metadata": {"annotations": {CERTIFICATE_ANNOTATION: since}}});
    addon::in_cluster(&fleet.context.client, cluster)
        .patch(ADDON_NAME, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

fn table(fleet: &Fleet) -> Option<(String, Value)> {
    let name = AGENT_TABLE_CONFIG_MAP;
    let map = fleet.hub.kube.get("v1", "ConfigMap", NAMESPACE, name)?;
    let text = |key: &str| map["data"][key].as_str().unwrap().to_owned();
    let clusters = text(AGENT_TABLE_CLUSTERS_KEY);
    Some((
        text(AGENT_TABLE_IDENTITY_KEY),
        serde_json::from_str(&clusters).unwrap(),
    ))
}

async fn becomes(fleet: &Fleet, identity: &str, clusters: Value) {
    let wanted = Some((identity.to_owned(), clusters));
    soon("the table", || (table(fleet) == wanted).then_some(())).await;
}

#[tokio::test]
async fn the_table_follows_the_fleet() {
    let fleet = Fleet::start().await;
    let running = tokio::spawn(run(Arc::clone(&fleet.context)));
    becomes(&fleet, "cluster", json!([])).await;

    fleet.join("managed").await;
    let row = |name: &str, namespace: &str, certificate: bool| json!({"name": name, "agentNamespace": namespace, "certificate": certificate});
    becomes(&fleet, "prefer", json!([row("managed", "", false)])).await;
    let status = json!({"namespace": "agents"});
    fleet.set_addon_status("managed", status).await;
    becomes(&fleet, "prefer", json!([row("managed", "agents", false)])).await;
    let kind = AGENT_IDENTITY_ENFORCED;
    let condition = || {
        let configuration = serde_json::from_value(fleet.configuration()).unwrap();
        let condition = addon::find_condition(&addon::status(&configuration), kind)?.clone();
        Some((condition["status"].clone(), condition["message"].clone()))
    };
    let told = soon("the condition", || condition().filter(|it| it.0 == "False")).await;
    assert!(
        told.1.as_str().unwrap().ends_with(": managed"),
        "{}",
        told.1
    );

    certified(&fleet, "managed", "2026-01-01T00:00:00Z").await;
    becomes(&fleet, "cluster", json!([row("managed", "agents", true)])).await;
    soon("the condition", || condition().filter(|it| it.0 == "True")).await;

    fleet.join("another").await;
    certified(&fleet, "another", "2026-01-01T00:00:00Z").await;
    let both = json!([row("another", "", true), row("managed", "agents", true)]);
    becomes(&fleet, "cluster", both.clone()).await;
    let name = AGENT_TABLE_CONFIG_MAP;
    fleet
        .hub
        .kube
        .delete("v1", "ConfigMap", NAMESPACE, name)
        .unwrap();
    becomes(&fleet, "cluster", both).await;

    fleet.accept("managed", false);
    becomes(&fleet, "cluster", json!([row("another", "", true)])).await;
    let kube = &fleet.hub.kube;
    let version = "addon.open-cluster-management.io/v1alpha1";
    kube.delete(version, "ManagedClusterAddOn", "another", ADDON_NAME)
        .unwrap();
    becomes(&fleet, "cluster", json!([])).await;
    running.abort();
}

#[test]
fn a_certificate_counts_once_it_can_have_arrived() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let of = |since: Option<&str>| {
        let annotations = since.map(|since| json!({CERTIFICATE_ANNOTATION: since}));
        let addon = json!({
            "apiVersion": "v1", "kind": "K",
            "metadata": {"name": "n", "annotations": annotations},
        });
        Certificate::of(&serde_json::from_value(addon).unwrap(), now)
    };
    assert_eq!(of(None), Certificate::None);
    assert_eq!(of(Some("yesterday")), Certificate::None);
    let left = Duration::from_secs(90);
    assert_eq!(
        of(Some("2026-01-01T00:09:30Z")),
        Certificate::Underway(left)
    );
    assert_eq!(of(Some("2026-01-01T00:08:00Z")), Certificate::There);
    assert_eq!(of(Some("2027-01-01T00:00:00Z")), Certificate::There);
}
