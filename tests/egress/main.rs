//! A real kube-apiserver whose egress selector leads through our proxy-server and proxy-agent: logs,
//! exec, port-forward and an admission webhook, by each transport that a kube-apiserver has, with the
//! configuration that docs/konnectivity.md shows.
//!
//! It runs beside the lab's own in the managed cluster, on another port and with the same flags, etcd
//! and keys; the kubelet is the lab's.

mod apiserver;
mod configuration;
mod hub;
mod webhook;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::lab::{Cluster, Lab};
use cluster_proxy_testkit::process::Running;
use cluster_proxy_testkit::{eventually_blocking, free_port};
use serde_json::json;

use crate::apiserver::Apiserver;
use crate::configuration::Transport;
use crate::hub::Hub;
use crate::webhook::Webhook;

struct Fixture {
    managed: Cluster,
    namespace: String,
    hub: Hub,
    webhook: Webhook,
}

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "egress",
        Fixture::new,
        &[
            ("HTTP CONNECT on a Unix socket", |f: &Fixture| {
                f.works_through(Transport::HttpConnectUnix, "unix socket")
            }),
            ("gRPC on a Unix socket", |f: &Fixture| {
                f.works_through(Transport::GrpcUnix, "unix socket")
            }),
            ("HTTP CONNECT over mTLS", |f: &Fixture| {
                f.works_through(Transport::HttpConnectTls, "proxy-client")
            }),
            ("without an agent", Fixture::without_an_agent),
        ],
    )
}

/// Until a pod of the tools image runs.
const POD_LIMIT: Duration = Duration::from_secs(60);

/// For one kubectl.
const LIMIT: Duration = Duration::from_secs(20);

const POD: &str = "talker";

/// What the pod says, and what its port serves.
const SAYS: &str = "hello from the pod";
const NUMBERS: u32 = 100_000;

/// What somebody says who looks into the pod, and the code it ends with.
const ECHOED: &str = "said to a pod";
const CODE: i32 = 7;

impl Fixture {
    fn new() -> Result<Self> {
        let lab = Lab::get()?;
        let managed = lab.managed.clone();
        let namespace = format!("testkit-egress-{}", std::process::id());
        managed.kubectl(&["create", "namespace", &namespace])?;
        let hub = Hub::start(&managed)?;
        let webhook = Webhook::start(&namespace, &hub)?;
        for object in webhook.objects() {
            managed.apply(&object.to_string())?;
        }
        let command = format!(
            "echo {SAYS}; mkdir /tmp/www; seq 1 {NUMBERS} >/tmp/www/numbers; \
             exec busybox httpd -f -p 8080 -h /tmp/www"
        );
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": POD, "namespace": namespace},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": POD, "image": lab.tools_image(), "imagePullPolicy": "Never",
                    "command": ["sh", "-c", command],
                }],
            },
        });
        managed.apply(&pod.to_string())?;
        let ready = format!("--timeout={}s", POD_LIMIT.as_secs());
        let pod = format!("pod/{POD}");
        managed.kubectl(&[
            "wait",
            "--for=condition=Ready",
            &pod,
            "-n",
            &namespace,
            &ready,
        ])?;
        Ok(Self {
            managed,
            namespace,
            hub,
            webhook,
        })
    }

    /// All that kubectl does with a pod, and what the proxy-server says of it.
    fn works_through(&self, transport: Transport, client: &str) -> Result<()> {
        let before = self.hub.server.lines().len();
        let apiserver = Apiserver::start(&self.managed, &self.hub, transport)?;
        self.logs(&apiserver)?;
        self.exec(&apiserver)?;
        self.port_forward(&apiserver)?;
        self.webhook_decides(&apiserver)?;
        drop(apiserver);
        let kubelet = format!("dialled=\"{}:10250\"", self.managed.node_ip());
        let webhook = format!("dialled=\"{}\"", self.webhook.address());
        let lines = || self.hub.server.lines().split_off(before);
        for (target, count) in [(&kubelet, 3), (&webhook, 1)] {
            eventually_blocking(LIMIT, format!("{count} connections with {target}"), || {
                let lines = lines();
                let through = lines.iter().filter(|line| {
                    line.contains(target) && line.contains(client) && line.contains("access:")
                });
                let seen = through.count();
                ensure!(seen >= count, "{seen} of them; {lines:#?}");
                Ok(())
            });
        }
        Ok(())
    }

    fn logs(&self, apiserver: &Apiserver) -> Result<()> {
        let output = apiserver
            .kubectl(&["logs", POD, "-n", &self.namespace])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.trim() == SAYS, "logs: {output:?}");
        Ok(())
    }

    fn exec(&self, apiserver: &Apiserver) -> Result<()> {
        let script = format!("cat; exit {CODE}");
        let arguments = [
            "exec",
            "-i",
            POD,
            "-n",
            &self.namespace,
            "--",
            "sh",
            "-c",
            &script,
        ];
        let mut child = apiserver
            .kubectl(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("no stdin")?
            .write_all(ECHOED.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.stdout == ECHOED.as_bytes() && output.status.code() == Some(CODE),
            "exec: {output:?}"
        );
        Ok(())
    }

    fn port_forward(&self, apiserver: &Apiserver) -> Result<()> {
        let port = free_port()?;
        let ports = format!("{port}:8080");
        let pod = format!("pod/{POD}");
        let command = apiserver.kubectl(&["port-forward", &pod, &ports, "-n", &self.namespace]);
        let forward = Running::start("kubectl port-forward", command)?;
        forward.wait_for_line("Forwarding from", LIMIT)?;
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.write_all(b"GET /numbers HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no head")?;
        let expected: String = (1..=NUMBERS).map(|number| format!("{number}\n")).collect();
        ensure!(body == expected, "port-forward: {} bytes", body.len());
        Ok(())
    }

    fn webhook_decides(&self, apiserver: &Apiserver) -> Result<()> {
        let create = |name: &str| {
            apiserver
                .kubectl(&["create", "configmap", name, "-n", &self.namespace])
                .output()
        };
        let asked = self.webhook.asked();
        let denied = create(webhook::DENIED)?;
        let said = String::from_utf8_lossy(&denied.stderr);
        ensure!(
            !denied.status.success() && said.contains(webhook::REASON),
            "webhook: {denied:?}"
        );
        let allowed = create("allowed")?;
        ensure!(allowed.status.success(), "webhook: {allowed:?}");
        ensure!(
            self.webhook.asked() >= asked + 2,
            "the webhook was not asked"
        );
        let deleted = apiserver
            .kubectl(&["delete", "configmap", "allowed", "-n", &self.namespace])
            .output()?;
        ensure!(deleted.status.success(), "{deleted:?}");
        Ok(())
    }

    /// Each transport says that there is no agent, and comes back with one.
    fn without_an_agent(&self) -> Result<()> {
        self.hub.agent_ends()?;
        // The words of a gRPC answer are Go's, those of HTTP CONNECT the status line alone.
        for (transport, said) in [
            (Transport::HttpConnectUnix, "503 Service Unavailable"),
            (Transport::GrpcUnix, "No agent available"),
            (Transport::HttpConnectTls, "503 Service Unavailable"),
        ] {
            let apiserver = Apiserver::start(&self.managed, &self.hub, transport)?;
            let output = apiserver
                .kubectl(&["logs", POD, "-n", &self.namespace])
                .output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(
                !output.status.success() && error.contains(said),
                "{transport:?}: {output:?}"
            );
            if transport == Transport::HttpConnectTls {
                self.hub.agent_returns()?;
                self.logs(&apiserver)?;
            }
        }
        Ok(())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // The lab is thrown away; what is left of a failed run harms no other.
        let _ =
            self.managed
                .kubectl(&["delete", "validatingwebhookconfiguration", &self.namespace]);
        let _ = self
            .managed
            .kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
