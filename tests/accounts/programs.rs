//! Servers and agents of konnectivity, Go's and ours, with the same flags.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::certificates::CertificateFolder;
use cluster_proxy_testkit::konnectivity::KonnectivityPrograms;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_testkit::{eventually_blocking, free_port};
use cluster_proxy_tests::program;

use crate::{health, last_words};

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Go,
    Ours,
}

/// Go's programs and one CA's certificates.
pub(crate) struct Workshop {
    go: KonnectivityPrograms,
    pub(crate) certificates: CertificateFolder,
}

impl Workshop {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            go: KonnectivityPrograms::find()?,
            certificates: CertificateFolder::new(&["127.0.0.1"])?,
        })
    }

    fn program(&self, whose: Whose, name: &str) -> Command {
        let mut command = match (whose, name) {
            (Whose::Go, "proxy-server") => self.go.proxy_server(),
            (Whose::Go, _) => self.go.proxy_agent(),
            (Whose::Ours, _) => {
                let mut command = Command::new(program());
                command.arg(name);
                command
            }
        };
        // The machine's own proxies lead neither to the loopback address nor into the lab.
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env_remove(name);
        }
        command
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) program: Running,
    agent_port: u16,
    health_port: u16,
}

impl Server {
    /// Starts it with `flags` beside those for ports and certificates.
    pub(crate) fn start(workshop: &Workshop, whose: Whose, flags: &[String]) -> Result<Self> {
        let (agent_port, health_port) = (free_port()?, free_port()?);
        let certificates = &workshop.certificates;
        let mut command = workshop.program(whose, "proxy-server");
        command
            .arg("--server-bind-address=127.0.0.1")
            .arg(format!("--server-port={}", free_port()?))
            .args(certificates.frontend_flags())
            .arg("--agent-bind-address=127.0.0.1")
            .arg(format!("--agent-port={agent_port}"))
            .arg(certificates.flag("cluster-cert", "agent-server.crt"))
            .arg(certificates.flag("cluster-key", "agent-server.key"))
            .arg("--health-bind-address=127.0.0.1")
            .arg(format!("--health-port={health_port}"))
            .arg(format!("--admin-port={}", free_port()?))
            .args(flags);
        let program = Running::start(format!("{whose:?} proxy-server"), command)?;
        eventually_blocking(START_LIMIT, "the server listens", || {
            let (code, body) = health(health_port, "/healthz")?;
            ensure!(code == 200, "{code}: {body}");
            Ok(())
        });
        Ok(Self {
            program,
            agent_port,
            health_port,
        })
    }

    /// How many connections of agents it has refused for this reason.
    pub(crate) fn refusals(&self, reason: &str) -> Result<u64> {
        let name =
            format!("cluster_proxy_server_agent_tokens_refused_total{{reason=\"{reason}\"}} ");
        let (_, metrics) = health(self.health_port, "/metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(Ok(0), |count| Ok(count.parse()?))
    }
}

/// An agent that runs.
pub(crate) struct Agent {
    pub(crate) program: Running,
    pub(crate) whose: Whose,
    health_port: u16,
}

impl Agent {
    /// Starts it towards `server`, with `flags` for what it proves.
    pub(crate) fn start(
        workshop: &Workshop,
        whose: Whose,
        server: &Server,
        flags: &[String],
    ) -> Result<Self> {
        let health_port = free_port()?;
        let certificates = &workshop.certificates;
        let mut command = workshop.program(whose, "proxy-agent");
        command
            .arg("--proxy-server-host=127.0.0.1")
            .arg(format!("--proxy-server-port={}", server.agent_port))
            .arg(certificates.flag("ca-cert", "ca.crt"))
            .arg("--health-server-host=127.0.0.1")
            .arg(format!("--health-server-port={health_port}"))
            .arg(format!("--admin-server-port={}", free_port()?))
            .args(flags);
        if flags.is_empty() {
            // It has to prove something, and this is no token.
            command
                .arg(certificates.flag("agent-cert", "agent.crt"))
                .arg(certificates.flag("agent-key", "agent.key"));
        }
        Ok(Self {
            program: Running::start(format!("{whose:?} proxy-agent"), command)?,
            whose,
            health_port,
        })
    }

    /// Waits until a server has taken it.
    pub(crate) fn connected(&self, limit: Duration) {
        eventually_blocking(limit, "the agent is connected", || {
            ensure!(self.is_ready()?, "{}", last_words(&self.program));
            Ok(())
        });
    }

    pub(crate) fn is_ready(&self) -> Result<bool> {
        Ok(health(self.health_port, "/readyz")?.0 == 200)
    }

    /// Waits until it knows of so many servers.
    pub(crate) fn counts(&self, servers: u32, limit: Duration) {
        let name = "konnectivity_network_proxy_agent_known_server_count ";
        eventually_blocking(limit, "the agent counts the servers", || {
            let (_, metrics) = health(self.health_port, "/metrics")?;
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            let count = line.with_context(|| format!("no {name}"))?;
            ensure!(
                count == servers.to_string(),
                "{:?} agent counts {count}, not {servers}",
                self.whose
            );
            Ok(())
        });
    }
}

/// Until a program that was started answers.
const START_LIMIT: Duration = Duration::from_secs(20);
