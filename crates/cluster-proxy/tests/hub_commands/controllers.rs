//! `controllers`, with the command line of a Go chart.

use std::process::Command;

use cluster_proxy_identity::ca::CertificateAuthority;
use cluster_proxy_identity::certificate::CertificateFacts;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{NAMESPACE, Started, holder, hub, soon};

#[tokio::test(flavor = "multi_thread")]
async fn makes_the_certificate_that_a_go_manager_needs() {
    let folder = TempDir::new().expect("a folder");
    let (hub, kubeconfig) = hub(&folder).await;
    let crd = serde_json::to_value(cluster_proxy_kube_api::managed_proxy_configuration::crd());
    let apply = |object: Value| drop(hub.apply(&object).expect("it is taken"));
    apply(crd.expect("a definition"));
    apply(json!({
        "apiVersion": "proxy.open-cluster-management.io/v1alpha1",
        "kind": "ManagedProxyConfiguration", "metadata": {"name": "cluster-proxy"},
        "spec": {
            "authentication": {}, "proxyServer": {"image": "i"}, "proxyAgent": {"image": "i"},
        },
    }));
    let namespaces =
        ["certificates", "signer-secret"].map(|of| format!("--{of}-namespace={NAMESPACE}"));
    let mut controllers = Started::new(
        "controllers",
        ["--health-probe-addr", "--metrics-addr"],
        &[
            &namespaces[0],
            &namespaces[1],
            "--agent-image=quay.io/open-cluster-management/cluster-proxy:v1",
            "--enable_leader_election",
            "--v=2",
            "--logtostderr=true",
            "--kubeconfig",
            &kubeconfig,
            "--namespace",
            NAMESPACE,
        ],
    );

    controllers.is_ready().await;
    let holder = || holder(&hub, "cluster-proxy-service-proxy");
    soon("the leader", holder).await;
    // The manager's CA comes later.
    let ca = CertificateAuthority::generate().expect("a CA");
    apply(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "cluster-proxy-signer", "namespace": NAMESPACE},
        "stringData": {"ca.crt": ca.cert_pem(), "ca.key": ca.key_pem()},
    }));
    let name = "cluster-proxy-service-proxy-server-cert";
    let secret = soon(name, || hub.get("v1", "Secret", NAMESPACE, name)).await;
    let data: k8s_openapi::ByteString =
        serde_json::from_value(secret["data"]["tls.crt"].clone()).expect("base64");
    let facts = CertificateFacts::of_pem(&data.0).expect("a certificate");
    assert!(
        facts.sans.contains("*.open-cluster-management.proxy"),
        "{facts:?}"
    );
    controllers.leads();
    let lease = hub
        .get(
            "coordination.k8s.io/v1",
            "Lease",
            NAMESPACE,
            "cluster-proxy-service-proxy",
        )
        .expect("it leads");
    let owner = &lease["metadata"]["ownerReferences"][0];
    assert_eq!(owner["kind"], "ManagedProxyConfiguration");
    // All of the rest is the Go manager's.
    for (version, kind) in [("v1", "Service"), ("apps/v1", "Deployment")] {
        let found = hub.get(version, kind, NAMESPACE, "cluster-proxy");
        assert_eq!(found, None);
    }
    assert_eq!(controllers.end(), Some(0));
    assert_eq!(holder().as_deref(), Some(""));
}

/// One line on standard error that names the flag.
#[test]
fn command_lines_that_cannot_be_right_are_usage_errors() {
    let run = |flag: &str| {
        let mut program = Command::new("timeout");
        program.arg("20").arg(env!("CARGO_BIN_EXE_cluster-proxy"));
        let output = program.args(["controllers", flag]).output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    for (flag, cause, code) in [
        ("--metrics-addr=8080", "--metrics-addr", 64),
        (
            "--enable-leader-election=perhaps",
            "neither true nor false",
            64,
        ),
        ("--no-such-flag", "--no-such-flag", 64),
        ("--kubeconfig=/absent", "--kubeconfig /absent", 1),
    ] {
        let (status, said) = run(flag);
        assert_eq!(status, Some(code), "{said}");
        assert!(
            said.contains(cause) && said.trim().lines().count() == 1,
            "{said}"
        );
    }
}
