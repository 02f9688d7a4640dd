//! The chart installed in the lab, and how steps look at it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::lab::Lab;
use cluster_proxy_tests::http::{Answer, curl};
use cluster_proxy_tests::objects;
pub(crate) use cluster_proxy_tests::objects::{condition_is, get, message};
use serde_json::Value;
use tempfile::TempDir;

/// Where the hub's part is installed.
pub(crate) const ADDON_NAMESPACE: &str = "open-cluster-management-addon";

/// Where agents are in managed clusters, unless something else is said.
pub(crate) const AGENT_NAMESPACE: &str = "open-cluster-management-cluster-proxy";

/// The user-server's Service as pods of the hub call it.
pub(crate) const USER_SERVER: &str = "cluster-proxy-addon-user.open-cluster-management-addon.svc";

/// What the hub user of the story may list.
pub(crate) const PODS: &str = "api/v1/namespaces/open-cluster-management-agent/pods";

/// Pods have to be started, certificates asked for, approved and mounted; OCM looks at leases
/// once in a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// Labels of an agent's pods.
const AGENT_PODS: &str = "proxy.open-cluster-management.io/component-name=proxy-agent";

/// Two clusters with OCM, the image in both, and a hub user.
pub(crate) struct Setting {
    pub(crate) lab: Lab,
    /// The image's tar.
    pub(crate) image: PathBuf,
    /// For files of a step.
    pub(crate) folder: TempDir,
    token: String,
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        let image = std::env::var("CLUSTER_PROXY_IMAGE")
            .context("CLUSTER_PROXY_IMAGE is not set: make test SUITE=variants sets it")?;
        let image = PathBuf::from(image);
        let lab = Lab::with_ocm()?;
        let account = "{apiVersion: v1, kind: ServiceAccount, metadata: \
                       {name: test-sa, namespace: open-cluster-management-hub}}";
        lab.hub.apply(account)?;
        lab.managed.apply(include_str!("../test-sa.yaml"))?;
        for cluster in [&lab.hub, &lab.managed] {
            cluster.import_image(&image)?;
        }
        let arguments = ["-n", "open-cluster-management-hub", "create", "token"];
        let token = lab.hub.kubectl(&[&arguments[..], &["test-sa"]].concat())?;
        Ok(Self {
            lab,
            image,
            folder: TempDir::new()?,
            token: token.trim().to_owned(),
        })
    }

    /// Installs the chart with `values`, or brings what is installed to exactly these.
    pub(crate) fn install(&self, values: &[&str]) -> Result<()> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/cluster-proxy");
        let chart = chart.display().to_string();
        let mut arguments = vec!["upgrade", "--install", "--reset-values", "-n"];
        arguments.extend([
            ADDON_NAMESPACE,
            "--create-namespace",
            "cluster-proxy",
            &chart,
        ]);
        for value in ALWAYS.iter().chain(values) {
            arguments.extend(["--set", value]);
        }
        self.lab.hub.helm(&arguments)?;
        Ok(())
    }

    /// [`Self::install`] with an address at which agents reach the hub.
    pub(crate) fn install_at_address(&self, values: &[&str]) -> Result<()> {
        let address = self.lab.hub.node_ip();
        let address = format!("proxyServer.entrypointAddress={address}");
        let own = [address.as_str(), "proxyServer.port=30091"];
        self.install(&[&own, values].concat())?;
        let service = include_str!("../install/entrypoint.yaml");
        self.lab.hub.apply(service)?;
        Ok(())
    }

    /// What kubectl prints about the hub's part.
    pub(crate) fn hub(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["--namespace", ADDON_NAMESPACE], arguments].concat();
        self.lab.hub.kubectl(&all)
    }

    /// What kubectl prints about the agent of `managed`.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["--namespace", AGENT_NAMESPACE], arguments].concat();
        self.lab.managed.kubectl(&all)
    }

    /// The ManagedClusterAddOn of a cluster.
    pub(crate) fn addon(&self, cluster: &str) -> Result<Value> {
        objects::addon(&self.lab.hub, cluster)
    }

    /// The ManagedProxyConfiguration.
    pub(crate) fn configuration(&self) -> Result<Value> {
        get(
            &self.lab.hub,
            &["managedproxyconfiguration", "cluster-proxy"],
        )
    }

    /// Waits until OCM says that the addon of `cluster` is available.
    pub(crate) fn is_available(&self, cluster: &str) {
        eventually("the addon is Available", || {
            condition_is(&self.addon(cluster)?, "Available", "True").map(drop)
        });
    }

    /// Asks as the hub user, for `path` of `cluster`, believing only the CA that the Secret of the
    /// user-server's certificate names. `name` is what the server is called.
    pub(crate) fn ask_server(&self, name: &str, cluster: &str, path: &str) -> Result<Answer> {
        let secret = "cluster-proxy-user-serving-cert";
        let ca = self.hub(&["get", "secret", secret, "-o", &base64_field("ca.crt")])?;
        let file = self.folder.path().join("user-server-ca.crt");
        std::fs::write(&file, ca)?;
        let service = "service/cluster-proxy-addon-user";
        let ip = self.hub(&["get", service, "-o", "jsonpath={.spec.clusterIP}"])?;
        let resolve = format!("{name}:9092:{}", ip.trim());
        let bearer = format!("Authorization: Bearer {}", self.token);
        let file = file.display().to_string();
        let url = format!("https://{name}:9092/{cluster}/{path}");
        let mut arguments = vec!["--noproxy", "*", "--cacert", &file, "--resolve", &resolve];
        arguments.extend(["-H", &bearer, &url]);
        curl(self.lab.hub.command("curl"), &arguments)
    }

    /// [`Self::ask_server`] at the name of its Service.
    pub(crate) fn ask(&self, cluster: &str, path: &str) -> Result<Answer> {
        self.ask_server(USER_SERVER, cluster, path)
    }

    /// Waits until the pods of a cluster, on a node of that name, come back.
    pub(crate) fn goes_through(&self, cluster: &str, node: &str) {
        eventually("pods come back", || {
            let answer = self.ask(cluster, PODS)?;
            ensure!(answer.code == 200, "{}: {}", answer.code, answer.body);
            objects::lists_the_agent(&answer.json()?, node)
        });
    }

    /// Waits until every pod of the agent of `managed` in `namespace` is ready and as `check` wants
    /// it, and gives one.
    pub(crate) fn agent_pod(
        &self,
        namespace: &str,
        what: &str,
        check: impl Fn(&Value) -> Result<()>,
    ) -> Value {
        eventually(what, || {
            let pods = ["pods", "-n", namespace, "-l", AGENT_PODS];
            let pods = get(&self.lab.managed, &pods)?;
            let pods = pods["items"].as_array().context("no items")?;
            for pod in pods {
                let name = &pod["metadata"]["name"];
                check(pod).with_context(|| format!("pod {name}"))?;
                let leaving = pod["metadata"]["deletionTimestamp"].is_string();
                ensure!(!leaving, "{name} is still there");
                condition_is(pod, "Ready", "True")?;
            }
            pods.first().cloned().context("no pod")
        })
    }
}

/// Waits until `check` is met, at most [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, check: impl FnMut() -> Result<T>) -> T {
    eventually_blocking(PATIENCE, what, check)
}

/// The container of a pod.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> Result<&'a Value> {
    let containers = pod["spec"]["containers"].as_array();
    let mut containers = containers.into_iter().flatten();
    let found = containers.find(|container| container["name"] == name);
    found.with_context(|| format!("no container {name}"))
}

/// Whether a container has the argument.
pub(crate) fn has_argument(container: &Value, argument: &str) -> Result<()> {
    let arguments = container["args"].as_array().context("no arguments")?;
    ensure!(
        arguments.iter().any(|it| it == argument),
        "no {argument} in {arguments:?}"
    );
    Ok(())
}

/// kubectl's output format for one field of a Secret, decoded.
pub(crate) fn base64_field(name: &str) -> String {
    format!("go-template={{{{index .data \"{name}\" | base64decode}}}}")
}

/// Values of every variant here: no cert-manager, and hub users come in.
const ALWAYS: [&str; 3] = [
    "enableServiceProxy=true",
    "userServer.enabled=true",
    "userServer.additionalSANs={proxy.lab.test,192.0.2.7}",
];
