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

/// Uses `spec` as the AddOnDeploymentConfig of `managed`.
async fn use_config(fleet: &Fleet, name: &str, spec: Value) {
    fleet.hub.apply(json!({
        "apiVersion": "addon.open-cluster-management.io/v1alpha1",
        "kind": "AddOnDeploymentConfig",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }));
    let references = json!({"configReferences": [{
        "group": "addon.open-cluster-management.io", "resource": "addondeploymentconfigs",
        "name": name, "namespace": NAMESPACE, "lastObservedGeneration": 0,
        "desiredConfig": {"name": name, "namespace": NAMESPACE, "specHash": ""},
    }]});
    fleet.set_addon_status("managed", references).await;
}

fn variables(pairs: &[(&str, &str)]) -> Value {
    let list: Vec<_> = pairs
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({"customizedVariables": list})
}

#[tokio::test]
async fn a_wrong_configuration_is_told_and_holds_up_nobody_else() {
    let fleet = joined().await;
    fleet.keep_events();
    let running = tokio::spawn(run(Arc::clone(&fleet.context)));
    crate::testing::soon("the work", || work(&fleet, 0)).await;
    let good = work(&fleet, 0).unwrap();
    let issuer = ("oidcIssuerURL", "https://issuer.example.com");
    let client = ("oidcClientID", "kubernetes");
    let claims = ("oidcRequiredClaimsJSON", "{\"hd\": [1]}");
    let quantity = json!({"resourceRequirements": [
        {"containerID": "*:*:*", "resources": {"limits": {"cpu": "a lot"}}},
    ]});
    for (number, (spec, said)) in [
        (
            variables(&[issuer]),
            "oidcIssuerURL and oidcClientID go together",
        ),
        (
            variables(&[issuer, client, claims]),
            "must be a JSON object of strings",
        ),
        (
            variables(&[("enableImpersonation", "si")]),
            "must be true or false",
        ),
        (quantity, "cpu is \"a lot\", which is no quantity"),
    ]
    .into_iter()
    .enumerate()
    {
        use_config(&fleet, &format!("wrong-{number}"), spec).await;
        let message = || {
            fleet.condition("managed", MANIFEST_APPLIED)?["message"]
                .as_str()
                .map(str::to_owned)
        };
        let told = || message().filter(|message| message.contains(said));
        let message = crate::testing::soon(said, told).await;
        assert!(!message.contains('\n'), "{message}");
        assert_eq!(work(&fleet, 0).unwrap()["spec"], good["spec"], "{said}");
    }
    fleet.event("managed", "AgentNotDeployed").await;

    // Meanwhile another cluster gets its agent, and this one what is repaired.
    fleet.join("other").await;
    registration::reconcile(fleet.addon("other"), Arc::clone(&fleet.context))
        .await
        .unwrap();
    let other = || fleet.find(&works_resource(), "other", "addon-cluster-proxy-deploy-0");
    crate::testing::soon("the other cluster's work", other).await;
    fleet.hub.apply(json!({
        "apiVersion": "addon.open-cluster-management.io/v1alpha1",
        "kind": "AddOnDeploymentConfig",
        "metadata": {"name": "wrong-0", "namespace": NAMESPACE},
        "spec": variables(&[("replicas", "2")]),
    }));
    use_config(&fleet, "wrong-0", variables(&[("replicas", "2")])).await;
    crate::testing::soon("the repaired work", || {
        (work(&fleet, 0)?["spec"] != good["spec"]).then_some(())
    })
    .await;
    crate::testing::soon("the end of the condition", || {
        fleet
            .condition("managed", MANIFEST_APPLIED)
            .is_none()
            .then_some(())
    })
    .await;
    fleet.event("managed", "AgentDeployedAgain").await;

    // What is wrong for all is told at each, and takes nobody's agent away.
    let good = [work(&fleet, 0).unwrap(), other().unwrap()];
    let mut configuration = fleet.configuration();
    configuration["spec"]["proxyAgent"]["additionalServiceProxyArgs"] =
        json!(["--enable-impersonation=false"]);
    fleet.hub.apply(configuration);
    for cluster in ["managed", "other"] {
        crate::testing::soon(cluster, || {
            let condition = fleet.condition(cluster, MANIFEST_APPLIED)?;
            let message = condition["message"].as_str()?;
            message
                .contains("must not set --enable-impersonation")
                .then_some(())
        })
        .await;
    }
    let now = [work(&fleet, 0).unwrap(), other().unwrap()];
    for (now, good) in now.iter().zip(&good) {
        assert_eq!(now["spec"], good["spec"]);
    }
    running.abort();
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

#[test]
fn a_configuration_renders_anew_when_the_entrypoint_moves_and_for_no_other_status() {
    let of = |generation: i64, status: Value| {
        let configuration = json!({
            "metadata": {"name": "cluster-proxy", "generation": generation}, "status": status,
        });
        rendered_from(&serde_json::from_value(configuration).unwrap())
    };
    let at = |host: &str| {
        json!({"conditions": [
            {"type": "Other", "message": host},
            {"type": ENTRYPOINT_READY, "message": format!("agents come to {host} port 8091")},
        ]})
    };
    assert_ne!(of(1, at("a")), of(1, at("b")));
    assert_ne!(of(1, json!({})), of(2, json!({})));
    let other = json!({"conditions": [{"type": "Other", "message": "m"}]});
    assert_eq!(of(1, json!({})), of(1, other));
}
