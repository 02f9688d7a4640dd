//! Our proxy-server and proxy-agent beside the kube-apiserver.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_proxy_testkit::certificates::CertificateFolder;
use cluster_proxy_testkit::lab::Cluster;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::program;

/// Both, with the ports that they have by default.
pub(crate) struct Hub {
    cluster: Cluster,
    /// The socket is in its folder, too.
    pub(crate) certificates: CertificateFolder,
    pub(crate) server: Running,
    agent: RefCell<Option<Running>>,
}

const START_LIMIT: Duration = Duration::from_secs(20);

impl Hub {
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let certificates = CertificateFolder::new(&["127.0.0.1"])?;
        let mut command = cluster.command(program());
        command
            .arg("proxy-server")
            .arg(certificates.flag("uds-name", "server.sock"))
            .args(certificates.frontend_flags())
            .args(certificates.agent_port_flags())
            .arg("--proxy-strategies=default");
        let server = Running::start("proxy-server", command)?;
        let hub = Self {
            cluster: cluster.clone(),
            certificates,
            server,
            agent: RefCell::default(),
        };
        hub.agent_returns()?;
        Ok(hub)
    }

    /// Starts an agent, and waits until the server has it.
    pub(crate) fn agent_returns(&self) -> Result<()> {
        let mut command = self.cluster.command(program());
        command
            .arg("proxy-agent")
            .arg("--proxy-server-host=127.0.0.1")
            .args(self.certificates.agent_flags())
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
