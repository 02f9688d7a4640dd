//! `cluster-proxy controllers` as a process, with the command line of a Go chart, against an
//! embedded hub.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_identity::ca::CertificateAuthority;
use cluster_proxy_identity::certificate::CertificateFacts;
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_runtime::drain::Drain;
use serde_json::{Value, json};
use tempfile::TempDir;

const NAMESPACE: &str = "open-cluster-management-addon";

/// Killed with the test.
struct Controllers {
    child: Child,
    health: u16,
    metrics: u16,
}

impl Controllers {
    fn start(kubeconfig: &str) -> Self {
        let (health, metrics) = (free_port(), free_port());
        let child = Command::new(env!("CARGO_BIN_EXE_cluster-proxy"))
            .arg("controllers")
            .arg(format!("--certificates-namespace={NAMESPACE}"))
            .arg(format!("--signer-secret-namespace={NAMESPACE}"))
            .args(["--agent-image=quay.io/open-cluster-management/cluster-proxy:v1"])
            .args(["--enable_leader_election", "--v=2", "--logtostderr=true"])
            .args(["--kubeconfig", kubeconfig, "--namespace", NAMESPACE])
            .arg(format!("--health-probe-addr=127.0.0.1:{health}"))
            .arg(format!("--metrics-addr=127.0.0.1:{metrics}"))
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

impl Drop for Controllers {
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
async fn makes_the_certificate_that_a_go_manager_needs() {
    drop(install_crypto_provider());
    let hub = EmbeddedKube::start(Config::new("hub"), &Drain::new())
        .await
        .expect("it starts");
    let crd = serde_json::to_value(cluster_proxy_kube_api::managed_proxy_configuration::crd());
    let apply = |object: Value| drop(hub.apply(&object).expect("it is taken"));
    apply(crd.expect("a definition"));
    apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
    apply(json!({
        "apiVersion": "proxy.open-cluster-management.io/v1alpha1",
        "kind": "ManagedProxyConfiguration", "metadata": {"name": "cluster-proxy"},
        "spec": {
            "authentication": {}, "proxyServer": {"image": "i"}, "proxyAgent": {"image": "i"},
        },
    }));
    let folder = TempDir::new().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, hub.admin_kubeconfig()).expect("a file");
    let mut controllers = Controllers::start(kubeconfig.to_str().expect("UTF-8"));

    soon("readiness", || {
        get(controllers.health, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    })
    .await;
    let holder = || -> Option<String> {
        let version = "coordination.k8s.io/v1";
        let lease = hub.get(version, "Lease", NAMESPACE, "cluster-proxy-service-proxy")?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    };
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
    let metrics = get(controllers.metrics, "/metrics").expect("an answer");
    assert!(
        metrics.contains("cluster_proxy_manager_leading 1"),
        "{metrics}"
    );
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
    assert_eq!(controllers.end().await, Some(0));
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
