//! `manager`.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{NAMESPACE, Started, holder, hub, soon};

#[tokio::test(flavor = "multi_thread")]
async fn leads_works_and_gives_back() {
    let folder = TempDir::new().expect("a folder");
    let (hub, kubeconfig) = hub(&folder).await;
    let mut manager = Started::new(
        "manager",
        ["--health-probe-bind-address", "--metrics-bind-address"],
        &[
            "--leader-elect",
            "--kubeconfig",
            &kubeconfig,
            "--namespace",
            NAMESPACE,
            "--identity",
            "one",
            "--signer-secret-namespace",
            NAMESPACE,
        ],
    );

    manager.is_ready().await;
    let holder = || holder(&hub, "cluster-proxy-addon-manager");
    let leader = soon("the leader", holder).await;
    assert!(leader.starts_with("one_"), "{leader}");
    soon("the definition", || {
        hub.get(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "",
            "managedproxyconfigurations.proxy.open-cluster-management.io",
        )
    })
    .await;
    hub.apply(&configuration()).expect("the kind is served");
    for secret in ["cluster-proxy-signer", "proxy-server", "agent-server"] {
        soon(secret, || hub.get("v1", "Secret", NAMESPACE, secret)).await;
    }
    soon("the Deployment", || {
        hub.get("apps/v1", "Deployment", NAMESPACE, "cluster-proxy")
    })
    .await;
    manager.leads();
    assert_eq!(manager.end(), Some(0));
    assert_eq!(holder().as_deref(), Some(""));
}

fn configuration() -> Value {
    json!({
        "apiVersion": "proxy.open-cluster-management.io/v1alpha1",
        "kind": "ManagedProxyConfiguration",
        "metadata": {"name": "cluster-proxy"},
        "spec": {
            "authentication": {},
            "proxyServer": {
                "image": "example.com/cluster-proxy:1", "namespace": NAMESPACE,
                "entrypoint": {"type": "Hostname", "hostname": {"value": "hub.example.com"}},
            },
            "proxyAgent": {"image": "example.com/cluster-proxy:1"},
        },
    })
}
