//! What an embedded cluster gives to the program that embeds it, beyond the contract of its API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{self, Certificate, Target};
use cluster_proxy_embedded_kube::{Config, EmbeddedKube, Error, Listener};
use cluster_proxy_identity::Token;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_runtime::drain::{Drain, DrainLimits};
use serde_json::json;

async fn start(config: Config, drain: &Drain) -> (EmbeddedKube, Target) {
    client::install_crypto_provider();
    let kube = EmbeddedKube::start(config, drain).await.expect("it starts");
    let admin = kube.admin_certificate();
    let target = Target {
        address: kube.local_address().clone(),
        server_name: "kubernetes.default.svc".to_owned(),
        ca: kube.ca_pem().as_bytes().to_vec(),
        admin: Arc::new(Certificate {
            cert: admin.cert_pem.as_bytes().to_vec(),
            key: admin.key_pem.as_bytes().to_vec(),
        }),
        image: String::new(),
        log: "",
    };
    (kube, target)
}

fn pod(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "example.com/none:1"}]},
    })
}

fn refusal(error: &Error) -> (u16, &str) {
    match error {
        Error::Refused { code, reason, .. } => (*code, reason),
        other => panic!("another error: {other}"),
    }
}

#[tokio::test]
async fn the_host_makes_objects_and_tokens() {
    let (kube, target) = start(Config::new("host"), &Drain::new()).await;
    kube.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}))
        .unwrap();
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "robot", "namespace": "a"},
    });
    let made = kube.apply(&account).unwrap();
    let again = kube.apply(&account).unwrap();
    assert_eq!(made, again);
    assert_eq!(kube.get("v1", "ServiceAccount", "a", "robot"), Some(made));
    let hour = Duration::from_secs(3600);
    let token = kube.issue_token("a", "robot", &[], hour).unwrap();
    target
        .with_token(token.expose())
        .get("/api")
        .await
        .expect(200);
    assert!(kube.kubeconfig_for_token(&token).contains(token.expose()));
    let refused = kube.issue_token("a", "nobody", &[], hour).unwrap_err();
    assert_eq!(refusal(&refused), (404, "NotFound"));
    let minute = Duration::from_secs(60);
    let refused = kube.issue_token("a", "robot", &[], minute).unwrap_err();
    assert_eq!(refusal(&refused), (422, "Invalid"));
    kube.delete("v1", "ServiceAccount", "a", "robot").unwrap();
    let refused = target.with_token(token.expose()).get("/api").await;
    refused.refused(401, "Unauthorized");
    let unknown = json!({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "x"}});
    let refused = kube.apply(&unknown).unwrap_err();
    assert_eq!(refusal(&refused), (400, "BadRequest"));
}

#[tokio::test]
async fn the_host_writes_into_logs() {
    let (kube, target) = start(Config::new("host"), &Drain::new()).await;
    let refused = kube
        .append_pod_log("default", "web", None, "x")
        .unwrap_err();
    assert_eq!(refusal(&refused), (404, "NotFound"));
    kube.apply(&pod("web")).unwrap();
    client::eventually("the pod runs", async || {
        let pod = kube.get("v1", "Pod", "default", "web")?;
        (pod["status"]["phase"] == "Running").then_some(())
    })
    .await;
    let path = "/api/v1/namespaces/default/pods/web/log?follow=1&tailLines=0";
    let mut follow = target.admin().stream(path).await;
    kube.append_pod_log("default", "web", Some("main"), "one\ntwo")
        .unwrap();
    let mut lines = Vec::new();
    while lines.len() < 2 {
        let line = follow.next().await.expect("the log goes on");
        if !line.contains("tick") {
            lines.push(line);
        }
    }
    assert_eq!(lines, ["one", "two"]);
    let exec = "/api/v1/namespaces/default/pods/web/exec?command=ls";
    let refused = target.admin().post(exec, &json!({})).await;
    refused.refused(501, "NotImplemented");
}

#[tokio::test]
async fn it_listens_on_a_unix_socket() {
    let folder = std::env::temp_dir().join(format!("embedded-kube-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path: PathBuf = folder.join("api.sock");
    let drain = Drain::new();
    let config = Config {
        listener: Listener::Unix(path.clone()),
        ..Config::new("unix")
    };
    let (kube, target) = start(config.clone(), &drain).await;
    assert_eq!(kube.url(), "https://kubernetes.default.svc");
    let listed = target.admin().get("/api/v1/namespaces").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
    let taken = EmbeddedKube::start(config, &Drain::new()).await;
    assert!(matches!(taken, Err(Error::Listen { .. })));
    let limits = DrainLimits {
        min: Duration::ZERO,
        limit: Duration::from_millis(200),
    };
    drain.run(limits).await;
    assert!(!path.exists(), "the socket goes with its listener");
    std::fs::remove_dir(&folder).unwrap();
}

#[tokio::test]
async fn other_authorities_and_a_static_token_are_trusted_when_told() {
    let other = CertificateAuthority::generate().unwrap();
    let config = Config {
        client_ca: Some(other.cert_pem().to_owned()),
        admin_token: Some(Token::parse("s3cret").unwrap()),
        ..Config::new("trusting")
    };
    let (kube, target) = start(config, &Drain::new()).await;
    target
        .with_token("s3cret")
        .get("/api/v1/nodes")
        .await
        .expect(200);
    let own = kube.client_certificate("jane", Vec::new()).unwrap();
    let foreign = Leaf::client("joe", vec!["system:masters".to_owned()]);
    let foreign = other.issue(&foreign).unwrap();
    for (issued, code) in [(own, 403), (foreign, 200)] {
        let target = Target {
            admin: Arc::new(Certificate {
                cert: issued.cert_pem.into_bytes(),
                key: issued.key_pem.into_bytes(),
            }),
            ..target.clone()
        };
        let answered = target.admin().get("/api/v1/nodes").await;
        assert_eq!(answered.code, code);
    }
}

#[tokio::test]
async fn streams_end_with_the_drain() {
    let drain = Drain::new();
    let (_kube, target) = start(Config::new("draining"), &drain).await;
    let path = "/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3Dnone";
    let mut watch = target.admin().stream(path).await;
    let ended = tokio::spawn(async move { watch.next().await });
    let limits = DrainLimits {
        min: Duration::ZERO,
        limit: Duration::from_secs(10),
    };
    assert!(drain.run(limits).await, "nothing had to be cut");
    assert_eq!(ended.await.unwrap(), None);
}
