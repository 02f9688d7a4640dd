//! The behaviours of `contract.rs` against the real kube-apiserver of the lab's hub.

mod behaviours;
mod client;

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use client::{Certificate, Target};
use cluster_proxy_embedded_kube::LocalAddress;
use cluster_proxy_testkit::lab::Lab;
use serde_json::Value;

async fn target() -> Target {
    client::install_crypto_provider();
    let lab = tokio::task::spawn_blocking(Lab::get)
        .await
        .expect("it does not panic")
        .expect("these tests need the lab");
    let kubeconfig = std::fs::read_to_string(lab.hub.kubeconfig()).expect("the lab wrote it");
    let kubeconfig: Value = serde_saphyr::from_str(&kubeconfig).expect("it is YAML");
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    let user = &kubeconfig["users"][0]["user"];
    Target {
        address: LocalAddress::Tcp(SocketAddr::new(lab.hub.node_ip(), 6443)),
        server_name: lab.hub.node_ip().to_string(),
        ca: pem(cluster, "certificate-authority"),
        admin: Arc::new(Certificate {
            cert: pem(user, "client-certificate"),
            key: pem(user, "client-key"),
        }),
        image: lab.tools_image().to_owned(),
        log: "hello",
    }
}

/// Inline, or in a file.
fn pem(holder: &Value, field: &str) -> Vec<u8> {
    match holder[format!("{field}-data")].as_str() {
        Some(data) => BASE64_STANDARD.decode(data).expect("it is base64"),
        None => {
            let path = holder[field].as_str().expect("data or a file");
            std::fs::read(path).expect("the lab wrote it")
        }
    }
}

behaviours::all!();
