//! Our proxy-server and proxy-agent beside the kube-apiserver.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_testkit::lab::Cluster;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::program;
use tempfile::TempDir;

/// Both, with the ports that they have by default.
pub(crate) struct Hub {
    cluster: Cluster,
    ca: CertificateAuthority,
    folder: TempDir,
    pub(crate) server: Running,
    agent: RefCell<Option<Running>>,
}

const START_LIMIT: Duration = Duration::from_secs(20);

impl Hub {
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let folder = TempDir::new()?;
        let here = || vec!["127.0.0.1".to_owned()];
        let ca = CertificateAuthority::generate()?;
        std::fs::write(folder.path().join("ca.crt"), ca.cert_pem())?;
        for (name, leaf) in [
            ("server", Leaf::proxy_server(here())),
            ("agent-server", Leaf::agent_server(here())),
            ("agent", Leaf::proxy_agent(&"managed".parse()?)),
            ("client", Leaf::proxy_client()),
        ] {
            issue(&ca, folder.path(), name, &leaf)?;
        }
        let path = folder.path();
        let flag = |flag: &str, file: &str| format!("--{flag}={}", path.join(file).display());
        let mut command = cluster.command(program());
        command
            .arg("proxy-server")
            .arg(flag("uds-name", "server.sock"))
            .arg(flag("server-cert", "server.crt"))
            .arg(flag("server-key", "server.key"))
            .arg(flag("server-ca-cert", "ca.crt"))
            .arg(flag("cluster-cert", "agent-server.crt"))
            .arg(flag("cluster-key", "agent-server.key"))
            .arg(flag("cluster-ca-cert", "ca.crt"))
            .arg("--proxy-strategies=default");
        let server = Running::start("proxy-server", command)?;
        let hub = Self {
            cluster: cluster.clone(),
            ca,
            folder,
            server,
            agent: RefCell::default(),
        };
        hub.agent_returns()?;
        Ok(hub)
    }

    /// The socket is in it, and every certificate.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn ca_certificate(&self) -> &str {
        self.ca.cert_pem()
    }

    /// One more certificate, as `<name>.crt` and `<name>.key` in the folder.
    pub(crate) fn issue(&self, name: &str, leaf: &Leaf) -> Result<()> {
        issue(&self.ca, self.folder(), name, leaf)
    }

    /// Starts an agent, and waits until the server has it.
    pub(crate) fn agent_returns(&self) -> Result<()> {
        let path = self.folder();
        let flag = |flag: &str, file: &str| format!("--{flag}={}", path.join(file).display());
        let mut command = self.cluster.command(program());
        command
            .arg("proxy-agent")
            .arg("--proxy-server-host=127.0.0.1")
            .arg(flag("ca-cert", "ca.crt"))
            .arg(flag("agent-cert", "agent.crt"))
            .arg(flag("agent-key", "agent.key"))
            .env("NO_PROXY", "*");
        let agent = Running::start("proxy-agent", command)?;
        agent.wait_for_line("connected to a proxy-server", START_LIMIT)?;
        self.agent.replace(Some(agent));
        Ok(())
    }

    /// The agent is killed, and the server has seen it.
    pub(crate) fn agent_ends(&self) -> Result<()> {
        let mut agent = self.agent.take().context("there is no agent")?;
        agent.kill()?;
        self.server
            .wait_for_line("agent disconnected", START_LIMIT)?;
        Ok(())
    }
}

fn issue(ca: &CertificateAuthority, folder: &Path, name: &str, leaf: &Leaf) -> Result<()> {
    let issued = ca.issue(leaf)?;
    std::fs::write(folder.join(format!("{name}.crt")), &issued.cert_pem)?;
    std::fs::write(folder.join(format!("{name}.key")), &*issued.key_pem)?;
    Ok(())
}
