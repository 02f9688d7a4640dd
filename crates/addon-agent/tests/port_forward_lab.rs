//! The PortForward entrypoint against the real kube-apiserver and kubelet of the lab's hub, with an
//! account that has the rights that the crate's documentation names and no others.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cluster_proxy_addon_agent::{AddonAgent, Config, LeaseConfig, PortForwardConfig};
use cluster_proxy_identity::tls::{FlagFile, install_crypto_provider};
use cluster_proxy_kube_client::{Connection, FollowedKubeconfig};
use cluster_proxy_runtime::drain::{Drain, DrainLimits};
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_testkit::eventually;
use cluster_proxy_testkit::lab::{Cluster, Lab};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What the pods serve, and where nothing listens.
const PORT: u16 = 8091;
const DEAD_PORT: u16 = 8099;

/// Lines of the large file: some 13 MB, so that every buffer on the way fills.
const LINES: usize = 1_800_000;

/// A namespace of the hub with two web servers that look like proxy-servers, and an account.
struct Hub {
    cluster: Cluster,
    namespace: String,
    folder: tempfile::TempDir,
}

impl Hub {
    fn new(lab: &Lab) -> anyhow::Result<Self> {
        let hub = Self {
            cluster: lab.hub.clone(),
            namespace: format!("testkit-port-forward-{}", std::process::id()),
            folder: tempfile::tempdir()?,
        };
        let namespace = &hub.namespace;
        hub.cluster
            .kubectl(&["create", "namespace", namespace.as_str()])?;
        hub.kubectl(&["create", "serviceaccount", "agent"])?;
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
             "verbs": ["get", "create", "update"]},
        ]);
        let api = "rbac.authorization.k8s.io";
        for object in [
            json!({"apiVersion": format!("{api}/v1"), "kind": "Role",
                   "metadata": {"name": "agent", "namespace": namespace}, "rules": rules}),
            json!({"apiVersion": format!("{api}/v1"), "kind": "RoleBinding",
                   "metadata": {"name": "agent", "namespace": namespace},
                   "roleRef": {"apiGroup": api, "kind": "Role", "name": "agent"},
                   "subjects": [{"kind": "ServiceAccount", "name": "agent"}]}),
        ] {
            hub.cluster.apply(&object.to_string())?;
        }
        for pod in ["server-0", "server-1"] {
            hub.start_server(lab, pod)?;
        }
        let selector = "proxy.open-cluster-management.io/component-name=proxy-server";
        let wait = ["wait", "--for=condition=Ready", "pod", "-l", selector];
        hub.kubectl(&[&wait[..], &["--timeout=60s"]].concat())?;
        hub.write_kubeconfig()?;
        Ok(hub)
    }

    fn start_server(&self, lab: &Lab, name: &str) -> anyhow::Result<()> {
        let script = format!(
            "mkdir /tmp/www && hostname > /tmp/www/name && seq {LINES} > /tmp/www/large && \
             exec httpd -f -p {PORT} -h /tmp/www"
        );
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {
                "proxy.open-cluster-management.io/component-name": "proxy-server",
            }},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": lab.tools_image(), "imagePullPolicy": "Never",
                    "command": ["sh", "-c", script],
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                }],
            },
        });
        self.cluster.apply(&pod.to_string())?;
        Ok(())
    }

    fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", &self.namespace], args].concat())
    }

    fn write_kubeconfig(&self) -> anyhow::Result<()> {
        let path = r"jsonpath={.data.ca\.crt}";
        let ca = self.kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", path])?;
        let ca_file = self.folder.path().join("ca.crt");
        std::fs::write(&ca_file, ca)?;
        let token = self.kubectl(&["create", "token", "agent"])?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "hub",
            "clusters": [{"name": "hub", "cluster": {
                "server": self.cluster.api_url(), "certificate-authority": ca_file,
            }}],
            "users": [{"name": "agent", "user": {"token": token.trim()}}],
            "contexts": [{"name": "hub", "context": {
                "cluster": "hub", "user": "agent", "namespace": self.namespace,
            }}],
        });
        std::fs::write(
            self.folder.path().join("kubeconfig"),
            kubeconfig.to_string(),
        )?;
        Ok(())
    }

    fn file(&self) -> FlagFile {
        FlagFile::new("--hub-kubeconfig", self.folder.path().join("kubeconfig"))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self
            .cluster
            .kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// An addon-agent in this process, whose managed cluster is the hub too.
struct Agent {
    address: std::net::SocketAddr,
    registry: Arc<Registry>,
    readiness: Readiness,
    drain: Drain,
    running: JoinHandle<()>,
}

impl Agent {
    async fn start(hub: &Hub, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let config = Config {
            lease: LeaseConfig {
                managed: Connection::from_kubeconfig(hub.file(), None)?,
                namespace: hub.namespace.clone(),
                proxy_agent: None,
            },
            port_forward: Some(PortForwardConfig {
                listener,
                hub: FollowedKubeconfig::load(hub.file())?,
                namespace: hub.namespace.clone(),
                port,
            }),
        };
        let (mut registry, readiness) = (Registry::default(), Readiness::new());
        let agent = AddonAgent::new(config, &mut registry, &readiness);
        let drain = Drain::new();
        let running = tokio::spawn(agent.run(drain.clone()));
        Ok(Self {
            address,
            registry: Arc::new(registry),
            readiness,
            drain,
            running,
        })
    }

    fn counts(&self, sample: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.registry).is_ok() && text.lines().any(|line| line == sample)
    }

    async fn stop(self) -> anyhow::Result<()> {
        let limits = DrainLimits {
            min: Duration::ZERO,
            limit: Duration::from_secs(5),
        };
        ensure!(self.drain.run(limits).await, "something was cut");
        self.running.await?;
        Ok(())
    }
}

/// Sends a request on a connection that is open already, and reads to the end.
async fn get(mut socket: TcpStream, path: &str) -> std::io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    // As a proxy-agent that has said its last word: the answer must still come whole.
    socket.shutdown().await?;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await??;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    Ok(answer.split_off(head.map_or(0, |head| head + 4)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entrypoint_reaches_pods_with_least_rights() -> anyhow::Result<()> {
    install_crypto_provider().context("the only test of this process")?;
    let hub = tokio::task::spawn_blocking(|| Hub::new(&Lab::get()?)).await??;
    let agent = Agent::start(&hub, PORT).await?;

    eventually(Duration::from_secs(10), "the Lease is made", async || {
        agent.readiness.waiting_for().is_empty()
    })
    .await;
    hub.kubectl(&["get", "lease", "cluster-proxy"])?;

    // Two connections open at the same time lead to different pods.
    let mut open = Vec::new();
    for count in 1..=2 {
        open.push(TcpStream::connect(agent.address).await?);
        let sample = format!("cluster_proxy_addon_agent_active_port_forwards {count}");
        eventually(
            Duration::from_secs(10),
            "the connection is carried",
            async || agent.counts(&sample),
        )
        .await;
    }
    let mut names = Vec::new();
    for socket in open {
        names.push(String::from_utf8(get(socket, "/name").await?)?);
    }
    names.sort();
    assert_eq!(names, ["server-0\n", "server-1\n"]);

    let large = get(TcpStream::connect(agent.address).await?, "/large").await?;
    let expected: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    ensure!(large == expected.as_bytes(), "{} bytes differ", large.len());

    eventually(
        Duration::from_secs(10),
        "clean ends are counted",
        async || agent.counts("cluster_proxy_addon_agent_port_forwards_total{result=\"closed\"} 3"),
    )
    .await;
    agent.stop().await?;

    // A port where nothing listens: an error, and never an empty answer.
    let agent = Agent::start(&hub, DEAD_PORT).await?;
    let mut socket = TcpStream::connect(agent.address).await?;
    let end = timeout(Duration::from_secs(20), socket.read(&mut [0])).await?;
    let kind = end.map_err(|error| error.kind());
    assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset));
    eventually(
        Duration::from_secs(10),
        "the error is counted",
        async || {
            agent.counts("cluster_proxy_addon_agent_port_forwards_total{result=\"pod_error\"} 1")
        },
    )
    .await;
    agent.stop().await?;

    // Without the right to forward: an error that says so, and no connection.
    hub.kubectl(&["delete", "rolebinding", "agent"])?;
    let agent = Agent::start(&hub, PORT).await?;
    let mut socket = TcpStream::connect(agent.address).await?;
    let end = timeout(Duration::from_secs(20), socket.read(&mut [0])).await?;
    ensure!(end.is_err(), "an end like any other");
    agent.stop().await
}
