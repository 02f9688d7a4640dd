//! Commands with controllers as processes, against an embedded hub.

mod controllers;
mod manager;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_testkit::{Outcome, eventually, free_port};
use serde_json::json;
use tempfile::TempDir;

const NAMESPACE: &str = "open-cluster-management-addon";

/// A hub with that namespace, and where its administrator's kubeconfig is.
async fn hub(folder: &TempDir) -> (EmbeddedKube, String) {
    drop(install_crypto_provider());
    let hub = EmbeddedKube::start(Config::new("hub"), &Drain::new())
        .await
        .expect("it starts");
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    }))
    .expect("a namespace is taken");
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, hub.admin_kubeconfig()).expect("a file");
    (hub, kubeconfig.to_str().expect("UTF-8").to_owned())
}

/// Who holds the Lease of that name; nobody is an empty name.
fn holder(hub: &EmbeddedKube, lease: &str) -> Option<String> {
    let lease = hub.get("coordination.k8s.io/v1", "Lease", NAMESPACE, lease)?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

/// A command that runs, and is killed with the test.
struct Started {
    running: Running,
    health: u16,
    metrics: u16,
}

impl Started {
    /// `addresses` are the flags for health and for metrics.
    fn new(command: &str, addresses: [&str; 2], arguments: &[&str]) -> Self {
        let [health, metrics] = [(); 2].map(|()| free_port().expect("a free port"));
        let mut program = Command::new(env!("CARGO_BIN_EXE_cluster-proxy"));
        program
            .arg(command)
            .args(arguments)
            .arg(format!("{}=127.0.0.1:{health}", addresses[0]))
            .arg(format!("{}=127.0.0.1:{metrics}", addresses[1]));
        Self {
            running: Running::start(command, program).expect("the program starts"),
            health,
            metrics,
        }
    }

    async fn is_ready(&self) {
        soon("readiness", || {
            get(self.health, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
    }

    /// Checks that its metrics say that it leads.
    fn leads(&self) {
        let metrics = get(self.metrics, "/metrics").expect("an answer");
        assert!(
            metrics.contains("cluster_proxy_manager_leading 1"),
            "{metrics}"
        );
    }

    /// Asks it to end, and gives its exit code.
    fn end(&mut self) -> Option<i32> {
        let ended = self.running.terminate_within(LIMIT);
        ended.expect("it is ours").code()
    }
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

async fn soon<O: Outcome>(what: &str, mut look: impl FnMut() -> O) -> O::Value {
    eventually(LIMIT, what, async || look()).await
}

const LIMIT: Duration = Duration::from_secs(60);
