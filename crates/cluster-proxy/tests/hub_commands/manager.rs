//! `cluster-proxy manager` as a process, against an embedded hub.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_runtime::drain::Drain;
use serde_json::{Value, json};
use tempfile::TempDir;

const NAMESPACE: &str = "open-cluster-management-addon";

/// Killed with the test.
struct Manager {
    child: Child,
    health: u16,
    metrics: u16,
}

impl Manager {
    fn start(kubeconfig: &str) -> Self {
        let (health, metrics) = (free_port(), free_port());
        let child = Command::new(env!("CARGO_BIN_EXE_cluster-proxy"))
            .args(["manager", "--leader-elect", "--kubeconfig", kubeconfig])
            .args(["--namespace", NAMESPACE, "--identity", "one"])
            .args(["--signer-secret-namespace", NAMESPACE])
            .arg(format!("--health-probe-bind-address=127.0.0.1:{health}"))
            .arg(format!("--metrics-bind-address=127.0.0.1:{metrics}"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program starts");
        Self {
            child,
            health,
            metrics,
        }
    }

    /// Asks it to end, and gives its exit code.
    async fn end(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
        let ended = soon("the end", || self.child.try_wait().expect("it is ours")).await;
        ended.code()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

async fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let limit = Duration::from_secs(60);
    let found = tokio::time::timeout(limit, found).await;
    found.unwrap_or_else(|_| panic!("{what}: not in time"))
}

#[tokio::test(flavor = "multi_thread")]
async fn leads_works_and_gives_back() {
    drop(install_crypto_provider());
    let hub = EmbeddedKube::start(Config::new("hub"), &Drain::new())
        .await
        .expect("it starts");
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    }))
    .expect("a namespace is taken");
    let folder = TempDir::new().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, hub.admin_kubeconfig()).expect("a file");
    let mut manager = Manager::start(kubeconfig.to_str().expect("UTF-8"));

    soon("readiness", || {
        get(manager.health, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    })
    .await;
    let holder = || -> Option<String> {
        let lease = hub.get(
            "coordination.k8s.io/v1",
            "Lease",
            NAMESPACE,
            "cluster-proxy-addon-manager",
        )?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    };
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
    let metrics = get(manager.metrics, "/metrics").expect("an answer");
    assert!(
        metrics.contains("cluster_proxy_manager_leading 1"),
        "{metrics}"
    );
    assert_eq!(manager.end().await, Some(0));
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
