use cluster_proxy_kube_api::work::ManifestWork;
use kube::api::ApiResource;
use serde_json::json;

use super::*;
use crate::fleet_testing::Fleet;
use crate::registration;
use crate::testing::NAMESPACE;

fn works_resource() -> ApiResource {
    ApiResource::erase::<ManifestWork>(&())
}

fn work(fleet: &Fleet, number: usize) -> Option<Value> {
    let name = format!("addon-cluster-proxy-deploy-{number}");
    fleet.find(&works_resource(), "managed", &name)
}

async fn reconciled(fleet: &Fleet) -> Action {
    reconcile(fleet.addon("managed"), Arc::clone(&fleet.context))
        .await
        .unwrap()
}

async fn joined() -> Fleet {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    registration::reconcile(fleet.addon("managed"), Arc::clone(&fleet.context))
        .await
        .unwrap();
    fleet
}

#[tokio::test]
async fn an_agent_is_deployed_once_it_is_registered_and_configured() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    reconciled(&fleet).await;
    assert_eq!(work(&fleet, 0), None);

    registration::reconcile(fleet.addon("managed"), Arc::clone(&fleet.context))
        .await
        .unwrap();
    fleet.hub.apply(json!({
        "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
        "metadata": {
            "name": "addon-cluster-proxy-deploy-7", "namespace": "managed",
            "labels": {"open-cluster-management.io/addon-name": "cluster-proxy"},
        },
        "spec": {"workload": {"manifests": []}},
    }));
    reconciled(&fleet).await;
    let applied = work(&fleet, 0).unwrap();
    let manifests = applied["spec"]["workload"]["manifests"].as_array().unwrap();
    let kinds: Vec<_> = manifests.iter().map(|it| it["kind"].clone()).collect();
    assert_eq!(kinds[0], "Namespace");
    assert!(kinds.contains(&json!("Deployment")), "{kinds:?}");
    let owner = &applied["metadata"]["ownerReferences"][0];
    assert_eq!(owner["kind"], "ManagedClusterAddOn");
    assert_eq!(work(&fleet, 7), None, "a surplus work stays");
    assert_eq!(fleet.condition("managed", MANIFEST_APPLIED), None);

    let status = |state: &str, message: &str| {
        json!({"conditions": [{
            "type": "Applied", "status": state, "reason": "R", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]})
    };
    let name = "addon-cluster-proxy-deploy-0";
    for (state, message) in [("False", "quota exceeded"), ("True", "fine")] {
        let status = status(state, message);
        fleet
            .set_status(&works_resource(), "managed", name, status)
            .await;
        reconciled(&fleet).await;
        let condition = fleet.condition("managed", MANIFEST_APPLIED).unwrap();
        assert_eq!(condition["status"], state);
        let told = condition["message"].as_str().unwrap();
        assert!(state == "True" || told.contains(message), "{told}");
    }
    let before = fleet.addon("managed");
    reconciled(&fleet).await;
    let after = fleet.addon("managed");
    assert_eq!(after.resource_version(), before.resource_version());
    let unchanged = work(&fleet, 0).unwrap();
    assert_eq!(
        unchanged["metadata"]["generation"],
        applied["metadata"]["generation"]
    );
}

#[tokio::test]
async fn what_cannot_be_parsed_is_told_and_changes_nothing() {
    let fleet = joined().await;
    reconciled(&fleet).await;
    let before = work(&fleet, 0).unwrap();
    fleet.hub.apply(json!({
        "apiVersion": "addon.open-cluster-management.io/v1alpha1",
        "kind": "AddOnDeploymentConfig",
        "metadata": {"name": "broken", "namespace": NAMESPACE},
        "spec": {"registries": 7},
    }));
    let references = json!({"configReferences": [{
        "group": "addon.open-cluster-management.io", "resource": "addondeploymentconfigs",
        "name": "broken", "namespace": NAMESPACE, "lastObservedGeneration": 0,
        "desiredConfig": {"name": "broken", "namespace": NAMESPACE, "specHash": ""},
    }]});
    fleet.set_addon_status("managed", references).await;
    reconciled(&fleet).await;
    let condition = fleet.condition("managed", MANIFEST_APPLIED).unwrap();
    assert_eq!(condition["status"], "False");
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("{NAMESPACE}/broken cannot be parsed")),
        "{message}"
    );
    let after = work(&fleet, 0).unwrap();
    assert_eq!(after["spec"], before["spec"]);
    let status = addon::status(&fleet.addon("managed"));
    assert_ne!(status["configReferences"][0]["lastObservedGeneration"], 0);
}

#[tokio::test]
async fn the_hash_of_a_clusters_own_configuration_is_written() {
    let fleet = joined().await;
    let version = "addon.open-cluster-management.io/v1alpha1";
    let config = fleet.hub.apply(json!({
        "apiVersion": version, "kind": "AddOnDeploymentConfig",
        "metadata": {"name": "own", "namespace": NAMESPACE},
        "spec": {"customizedVariables": [{"name": "replicas", "value": "2"}]},
    }));
    let mut addon = serde_json::to_value(fleet.addon("managed").as_ref()).unwrap();
    addon["metadata"]["managedFields"] = Value::Null;
    addon["spec"] = json!({"configs": [{
        "group": "addon.open-cluster-management.io", "resource": "addondeploymentconfigs",
        "name": "own", "namespace": NAMESPACE,
    }]});
    let reference = json!([{
        "group": "addon.open-cluster-management.io", "resource": "addondeploymentconfigs",
        "name": "own", "namespace": NAMESPACE, "lastObservedGeneration": 0,
        "desiredConfig": {"name": "own", "namespace": NAMESPACE, "specHash": ""},
    }]);
    let addon: DynamicObject = serde_json::from_value(addon).unwrap();
    let mut status = addon::status(&addon);
    status.insert("configReferences".to_owned(), reference);
    config_references::observe(&fleet.context.client, &addon, &mut status)
        .await
        .unwrap();
    let config: DynamicObject = serde_json::from_value(config).unwrap();
    let hash = &status["configReferences"][0]["desiredConfig"]["specHash"];
    assert_eq!(*hash, json!(spec_hash(&config)));
}

#[tokio::test]
async fn an_agent_waits_for_the_load_balancer() {
    let fleet = joined().await;
    fleet.configure(json!({"type": "LoadBalancerService"}));
    assert_eq!(reconciled(&fleet).await, Action::requeue(NOT_READY_RETRY));
    let condition = fleet.condition("managed", MANIFEST_APPLIED).unwrap();
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.contains("no load balancer address yet"),
        "{message}"
    );
    assert_eq!(work(&fleet, 0), None);
}

#[tokio::test]
async fn nothing_stays_of_an_addon_that_goes() {
    let fleet = joined().await;
    let running = tokio::spawn(run(Arc::clone(&fleet.context)));
    crate::testing::soon("the work", || work(&fleet, 0)).await;
    let version = "addon.open-cluster-management.io/v1alpha1";
    let kube = &fleet.hub.kube;
    kube.delete(version, "ManagedClusterAddOn", "managed", "cluster-proxy")
        .unwrap();
    let gone = || {
        let role = kube.get(
            "rbac.authorization.k8s.io/v1",
            "Role",
            "managed",
            "cluster-proxy-addon-agent",
        );
        (work(&fleet, 0).is_none() && role.is_none()).then_some(())
    };
    crate::testing::soon("nothing", gone).await;
    running.abort();
}
