//! The lab is what the other suites take it for: two healthy clusters with
//! pods and DNS, of one issuer name but different keys, and a fence that the
//! hub cannot get through.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::lab::{Cluster, Lab};
use cluster_proxy_testkit::process::Running;
use serde_json::Value;

/// A curl exit code: no connection within the time given.
const TIMED_OUT: i32 = 28;

/// A namespace that goes with the test, also when it fails.
struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Namespace<'a> {
    fn new(cluster: &'a Cluster, purpose: &str) -> anyhow::Result<Self> {
        let name = format!("testkit-{purpose}-{}", std::process::id());
        cluster.kubectl(&["create", "namespace", &name])?;
        Ok(Self { cluster, name })
    }

    fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", &self.name], args].concat())
    }

    /// A pod named `web` that answers every request on port 8080.
    fn start_web(&self, lab: &Lab) -> anyhow::Result<()> {
        let script = "mkdir /tmp/www && echo hello > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": self.name, "labels": {"app": "web"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "web", "image": lab.tools_image(), "imagePullPolicy": "Never",
                    "command": ["sh", "-c", script],
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                }],
            },
        });
        self.cluster.apply(&pod.to_string())?;
        self.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])?;
        Ok(())
    }

    fn exec(&self, command: &[&str]) -> anyhow::Result<String> {
        self.kubectl(&[&["exec", "web", "--"], command].concat())
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let _ = self
            .cluster
            .kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// What curl ends with, dialling from a cluster's node.
fn dial(from: &Cluster, url: &str) -> anyhow::Result<Option<i32>> {
    let mut curl = from.command("curl");
    curl.args([
        "--silent",
        "--insecure",
        "--noproxy",
        "*",
        "--connect-timeout",
        "2",
        url,
    ]);
    Ok(curl.output().context("run curl")?.status.code())
}

#[test]
fn nodes_are_ready() -> anyhow::Result<()> {
    let lab = Lab::get()?;
    for cluster in [&lab.hub, &lab.managed] {
        cluster.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "node",
            cluster.name(),
            "--timeout=30s",
        ])?;
        let version: Value = serde_json::from_str(&cluster.kubectl(&["version", "-o", "json"])?)?;
        assert_eq!(version["serverVersion"]["gitVersion"], "v1.35.4");
        assert_eq!(version["clientVersion"]["gitVersion"], "v1.35.4");
    }
    Ok(())
}

#[test]
fn a_pod_runs_in_each_cluster_and_dns_answers_it() -> anyhow::Result<()> {
    let lab = Lab::get()?;
    for cluster in [&lab.hub, &lab.managed] {
        let namespace = Namespace::new(cluster, "pods")?;
        namespace.start_web(&lab)?;
        namespace.kubectl(&["expose", "pod", "web", "--port=80", "--target-port=8080"])?;

        let lookup = namespace.exec(&["nslookup", "kubernetes.default.svc.cluster.local"])?;
        ensure!(lookup.contains("Name:"), "{lookup}");
        // By the name of a Service just made: DNS, kube-proxy and the pod network.
        let url = format!("http://web.{}.svc/", namespace.name);
        let body = eventually_blocking(Duration::from_secs(15), "the Service answers", || {
            namespace.exec(&["curl", "-sS", "--max-time", "3", &url])
        });
        assert_eq!(body, "hello\n");
        let logs = namespace.kubectl(&["logs", "web"])?;
        assert_eq!(logs, "");
    }
    Ok(())
}

#[test]
fn the_hub_cannot_dial_the_managed_cluster() -> anyhow::Result<()> {
    let lab = Lab::get()?;
    let on_managed = Namespace::new(&lab.managed, "fence")?;
    on_managed.start_web(&lab)?;
    on_managed.kubectl(&[
        "expose",
        "pod",
        "web",
        "--port=80",
        "--target-port=8080",
        "--type=NodePort",
    ])?;
    let port = on_managed.kubectl(&[
        "get",
        "service",
        "web",
        "-o",
        "jsonpath={.spec.ports[0].nodePort}",
    ])?;
    let node_port = format!("http://{}:{port}/", lab.managed.node_ip());

    // It is there, for its own node and for the machine.
    eventually_blocking(Duration::from_secs(15), "the NodePort answers", || {
        dial(&lab.managed, &node_port).is_ok_and(|code| code == Some(0))
    });

    let on_hub = Namespace::new(&lab.hub, "fence")?;
    on_hub.start_web(&lab)?;
    for url in [node_port, lab.managed.api_url()] {
        assert_eq!(
            dial(&lab.hub, &url)?,
            Some(TIMED_OUT),
            "from the hub's node to {url}"
        );
        let script = format!("curl -sk --connect-timeout 2 {url} >/dev/null; echo $?");
        let code = on_hub.exec(&["sh", "-c", &script])?;
        assert_eq!(
            code.trim(),
            TIMED_OUT.to_string(),
            "from a pod of the hub to {url}"
        );
    }

    // The other way is open, from the node and from a pod.
    assert_eq!(dial(&lab.managed, &lab.hub.api_url())?, Some(0));
    on_managed.exec(&["curl", "-sk", "--connect-timeout", "5", &lab.hub.api_url()])?;
    Ok(())
}

#[test]
fn both_clusters_have_one_issuer_name_and_different_keys() -> anyhow::Result<()> {
    let lab = Lab::get()?;
    let issuer = |cluster: &Cluster| -> anyhow::Result<Value> {
        let document = cluster.kubectl(&["get", "--raw", "/.well-known/openid-configuration"])?;
        Ok(serde_json::from_str::<Value>(&document)?["issuer"].take())
    };
    assert_eq!(issuer(&lab.hub)?, issuer(&lab.managed)?);
    let keys = |cluster: &Cluster| cluster.kubectl(&["get", "--raw", "/openid/v1/jwks"]);
    assert_ne!(keys(&lab.hub)?, keys(&lab.managed)?);

    // A token of one is nobody in the other.
    let token = lab.hub.kubectl(&["create", "token", "default"])?;
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "metadata": {"name": "review"}, "spec": {"token": token},
    });
    for (cluster, authenticated) in [(&lab.hub, true), (&lab.managed, false)] {
        let args = ["create", "-o", "json", "-f", "-"];
        let reviewed = cluster.kubectl_with_input(&args, &review.to_string())?;
        let reviewed: Value = serde_json::from_str(&reviewed)?;
        let status = &reviewed["status"]["authenticated"];
        assert_eq!(
            status.as_bool().unwrap_or(false),
            authenticated,
            "{}",
            cluster.name()
        );
    }
    Ok(())
}

#[test]
fn a_program_runs_in_the_network_of_its_cluster() -> anyhow::Result<()> {
    let lab = Lab::get()?;
    let mut command = lab.managed.command("sh");
    command.args([
        "-c",
        "ip -4 -brief address show eth0; echo pid $$; exec sleep 60",
    ]);
    let mut running = Running::start("in managed", command)?;
    let address = running.wait_for_line("eth0", Duration::from_secs(10))?;
    ensure!(
        address.contains(&lab.managed.node_ip().to_string()),
        "{address}"
    );
    // Nothing stands between the test and the program: signals reach it.
    running.wait_for_line(&format!("pid {}", running.id()), Duration::from_secs(10))?;
    ensure!(
        running.terminate()?.code().is_none(),
        "sleep ends by the signal"
    );
    Ok(())
}
