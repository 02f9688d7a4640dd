//! Serves an embedded cluster until Ctrl-C, with an example pod:
//!
//! ```text
//! cargo run -p cluster-proxy-embedded-kube --example serve -- /tmp/embedded.kubeconfig 127.0.0.1:6443
//! kubectl --kubeconfig /tmp/embedded.kubeconfig get pods
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube, Listener};
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_runtime::drain::{Drain, DrainLimits, drain_on_signal};
use serde_json::json;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example talks to its user")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    install_crypto_provider()?;
    let mut arguments = std::env::args().skip(1);
    let file = arguments
        .next()
        .ok_or("usage: serve <kubeconfig to write> [<address>]")?;
    let mut config = Config::new("embedded");
    if let Some(address) = arguments.next() {
        config.listener = Listener::Tcp(address.parse::<SocketAddr>()?);
    }
    let drain = Drain::new();
    let kube = EmbeddedKube::start(config, &drain).await?;
    std::fs::write(&file, kube.admin_kubeconfig())?;
    kube.apply(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "example", "labels": {"app": "example"}},
        "spec": {"containers": [{"name": "main", "image": "example.com/none:1"}]},
    }))?;
    println!(
        "{} is up; try: kubectl --kubeconfig {file} get pods",
        kube.url()
    );
    let limits = DrainLimits {
        min: Duration::ZERO,
        limit: Duration::from_secs(2),
    };
    drain_on_signal(&drain, limits).await?;
    Ok(())
}
