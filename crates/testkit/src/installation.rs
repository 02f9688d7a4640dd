//! cluster-proxy installed by hand in the lab, as docs/by-hand.md tells a user: the hub's roles
//! run in the hub's network, the agent's roles in the managed cluster's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::lab::{Cluster, Lab};
use crate::process::Running;

/// The managed cluster's name, first part of every URL.
pub const CLUSTER: &str = "managed";

/// Namespace of the user-server's account on the hub.
const HUB_NAMESPACE: &str = "open-cluster-management-addon";

/// That account.
const HUB_ACCOUNT: &str = "cluster-proxy-addon-user";

/// Namespace of the service-proxy's account on the managed cluster.
const AGENT_NAMESPACE: &str = "open-cluster-management-cluster-proxy";

/// That account.
const AGENT_ACCOUNT: &str = "cluster-proxy";

/// From the last program's start until the first request goes through.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The four roles, running. They are killed when this is dropped.
#[derive(Debug)]
pub struct Installation {
    pub proxy_server: Running,
    pub user_server: Running,
    pub proxy_agent: Running,
    pub service_proxy: Running,
    lab: Lab,
    program: PathBuf,
    log_level: &'static str,
    folder: TempDir,
}

impl Installation {
    /// Makes certificates and accounts, starts the roles, and waits until they are ready.
    /// `program` is the `cluster-proxy` to run.
    ///
    /// # Errors
    /// When anything of that fails.
    pub fn start(lab: &Lab, program: &Path) -> Result<Self> {
        Self::start_at(lab, program, "info")
    }

    /// The same, with roles that log at `log_level` (`warn` leaves requests out).
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(lab: &Lab, program: &Path, log_level: &'static str) -> Result<Self> {
        ensure!(program.exists(), "{}: not built", program.display());
        let folder = TempDir::new().context("a folder for certificates")?;
        let hub_ip = lab.hub.node_ip().to_string();
        run(Command::new(program)
            .arg("certs")
            .arg("--out")
            .arg(folder.path())
            .args([
                "--cluster",
                CLUSTER,
                "--cluster",
                "offline",
                "--san",
                &hub_ip,
            ]))?;
        lab.hub
            .apply(include_str!("../../../docs/by-hand/hub.yaml"))?;
        lab.managed
            .apply(include_str!("../../../docs/by-hand/managed.yaml"))?;
        let roles = Roles {
            lab,
            program,
            folder: folder.path(),
            log_level,
        };
        let hub = roles.kubeconfig(&lab.hub, HUB_NAMESPACE, HUB_ACCOUNT)?;
        let managed = roles.kubeconfig(&lab.managed, AGENT_NAMESPACE, AGENT_ACCOUNT)?;
        let installation = Self {
            proxy_server: roles.proxy_server()?,
            user_server: roles.user_server(&hub, &[])?,
            service_proxy: roles.service_proxy(&managed, &[])?,
            proxy_agent: roles.proxy_agent()?,
            lab: lab.clone(),
            program: program.to_owned(),
            log_level,
            folder,
        };
        installation.wait_until_ready()?;
        Ok(installation)
    }

    /// `https://<hub's node>:9092`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}:9092", self.lab.hub.node_ip())
    }

    /// PEM of the CA that signed every certificate here, the user-server's among them.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A file of the folder that `cluster-proxy certs` wrote.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the proxy-agent again after it was ended.
    ///
    /// # Errors
    /// When it cannot be started, or does not connect.
    pub fn restart_proxy_agent(&mut self) -> Result<()> {
        let Self {
            lab,
            program,
            log_level,
            folder,
            ..
        } = &*self;
        let roles = Roles {
            lab,
            program,
            folder: folder.path(),
            log_level,
        };
        self.proxy_agent = roles.proxy_agent()?;
        self.wait_until_ready()
    }

    /// Ends the service-proxy and starts it again with more flags.
    ///
    /// # Errors
    /// When it cannot be ended or started, or does not become ready.
    pub fn restart_service_proxy(&mut self, flags: &[&str]) -> Result<()> {
        self.service_proxy.kill()?;
        let roles = Roles {
            lab: &self.lab,
            program: &self.program,
            folder: self.folder.path(),
            log_level: self.log_level,
        };
        let kubeconfig = self
            .folder
            .path()
            .join(format!("{AGENT_ACCOUNT}.kubeconfig"));
        self.service_proxy = roles.service_proxy(&kubeconfig, flags)?;
        self.wait_until_ready()
    }

    /// A second user-server, on `port`, with more flags.
    ///
    /// # Errors
    /// When it cannot be started, or does not become ready.
    pub fn another_user_server(&self, port: u16, flags: &[&str]) -> Result<Running> {
        let roles = Roles {
            lab: &self.lab,
            program: &self.program,
            folder: self.folder.path(),
            log_level: self.log_level,
        };
        let kubeconfig = self.folder.path().join(format!("{HUB_ACCOUNT}.kubeconfig"));
        let own = [
            format!("--server-port={port}"),
            format!("--health-probe-bind-address=:{}", port + 1),
        ];
        let flags: Vec<_> = own
            .iter()
            .map(String::as_str)
            .chain(flags.iter().copied())
            .collect();
        let server = roles.user_server(&kubeconfig, &flags)?;
        wait_until_ready(&self.lab.hub, &server, port + 1)?;
        Ok(server)
    }

    /// A kubeconfig of somebody who comes through the user-server.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn user_kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        let user = json!({ "token": token });
        let server = format!("{}/{CLUSTER}", self.url());
        std::fs::write(&path, kubeconfig(&server, &self.ca(), &user))?;
        Ok(path)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let all = [
            (&self.lab.hub, &self.proxy_server, 8092),
            (&self.lab.hub, &self.user_server, 8000),
            (&self.lab.managed, &self.service_proxy, 8000),
            (&self.lab.managed, &self.proxy_agent, 8093),
        ];
        for (cluster, role, port) in all {
            wait_until_ready(cluster, role, port)?;
        }
        Ok(())
    }
}

fn wait_until_ready(cluster: &Cluster, role: &Running, port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/readyz");
    let limit = START_LIMIT.as_secs().to_string();
    let mut curl = cluster.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--retry-all-errors"])
        .args([
            "--retry",
            "300",
            "--retry-delay",
            "0",
            "--retry-max-time",
            &limit,
            &url,
        ]);
    run(&mut curl).with_context(|| {
        format!(
            "{} is not ready; its log:\n{}",
            role.name(),
            role.lines().join("\n")
        )
    })
}

/// How each role is started.
struct Roles<'a> {
    lab: &'a Lab,
    program: &'a Path,
    folder: &'a Path,
    log_level: &'static str,
}

impl Roles<'_> {
    fn proxy_server(&self) -> Result<Running> {
        let mut command = self.command(&self.lab.hub, "proxy-server");
        self.pair(
            &mut command,
            "--server-cert",
            "--server-key",
            "hub/proxy-server",
        );
        self.pair(
            &mut command,
            "--cluster-cert",
            "--cluster-key",
            "hub/agent-server",
        );
        command
            .arg("--server-ca-cert")
            .arg(self.folder.join("ca.crt"))
            .arg("--cluster-ca-cert")
            .arg(self.folder.join("ca.crt"))
            .args(["--proxy-strategies=destHost", "--agent-identity=cluster"])
            .args(["--graceful-shutdown-timeout=2s"]);
        Running::start("proxy-server", command)
    }

    fn user_server(&self, kubeconfig: &Path, flags: &[&str]) -> Result<Running> {
        let mut command = self.command(&self.lab.hub, "user-server");
        self.pair(
            &mut command,
            "--server-cert",
            "--server-key",
            "hub/user-server",
        );
        self.pair(
            &mut command,
            "--proxy-cert",
            "--proxy-key",
            "hub/user-server-client",
        );
        command
            .args(["--host=127.0.0.1", "--port=8090"])
            .arg("--proxy-ca-cert")
            .arg(self.folder.join("ca.crt"))
            .arg("--service-proxy-ca-cert")
            .arg(self.folder.join("ca.crt"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--namespace", HUB_NAMESPACE])
            .args(["--min-drain-duration=1s", "--drain-timeout=5s"])
            .args(flags);
        Running::start("user-server", command)
    }

    fn service_proxy(&self, kubeconfig: &Path, flags: &[&str]) -> Result<Running> {
        let mut command = self.in_cluster_dns(&self.lab.managed, "service-proxy")?;
        self.pair(
            &mut command,
            "--cert",
            "--key",
            &format!("clusters/{CLUSTER}/service-proxy"),
        );
        command
            .arg("--client-ca-cert")
            .arg(self.folder.join("ca.crt"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--min-drain-duration=1s", "--drain-timeout=5s"])
            .args(flags);
        Running::start("service-proxy", command)
    }

    fn proxy_agent(&self) -> Result<Running> {
        let mut command = self.command(&self.lab.managed, "proxy-agent");
        let pair = format!("clusters/{CLUSTER}/proxy-agent");
        self.pair(&mut command, "--agent-cert", "--agent-key", &pair);
        command
            .arg("--ca-cert")
            .arg(self.folder.join("ca.crt"))
            .arg(format!("--proxy-server-host={}", self.lab.hub.node_ip()))
            .args([
                "--proxy-server-port=8091",
                "--service-proxy-address=127.0.0.1:7443",
            ])
            .arg("--drain-timeout=2s");
        Running::start("proxy-agent", command)
    }

    fn command(&self, cluster: &Cluster, role: &str) -> Command {
        let mut command = cluster.command(self.program);
        command.arg(role).arg("--log-level").arg(self.log_level);
        command
    }

    /// As [`Self::command`], with the cluster's DNS, as pods have it.
    fn in_cluster_dns(&self, cluster: &Cluster, role: &str) -> Result<Command> {
        let server = cluster.kubectl(&[
            "get",
            "service",
            "kube-dns",
            "-n",
            "kube-system",
            "-o",
            "jsonpath={.spec.clusterIP}",
        ])?;
        let file = self.folder.join("resolv.conf");
        let search = "search svc.cluster.local cluster.local";
        std::fs::write(
            &file,
            format!("nameserver {server}\n{search}\noptions ndots:5\n"),
        )?;
        let mut command = cluster.command("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"")
            .arg(file)
            .arg(self.program)
            .arg(role)
            .arg("--log-level")
            .arg(self.log_level);
        Ok(command)
    }

    fn pair(&self, command: &mut Command, cert_flag: &str, key_flag: &str, name: &str) {
        command
            .arg(cert_flag)
            .arg(self.folder.join(format!("{name}.crt")))
            .arg(key_flag)
            .arg(self.folder.join(format!("{name}.key")));
    }

    /// A kubeconfig of a service account, as a role outside of a pod needs it.
    fn kubeconfig(&self, cluster: &Cluster, namespace: &str, account: &str) -> Result<PathBuf> {
        let token =
            cluster.kubectl(&["create", "token", account, "-n", namespace, "--duration=8h"])?;
        let token_file = self.folder.join(format!("{account}.token"));
        std::fs::write(&token_file, token.trim())?;
        let ca = cluster.kubectl(&[
            "get",
            "configmap",
            "kube-root-ca.crt",
            "-n",
            namespace,
            "-o",
            "jsonpath={.data.ca\\.crt}",
        ])?;
        let ca_file = self.folder.join(format!("{account}.ca.crt"));
        std::fs::write(&ca_file, ca)?;
        let path = self.folder.join(format!("{account}.kubeconfig"));
        let user = json!({ "tokenFile": token_file });
        std::fs::write(&path, kubeconfig(&cluster.api_url(), &ca_file, &user))?;
        Ok(path)
    }
}

/// JSON is YAML.
fn kubeconfig(server: &str, ca: &Path, user: &serde_json::Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            { "name": "cluster", "cluster": { "server": server, "certificate-authority": ca } },
        ],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "context", "context": { "cluster": "cluster", "user": "user" } }],
        "current-context": "context",
    })
    .to_string()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
