//! The lab (`lab/` in this repository): two real Kubernetes clusters on this
//! machine, `hub` and `managed`, of which the hub cannot dial the other.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::eventually_blocking;

/// A namespace's controllers have made its default account by then.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(20);

/// Both clusters, up and healthy when it was made.
#[derive(Clone, Debug)]
pub struct Lab {
    pub hub: Cluster,
    pub managed: Cluster,
    tools_image: String,
}

/// What can be brought up on top of the two bare clusters.
#[derive(Clone, Copy, Debug)]
enum Level {
    Bare,
    Ocm,
    CertManager,
    LocalCluster,
}

impl Level {
    /// What `lab up` takes for it.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Bare => &[],
            Self::Ocm => &["ocm"],
            Self::CertManager => &["cert-manager"],
            Self::LocalCluster => &["local-cluster"],
        }
    }
}

/// One of the two clusters.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: &'static str,
    kubeconfig: PathBuf,
    node_ip: IpAddr,
    netns: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
}

impl Lab {
    /// Brings the lab up, or finds it up (in less than a second, and only once
    /// in a process). Programs that ask at once wait for each other. The first
    /// time ever on a machine builds Kubernetes and takes many minutes; what
    /// it does is on stderr.
    ///
    /// # Errors
    /// When it cannot be had: no root, no room, a cluster that does not start.
    /// A test must not take that for a reason to pass.
    pub fn get() -> anyhow::Result<Self> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        Self::once(&LAB, Level::Bare)
    }

    /// [`Lab::get`] with Open Cluster Management on both clusters: `managed` is
    /// a managed cluster of the hub by that name, joined and available. It
    /// stays there for whoever comes next.
    ///
    /// # Errors
    /// When it cannot be had, as for [`Lab::get`].
    pub fn with_ocm() -> anyhow::Result<Self> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        Self::once(&LAB, Level::Ocm)
    }

    /// [`Lab::get`] with cert-manager on the hub, ready to issue certificates.
    /// It stays there for whoever comes next. Who wants OCM as well calls both.
    ///
    /// # Errors
    /// When it cannot be had, as for [`Lab::get`].
    pub fn with_cert_manager() -> anyhow::Result<Self> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        Self::once(&LAB, Level::CertManager)
    }

    /// [`Lab::with_ocm`], and the hub is a managed cluster of its own by the name
    /// `local-cluster`. It stays there for whoever comes next.
    ///
    /// # Errors
    /// When it cannot be had, as for [`Lab::get`].
    pub fn with_local_cluster() -> anyhow::Result<Self> {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        Self::once(&LAB, Level::LocalCluster)
    }

    /// An image in both clusters, with a shell, busybox and curl. Pods use it
    /// with `imagePullPolicy: Never`.
    #[must_use]
    pub fn tools_image(&self) -> &str {
        &self.tools_image
    }

    fn once(lab: &OnceLock<Result<Self, String>>, level: Level) -> anyhow::Result<Self> {
        lab.get_or_init(|| Self::up(level).map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(anyhow::Error::msg)
    }

    fn up(level: Level) -> anyhow::Result<Self> {
        let status = lab_command("up")
            .args(level.arguments())
            .stdout(Stdio::null())
            .status();
        let status = status.with_context(|| format!("run {} up", lab_program().display()))?;
        ensure!(
            status.success(),
            "the lab did not come up ({status}): its output above says why, `lab/lab check` \
             what this machine lacks"
        );
        let output = lab_command("env")
            .arg("--json")
            .stderr(Stdio::inherit())
            .output();
        let output = output.with_context(|| format!("run {} env", lab_program().display()))?;
        ensure!(output.status.success(), "lab env --json: {}", output.status);
        let environment = serde_json::from_slice(&output.stdout).context("lab env --json")?;
        Self::from_environment(&environment)
    }

    fn from_environment(environment: &Value) -> anyhow::Result<Self> {
        let get = |name: &str| {
            environment[name]
                .as_str()
                .with_context(|| format!("lab env --json has no {name}"))
        };
        let cluster = |name, prefix| -> anyhow::Result<Cluster> {
            let node_ip = get(&format!("LAB_{prefix}_IP"))?;
            Ok(Cluster {
                name,
                kubeconfig: get(&format!("LAB_{prefix}_KUBECONFIG"))?.into(),
                node_ip: node_ip
                    .parse()
                    .with_context(|| format!("node address {node_ip}"))?,
                netns: get(&format!("LAB_{prefix}_NETNS"))?.into(),
                kubectl: get("LAB_KUBECTL")?.into(),
                helm: get("LAB_HELM")?.into(),
            })
        };
        Ok(Self {
            hub: cluster("hub", "HUB")?,
            managed: cluster("managed", "MANAGED")?,
            tools_image: get("LAB_TOOLS_IMAGE")?.to_owned(),
        })
    }
}

impl Cluster {
    /// `hub` or `managed`; its only node is called the same.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The administrator's kubeconfig (group `system:masters`).
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The address of its node, and so of its apiserver and `NodePort` services.
    #[must_use]
    pub fn node_ip(&self) -> IpAddr {
        self.node_ip
    }

    /// Its kube-apiserver, as clients outside of pods see it.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("https://{}:6443", self.node_ip)
    }

    /// The kubectl of the lab; it needs nothing but a kubeconfig.
    #[must_use]
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// The helm of the lab, at version 3. It is there with [`Lab::with_ocm`] and
    /// [`Lab::with_cert_manager`] only, which need it themselves.
    #[must_use]
    pub fn helm_program(&self) -> &Path {
        &self.helm
    }

    /// A command that runs in this cluster's network, on its node so to say:
    /// it reaches its pods and services (by address), and listens where only
    /// those reach it who reach the node. Files are this machine's. The
    /// program takes the place of what starts it, so the child's pid and exit
    /// status are its own.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let mut netns = std::ffi::OsString::from("--net=");
        netns.push(&self.netns);
        command.arg(netns).arg("--").arg(program);
        command
    }

    /// kubectl as this cluster's administrator, to be run in whatever way.
    #[must_use]
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        // A proxy for the internet is none for an address of this machine.
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("NO_PROXY", "*")
            .args(args);
        command
    }

    /// helm as this cluster's administrator, to be run in whatever way. It
    /// sees no plugins and repositories of the caller's.
    #[must_use]
    pub fn helm_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        let home = std::env::temp_dir().join("cluster-proxy-lab-helm");
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, &home);
        }
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("NO_PROXY", "*")
            .args(args);
        command
    }

    /// Loads a container image (an OCI layout or docker archive as a tar), under the names that
    /// the archive gives it. Pods use it with any pull policy but `Always`.
    ///
    /// # Errors
    /// When the cluster's containerd does not take it.
    pub fn import_image(&self, tar: &Path) -> anyhow::Result<()> {
        let status = lab_command("import").arg(self.name).arg(tar).status();
        let status = status.with_context(|| format!("run {}", lab_program().display()))?;
        let tar = tar.display();
        ensure!(status.success(), "lab import {} {tar}: {status}", self.name);
        Ok(())
    }

    /// helm as this cluster's administrator; what it printed.
    ///
    /// # Errors
    /// When helm fails, with what it said.
    pub fn helm(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.helm_command(args).stdin(Stdio::null()).output();
        self.result_of("helm", args, output.context("run helm")?)
    }

    /// kubectl as this cluster's administrator; what it printed.
    ///
    /// # Errors
    /// When kubectl fails, with what it said.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.kubectl_command(args).stdin(Stdio::null()).output();
        self.result_of("kubectl", args, output.context("run kubectl")?)
    }

    /// `kubectl apply` of a manifest.
    ///
    /// # Errors
    /// When kubectl fails, with what it said.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        self.kubectl_with_input(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            manifest,
        )
    }

    /// Makes a namespace and waits for its default account, without which no pod can be made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_namespace(&self, name: &str) -> anyhow::Result<()> {
        self.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
        ))?;
        eventually_blocking(
            ACCOUNT_LIMIT,
            format!("the default service account of {name}"),
            || self.kubectl(&["get", "serviceaccount", "default", "-n", name]),
        );
        Ok(())
    }

    /// Waits for pods of a namespace: `["pod", "--all"]`, or `["pod/NAME"]`.
    ///
    /// # Errors
    /// When one is not ready within a minute, or not there.
    pub fn wait_until_ready(&self, namespace: &str, pods: &[&str]) -> anyhow::Result<()> {
        let wait = [
            "wait",
            "-n",
            namespace,
            "--for=condition=Ready",
            "--timeout=60s",
        ];
        self.kubectl(&[&wait[..], pods].concat())?;
        Ok(())
    }

    /// [`Cluster::kubectl`] with something on stdin.
    ///
    /// # Errors
    /// When kubectl fails, with what it said.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let mut child = self
            .kubectl_command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        // Dropped at once, so that kubectl sees the end. One that fails before
        // it has read everything says why itself.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().context("wait for kubectl")?;
        self.result_of("kubectl", args, output)
    }

    fn result_of(&self, program: &str, args: &[&str], output: Output) -> anyhow::Result<String> {
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let stdout = String::from_utf8_lossy(&output.stdout);
            bail!(
                "{}: {program} {}: {}\n{stdout}{stderr}",
                self.name,
                args.join(" "),
                output.status
            );
        }
        String::from_utf8(output.stdout)
            .with_context(|| format!("{program} printed something that is not UTF-8"))
    }
}

fn lab_program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/lab")
}

fn lab_command(subcommand: &str) -> Command {
    let mut command = Command::new(lab_program());
    command.arg(subcommand).stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Value {
        serde_json::json!({
            "LAB_HUB_IP": "10.77.0.10", "LAB_MANAGED_IP": "10.77.0.20",
            "LAB_HUB_KUBECONFIG": "/state/hub/admin.kubeconfig",
            "LAB_MANAGED_KUBECONFIG": "/state/managed/admin.kubeconfig",
            "LAB_HUB_NETNS": "/run/netns/lab-hub", "LAB_MANAGED_NETNS": "/run/netns/lab-managed",
            "LAB_KUBECTL": "/cache/kubectl", "LAB_HELM": "/cache/helm",
            "LAB_TOOLS_IMAGE": "lab.local/tools:1",
        })
    }

    #[test]
    fn commands_run_in_the_network_of_their_cluster() {
        let lab = Lab::from_environment(&environment()).unwrap();
        let command = lab.managed.command("curl");
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args, ["--net=/run/netns/lab-managed", "--", "curl"]);
        assert_eq!(lab.hub.api_url(), "https://10.77.0.10:6443");
    }

    #[test]
    fn an_environment_that_lacks_something_is_an_error() {
        let mut environment = environment();
        environment["LAB_MANAGED_IP"] = Value::Null;
        let error = Lab::from_environment(&environment).unwrap_err();
        assert_eq!(error.to_string(), "lab env --json has no LAB_MANAGED_IP");
    }
}
