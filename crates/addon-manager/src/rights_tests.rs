//! The controllers of managed clusters do all of their work with the rights that are written here,
//! which the chart's ClusterRole and Role must hold.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_kube_api::addon::TUNNEL_REACHABLE;
use cluster_proxy_kube_api::cluster_profile::ClusterProfile;
use cluster_proxy_kube_api::names::USER_SERVING_SECRET;
use cluster_proxy_kube_api::work::ManifestWork;
use kube::api::ApiResource;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use crate::fleet_testing::Fleet;
use crate::testing::{NAMESPACE, soon};
use crate::{
    addon, cluster_profile, csr, deploy, management_addon, ownership, reachability, registration,
};

/// Everywhere on the hub.
fn in_the_hub() -> Value {
    json!([
        rule(
            "cluster.open-cluster-management.io",
            &["managedclusters"],
            &["get", "list", "watch"]
        ),
        rule(
            "addon.open-cluster-management.io",
            &["clustermanagementaddons"],
            &["list", "watch"]
        ),
        rule(
            "addon.open-cluster-management.io",
            &["addondeploymentconfigs"],
            &["get", "list", "watch"],
        ),
        rule(
            "addon.open-cluster-management.io",
            &["clustermanagementaddons/status"],
            &["patch"]
        ),
        rule(
            "addon.open-cluster-management.io",
            &["managedclusteraddons"],
            &["get", "list", "watch", "patch"],
        ),
        rule(
            "addon.open-cluster-management.io",
            &["managedclusteraddons/status"],
            &["patch"]
        ),
        rule(
            "work.open-cluster-management.io",
            &["manifestworks"],
            &["list", "watch", "create", "patch", "delete"],
        ),
        rule(
            "proxy.open-cluster-management.io",
            &["managedproxyconfigurations"],
            &["get", "list", "watch"],
        ),
        rule(
            "proxy.open-cluster-management.io",
            &["managedproxyconfigurations/status"],
            &["patch"],
        ),
        rule(
            "certificates.k8s.io",
            &["certificatesigningrequests"],
            &["list", "watch"],
        ),
        rule(
            "certificates.k8s.io",
            &[
                "certificatesigningrequests/approval",
                "certificatesigningrequests/status"
            ],
            &["patch"],
        ),
        named(
            rule(
                RBAC,
                &["roles", "rolebindings"],
                &["list", "watch", "create", "patch"]
            ),
            "cluster-proxy-addon-agent",
        ),
        named(
            rule(
                RBAC,
                &["clusterroles", "clusterrolebindings"],
                &["list", "watch", "create", "patch"],
            ),
            "cluster-proxy-addon-agent-tokenreview",
        ),
        rule(
            "multicluster.x-k8s.io",
            &["clusterprofiles"],
            &["list", "watch"]
        ),
        rule(
            "multicluster.x-k8s.io",
            &["clusterprofiles/status"],
            &["patch"]
        ),
    ])
}

/// In the namespace of the proxy-server.
fn in_the_namespace() -> Value {
    json!([
        named(
            rule("", &["configmaps"], &["list", "watch", "create", "patch"]),
            "cluster-proxy-agents",
        ),
        named(
            rule("", &["secrets"], &["get", "list", "watch"]),
            USER_SERVING_SECRET,
        ),
        named(
            rule(
                RBAC,
                &["rolebindings"],
                &["get", "list", "watch", "create", "patch", "delete"]
            ),
            "cluster-proxy-addon-agent:portforward",
        ),
    ])
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn named(mut rule: Value, name: &str) -> Value {
    rule["resourceNames"] = json!([name]);
    rule
}

const RBAC: &str = "rbac.authorization.k8s.io";

#[tokio::test]
async fn the_listed_rights_are_enough() {
    let fleet = Fleet::start().await;
    let context = fleet.restricted(&in_the_hub(), &in_the_namespace());
    fleet.configure(json!({"type": "PortForward"}));
    fleet.join("managed").await;
    fleet.hub.apply(json!({
        "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ClusterProfile",
        "metadata": {
            "name": "managed", "namespace": NAMESPACE,
            "labels": {
                "x-k8s.io/cluster-manager": "open-cluster-management",
                "open-cluster-management.io/cluster-name": "managed",
            },
        },
        "spec": {},
    }));
    fleet.hub.apply(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": USER_SERVING_SECRET, "namespace": NAMESPACE},
        "data": {"tls.crt": STANDARD.encode("leaf")},
    }));
    let management_addon = json!({"defaultconfigReferences": [{
        "group": "proxy.open-cluster-management.io", "resource": "managedproxyconfigurations",
        "desiredConfig": {"name": "cluster-proxy", "specHash": ""},
    }]});
    let resource = management_addon::resource();
    fleet
        .set_status(&resource, "", "cluster-proxy", management_addon)
        .await;
    let name = csr::asked_by_an_agent(&fleet).await;

    let all = Arc::clone(&context);
    let running = tokio::spawn(async move {
        tokio::join!(
            registration::run(Arc::clone(&all)),
            csr::run(Arc::clone(&all)),
            deploy::run(Arc::clone(&all)),
            ownership::run(Arc::clone(&all)),
            cluster_profile::run(Arc::clone(&all)),
            management_addon::run(Arc::clone(&all)),
            reachability::run(Arc::clone(&all)),
        );
    });
    let kube = &fleet.hub.kube;
    let found = |resource: &ApiResource, namespace: &str, name: &str, pointer: &str| {
        let found = fleet.find(resource, namespace, name)?;
        found.pointer(pointer).cloned()
    };
    let works = ApiResource::erase::<ManifestWork>(&());
    let work = "addon-cluster-proxy-deploy-0";
    soon("the work", || found(&works, "managed", work, "/spec")).await;
    let profiles = ApiResource::erase::<ClusterProfile>(&());
    let provider = || found(&profiles, NAMESPACE, "managed", "/status/accessProviders/0");
    soon("the access provider", provider).await;
    let hash = || {
        let pointer = "/status/defaultconfigReferences/0/desiredConfig/specHash";
        found(&resource, "", "cluster-proxy", pointer).filter(|it| it != "")
    };
    soon("the hash", hash).await;
    let rbac = format!("{RBAC}/v1");
    for (kind, namespace, name) in [
        ("RoleBinding", "managed", "cluster-proxy-addon-agent"),
        (
            "ClusterRoleBinding",
            "",
            "cluster-proxy-addon-agent-tokenreview",
        ),
        (
            "RoleBinding",
            NAMESPACE,
            "cluster-proxy-addon-agent:portforward",
        ),
    ] {
        soon(name, || kube.get(&rbac, kind, namespace, name)).await;
    }
    soon("the table", || {
        kube.get("v1", "ConfigMap", NAMESPACE, "cluster-proxy-agents")
    })
    .await;
    let signed = || {
        let version = "certificates.k8s.io/v1";
        let csr = kube.get(version, "CertificateSigningRequest", "", &name)?;
        csr["status"].get("certificate").cloned()
    };
    soon("the certificate", signed).await;
    let enforced = || {
        let configuration = serde_json::from_value(fleet.configuration()).ok()?;
        let status = addon::status(&configuration);
        addon::find_condition(&status, ownership::AGENT_IDENTITY_ENFORCED).cloned()
    };
    soon("the condition", enforced).await;
    let asked = || fleet.condition("managed", TUNNEL_REACHABLE);
    soon("whether the tunnel leads there", asked).await;

    // What is no longer wanted goes, with the rights to make it go.
    fleet.configure(json!({"type": "Hostname", "hostname": {"value": "hub.example.com"}}));
    let name = "cluster-proxy-addon-agent:portforward";
    let gone = || kube.get(&rbac, "RoleBinding", NAMESPACE, name).is_none();
    soon("the end of the binding", || gone().then_some(())).await;
    running.abort();

    let mut registry = Registry::default();
    context.metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let failures: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| line.contains("watch_failures") || line.contains("\"error\""))
        .collect();
    assert_eq!(failures, Vec::<&str>::new());
}
