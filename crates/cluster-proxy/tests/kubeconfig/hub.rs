//! What is asked of the hub, and what is refused.

use std::path::Path;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_identity::Token;
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_runtime::drain::Drain;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{client, failure, printed};

const NAMESPACE: &str = "open-cluster-management-addon";

/// A hub whose administrator's kubeconfig, with a client certificate, is in `home`.
async fn hub(home: &Path) -> EmbeddedKube {
    drop(install_crypto_provider());
    let hub = EmbeddedKube::start(Config::new("hub"), &Drain::new())
        .await
        .expect("it starts");
    std::fs::create_dir(home.join(".kube")).expect("made");
    std::fs::write(home.join(".kube/config"), hub.admin_kubeconfig()).expect("written");
    for namespace in [NAMESPACE, "tools"] {
        apply(
            &hub,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        );
    }
    hub
}

fn apply(hub: &EmbeddedKube, object: Value) {
    hub.apply(&object).expect("it is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_asks_for_the_token_of_a_service_account() {
    let home = TempDir::new().expect("a folder");
    let home = home.path();
    let hub = hub(home).await;
    apply(
        &hub,
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "viewer", "namespace": "tools"},
        }),
    );
    let printed = printed(home, &["credential", "--service-account", "tools/viewer"]);
    let credential: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(credential["kind"], "ExecCredential");
    let status = &credential["status"];
    let expires: Timestamp = status["expirationTimestamp"]
        .as_str()
        .and_then(|time| time.parse().ok())
        .expect("a time");
    // One hour, less the margin and what this test took.
    let left = expires.duration_since(Timestamp::now());
    let (least, most) = (SignedDuration::from_mins(55), SignedDuration::from_mins(59));
    assert!(least < left && left <= most, "{left:?}");

    let token = Token::parse(status["token"].as_str().expect("a token")).expect("a token");
    let file = home.join("token.kubeconfig");
    std::fs::write(&file, hub.kubeconfig_for_token(&token)).expect("written");
    let reviews: Api<SelfSubjectReview> = Api::all(client(&file, "hub").await);
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .expect("the hub takes the token");
    let user = review.status.and_then(|status| status.user_info);
    assert_eq!(
        user.and_then(|user| user.username).as_deref(),
        Some("system:serviceaccount:tools:viewer")
    );

    let (said, code) = failure(home, &["credential", "--service-account", "tools/absent"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("service account tools/absent") && said.contains("not found"),
        "{said}"
    );
    for arguments in [
        &["credential"][..],
        &[
            "kubeconfig",
            "a",
            "--server=https://u",
            "--certificate-authority=",
        ],
    ] {
        let (said, code) = failure(home, arguments);
        assert_eq!(code, Some(1));
        assert!(
            said.contains("a client certificate and no token")
                && said.contains("--service-account NAMESPACE/NAME"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_and_ca_are_read_from_the_hub() {
    let home = TempDir::new().expect("a folder");
    let home = home.path();
    let hub = hub(home).await;
    let base = [
        "kubeconfig",
        "--all",
        "--service-account=tools/viewer",
        "-o=json",
    ];
    let with_server = [&base[..], &["--server=https://u.example/"]].concat();

    let (said, _) = failure(home, &with_server);
    assert!(said.contains("ManagedClusters cannot be listed"), "{said}");
    apply(&hub, definition());
    // The kind is served a moment after its definition is taken.
    let none = cluster_proxy_testkit::eventually_blocking(
        std::time::Duration::from_secs(20),
        "the kind",
        || {
            let (said, _) = failure(home, &with_server);
            said.contains("no accepted ManagedCluster").then_some(said)
        },
    );
    assert!(none.contains("--all"), "{none}");
    for (name, accepted) in [("b", true), ("stranger", false), ("a", true)] {
        apply(
            &hub,
            json!({
                "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
                "metadata": {"name": name}, "spec": {"hubAcceptsClient": accepted},
            }),
        );
    }

    let (said, _) = failure(home, &with_server);
    assert!(
        said.contains("--certificate-authority FILE")
            && said.contains("has no Secret open-cluster-management-addon/"),
        "{said}"
    );
    apply(
        &hub,
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "cluster-proxy-user-serving-cert", "namespace": NAMESPACE},
            "stringData": {"ca.crt": hub.ca_pem(), "tls.key": "not for us"},
        }),
    );
    let (said, _) = failure(home, &base);
    assert!(
        said.contains("--server https://HOST:PORT") && said.contains("has no Service"),
        "{said}"
    );

    let document: Value = serde_json::from_str(&printed(home, &with_server)).expect("JSON");
    let servers: Vec<_> = document["clusters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["cluster"]["server"].as_str().expect("a URL"))
        .collect();
    assert_eq!(servers, ["https://u.example/a", "https://u.example/b"]);
    assert_eq!(document["current-context"], "");
    let exec = &document["users"][1]["user"]["exec"];
    let config = home.join(".kube/config");
    let config = config.to_str().expect("UTF-8");
    assert_eq!(
        exec["args"],
        json!([
            "credential",
            "--kubeconfig",
            config,
            "--context",
            "hub",
            "--service-account",
            "tools/viewer",
        ])
    );
    assert_eq!(exec["command"], env!("CARGO_BIN_EXE_cluster-proxy"));
    let before = std::fs::read_to_string(config).expect("there");
    assert_eq!(before, hub.admin_kubeconfig(), "printing writes nothing");
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "managedclusters.cluster.open-cluster-management.io"},
        "spec": {
            "group": "cluster.open-cluster-management.io", "scope": "Cluster",
            "names": {
                "kind": "ManagedCluster", "listKind": "ManagedClusterList",
                "plural": "managedclusters", "singular": "managedcluster",
            },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    })
}

#[test]
fn command_lines_that_cannot_be_right_are_usage_errors() {
    let home = TempDir::new().expect("a folder");
    let home = home.path();
    for (arguments, cause) in [
        (&["kubeconfig"][..], "name clusters, or --all"),
        (&["kubeconfig", "a", "--all"], "--all"),
        (&["kubeconfig", "A"], "lower case"),
        (&["kubeconfig", "a/b"], "lower case"),
        (&["kubeconfig", "a", "--server=http://u"], "https://"),
        (&["kubeconfig", "a", "--output-file=x"], "--merge"),
        (&["credential", "--service-account=x"], "NAMESPACE/NAME"),
    ] {
        let (said, code) = failure(home, arguments);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(cause), "{said}");
    }
    let (said, code) = failure(home, &["credential"]);
    assert_eq!(code, Some(1));
    assert!(said.contains(".kube/config: no such file"), "{said}");
}

#[test]
fn what_is_not_understood_is_not_touched_and_a_managed_context_is_no_hub() {
    let home = TempDir::new().expect("a folder");
    let home = home.path();
    let hub = home.join("hub");
    let text = "{contexts: [{name: h, context: {cluster: h, user: h}}], current-context: h, \
                clusters: [{name: h, cluster: {server: 'https://127.0.0.1:1'}}], \
                users: [{name: h, user: {token: s3cret}}]}";
    std::fs::write(&hub, text).expect("written");
    let hub = format!("--kubeconfig={}", hub.display());
    let file = home.join("target");
    let output = format!("--output-file={}", file.display());
    let merge = [
        "kubeconfig",
        "a",
        "--server=https://u",
        "--certificate-authority=",
        &hub,
        "--merge",
        &output,
    ];
    for damaged in [
        "users: [{name: h, user: {token: [s3cret]}}]",
        "s3cret: [",
        "kind: Pod",
    ] {
        std::fs::write(&file, damaged).expect("written");
        let (said, code) = failure(home, &merge);
        assert_eq!(code, Some(1));
        assert!(
            said.contains("nothing is changed") && !said.contains("s3cret"),
            "{said}"
        );
        assert_eq!(std::fs::read_to_string(&file).expect("there"), damaged);
    }
    std::fs::remove_file(&file).expect("there");
    printed(home, &merge);
    let written = std::fs::read_to_string(&file).expect("there");
    assert!(!written.contains("s3cret"), "{written}");

    let from_managed = format!("--kubeconfig={}", file.display());
    let (said, _) = failure(
        home,
        &[
            "kubeconfig",
            "b",
            "--server=https://u",
            "--context=a",
            &from_managed,
        ],
    );
    assert!(
        said.contains("context \"a\" leads to a managed cluster"),
        "{said}"
    );
}
