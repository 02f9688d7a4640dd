use cluster_proxy_kube_api::names::ADDON_GROUP;
use kube::ResourceExt;

use super::*;
use crate::fleet_testing::Fleet;
use crate::testing::{NAMESPACE, soon};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

async fn reconciled(fleet: &Fleet, cluster: &str) -> Result<Action, Error> {
    reconcile(fleet.addon(cluster), Arc::clone(&fleet.context)).await
}

fn subjects(fleet: &Fleet, cluster: &str) -> Option<Value> {
    let binding = fleet
        .hub
        .kube
        .get(RBAC, "RoleBinding", cluster, AGENT_ROLE)?;
    Some(binding["subjects"].clone())
}

#[tokio::test]
async fn an_addon_is_registered_once() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    reconciled(&fleet, "managed").await.unwrap();
    let addon = fleet.addon("managed");
    let status = addon::status(&addon);
    assert_eq!(
        status["supportedConfigs"],
        json!([
            {"group": "proxy.open-cluster-management.io", "resource": "managedproxyconfigurations"},
            {"group": "addon.open-cluster-management.io", "resource": "addondeploymentconfigs"},
        ])
    );
    assert_eq!(status["namespace"], "open-cluster-management-cluster-proxy");
    assert_eq!(status["healthCheck"], json!({"mode": "Lease"}));
    assert!(addon::condition_is_true(&status, REGISTRATION_APPLIED));
    assert!(addon::condition_is_true(&status, "Configured"));
    let group = "system:open-cluster-management:cluster:managed:addon:cluster-proxy";
    let registrations = status["registrations"].as_array().unwrap();
    assert_eq!(registrations.len(), 3);
    assert_eq!(
        registrations[0],
        json!({
            "signerName": "kubernetes.io/kube-apiserver-client",
            "subject": {
                "user": format!("{group}:agent:addon-agent"),
                "groups": [group, ADDON_GROUP],
            },
        })
    );
    let proxy_agent = &registrations[1]["subject"];
    assert_eq!(
        proxy_agent["user"],
        json!(format!("{group}:agent:proxy-agent"))
    );
    let unit = proxy_agent["organizationUnit"][0].as_str().unwrap();
    assert!(unit.starts_with("signer-"));
    assert_eq!(
        subjects(&fleet, "managed")
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        2
    );

    reconciled(&fleet, "managed").await.unwrap();
    let again = fleet.addon("managed");
    assert_eq!(again.resource_version(), addon.resource_version());

    fleet.new_ca();
    reconciled(&fleet, "managed").await.unwrap();
    let status = addon::status(&fleet.addon("managed"));
    let new_unit = &status["registrations"][1]["subject"]["organizationUnit"][0];
    assert_ne!(new_unit, unit);
    assert_eq!(status["registrations"][0], registrations[0]);
}

#[tokio::test]
async fn an_addon_that_nobody_claimed_is_left_alone() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    let mut unclaimed = DynamicObject::clone(&fleet.addon("managed"));
    unclaimed.metadata.owner_references = None;
    reconcile(Arc::new(unclaimed), Arc::clone(&fleet.context))
        .await
        .unwrap();
    assert!(fleet.condition("managed", REGISTRATION_APPLIED).is_none());
    assert!(subjects(&fleet, "managed").is_none());
}

#[tokio::test]
async fn a_token_is_bound_only_as_the_account_that_ocm_gives() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    let claims = |user: &str| {
        json!({
            "kubeClientDriver": "token",
            "registrations": [{
                "signerName": "kubernetes.io/kube-apiserver-client",
                "subject": {"user": user},
            }],
        })
    };
    for user in [
        "",
        "system:serviceaccount:other:cluster-proxy-agent",
        "admin",
    ] {
        fleet.set_addon_status("managed", claims(user)).await;
        reconciled(&fleet, "managed").await.unwrap();
        let condition = fleet.condition("managed", REGISTRATION_APPLIED).unwrap();
        assert_eq!(condition["status"], "False", "{user}");
        assert_eq!(condition["reason"], "PermissionConfigPending");
        assert!(subjects(&fleet, "managed").is_none(), "{user}");
        let status = addon::status(&fleet.addon("managed"));
        assert_eq!(status["registrations"][0]["subject"]["user"], user);
    }
    let user = "system:serviceaccount:managed:cluster-proxy-agent";
    fleet.set_addon_status("managed", claims(user)).await;
    reconciled(&fleet, "managed").await.unwrap();
    let subjects = subjects(&fleet, "managed").unwrap();
    assert_eq!(subjects.as_array().unwrap().len(), 1);
    assert_eq!(subjects[0]["name"], user);
    assert_eq!(subjects[0]["kind"], "User");
    let status = addon::status(&fleet.addon("managed"));
    assert_eq!(status["registrations"][0]["subject"], json!({"user": user}));
}

#[tokio::test]
async fn a_broken_configuration_moves_no_agent() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    let config = |spec: Value| {
        fleet.hub.apply(json!({
            "apiVersion": "addon.open-cluster-management.io/v1alpha1",
            "kind": "AddOnDeploymentConfig",
            "metadata": {"name": "c", "namespace": NAMESPACE},
            "spec": spec,
        }));
    };
    let references = json!({"configReferences": [{
        "group": "addon.open-cluster-management.io",
        "resource": "addondeploymentconfigs",
        "name": "c", "namespace": NAMESPACE, "lastObservedGeneration": 0,
        "desiredConfig": {"name": "c", "namespace": NAMESPACE, "specHash": "h"},
    }]});
    fleet.set_addon_status("managed", references).await;
    let error = reconciled(&fleet, "managed").await.unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");

    config(json!({"agentInstallNamespace": "elsewhere"}));
    reconciled(&fleet, "managed").await.unwrap();
    let namespace = |fleet: &Fleet| addon::status(&fleet.addon("managed"))["namespace"].clone();
    assert_eq!(namespace(&fleet), "elsewhere");

    config(json!({"customizedVariables": "no list"}));
    reconciled(&fleet, "managed").await.unwrap_err();
    assert_eq!(namespace(&fleet), "elsewhere");
    let condition = fleet.condition("managed", REGISTRATION_APPLIED).unwrap();
    assert_eq!(condition["status"], "False");
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("AddOnDeploymentConfig {NAMESPACE}/c")),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_changed_by_hand_comes_back() {
    let fleet = Fleet::start().await;
    fleet.join("managed").await;
    let running = tokio::spawn(run(Arc::clone(&fleet.context)));
    let binding = soon("the binding", || subjects(&fleet, "managed")).await;
    let kube = &fleet.hub.kube;
    kube.delete(RBAC, "RoleBinding", "managed", AGENT_ROLE)
        .unwrap();
    let again = soon("the binding again", || subjects(&fleet, "managed")).await;
    assert_eq!(again, binding);

    let name = "cluster-proxy-addon-agent-tokenreview";
    let fleet_wide = || kube.get(RBAC, "ClusterRoleBinding", "", name);
    let binding = soon("the fleet's binding", fleet_wide).await;
    assert_eq!(binding["subjects"].as_array().unwrap().len(), 1);
    assert_eq!(binding["subjects"][0]["name"], ADDON_GROUP);
    assert_eq!(
        binding["metadata"]["ownerReferences"][0]["kind"],
        "ManagedProxyConfiguration"
    );
    kube.delete(RBAC, "ClusterRoleBinding", "", name).unwrap();
    soon("the fleet's binding again", fleet_wide).await;
    running.abort();
}

#[tokio::test]
async fn ports_are_forwarded_only_for_that_entrypoint() {
    let fleet = Fleet::start().await;
    let name = "cluster-proxy-addon-agent:portforward";
    let binding = || fleet.hub.kube.get(RBAC, "RoleBinding", NAMESPACE, name);
    let running = tokio::spawn(run(Arc::clone(&fleet.context)));
    let token_review = || {
        let name = "cluster-proxy-addon-agent-tokenreview";
        fleet.hub.kube.get(RBAC, "ClusterRoleBinding", "", name)
    };
    soon("the fleet's binding", token_review).await;
    tokio::time::sleep(crate::fleet_testing::SHORT).await;
    assert!(binding().is_none());
    fleet.configure(json!({"type": "PortForward"}));
    let bound = soon("the binding for ports", binding).await;
    assert_eq!(bound["roleRef"]["name"], name);
    fleet.configure(json!({"type": "Hostname", "hostname": {"value": "hub.example.com"}}));
    soon("the end of the binding", || {
        binding().is_none().then_some(())
    })
    .await;
    running.abort();
}
