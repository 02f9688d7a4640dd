//! The contract of the Kubernetes API, held by an embedded cluster. `contract_lab.rs` runs the
//! same behaviours against a real kube-apiserver, so that what is tested here is what is true.
//!
//! Beside it, what only an embedded cluster has: `host` and `kube_rs`.

mod behaviours;
mod client;
mod host;
mod kube_rs;

use std::sync::Arc;

use client::{Certificate, Space, Target};
use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_runtime::drain::Drain;
use serde_json::json;

/// One cluster for each test: they run at once, in runtimes of their own.
async fn target() -> Target {
    client::install_crypto_provider();
    let kube = EmbeddedKube::start(Config::new("contract"), &Drain::new())
        .await
        .expect("it starts");
    let admin = kube.admin_certificate();
    Target {
        address: kube.local_address().clone(),
        server_name: "localhost".to_owned(),
        ca: kube.ca_pem().as_bytes().to_vec(),
        admin: Arc::new(Certificate {
            cert: admin.cert_pem.as_bytes().to_vec(),
            key: admin.key_pem.as_bytes().to_vec(),
        }),
        image: "example.com/none:1".to_owned(),
        log: "embedded pod",
    }
}

behaviours::all!();

/// Not among the behaviours: a real kube-apiserver forgets by time (etcd's compaction, every five
/// minutes), an embedded one by number.
#[tokio::test]
async fn a_watch_from_a_forgotten_version_fails() {
    let space = Space::new(&target().await).await;
    for number in 0..1100 {
        let path = space.core("configmaps/one?fieldManager=us");
        let value = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"},
            "data": {"k": number.to_string()},
        });
        space.admin.patch(&path, "apply-patch+yaml", &value).await;
    }
    let all = space.core("configmaps?watch=1&resourceVersion=1");
    let mut watch = space.admin.stream(&all).await;
    let (kind, status) = watch.event().await;
    assert_eq!(kind, "ERROR");
    assert_eq!(status["code"], 410);
    assert_eq!(status["reason"], "Expired");
    assert_eq!(watch.next().await, None);
    space.end().await;
}
