//! Servers behind one address for agents and one for users, and agents, all processes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_testkit::balancer::Balancer;
use cluster_proxy_testkit::certificates::{CertificateFiles, CertificateFolder};
use cluster_proxy_testkit::process::Running;
use cluster_proxy_testkit::{eventually_blocking, free_port};
use cluster_proxy_tests::program;
use cluster_proxy_tunnel::{DialerConfig, DialerMetrics, ProxyServerDialer, Target};
use tokio::runtime::Runtime;

/// What all hubs of the suite share: one CA's certificates, and a runtime for what is no process.
pub(crate) struct Workshop {
    pub(crate) runtime: Runtime,
    pub(crate) certificates: CertificateFolder,
}

/// Until started programs are connected.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a server that is terminated lets open connections run.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

impl Workshop {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let certificates = CertificateFolder::new(&["127.0.0.1", "::1", "localhost"])?;
        certificates.issue("client", &Leaf::user_server_client())?;
        Ok(Self {
            runtime,
            certificates,
        })
    }

    /// The user-server's own dialer towards `address`.
    pub(crate) fn dialer(&self, address: SocketAddr) -> Result<ProxyServerDialer> {
        dialer(address, &self.certificates)
    }

    /// A server that says there are `count`.
    pub(crate) fn server(&self, id: &str, count: usize, host: IpAddr) -> Result<Server> {
        let ports = (free_port()?, free_port()?, free_port()?);
        self.server_at(id, count, host, ports)
    }

    fn server_at(
        &self,
        id: &str,
        count: usize,
        host: IpAddr,
        ports: (u16, u16, u16),
    ) -> Result<Server> {
        let (frontend, agents, health) = ports;
        let mut command = Command::new(program());
        command
            .arg("proxy-server")
            .arg(format!("--server-bind-address={host}"))
            .arg(format!("--server-port={frontend}"))
            .args(self.certificates.frontend_flags())
            .arg(format!("--agent-bind-address={host}"))
            .arg(format!("--agent-port={agents}"))
            .args(self.certificates.agent_port_flags())
            .arg("--agent-identity=cluster")
            .arg("--proxy-strategies=destHost,default")
            .arg(format!("--server-id={id}"))
            .arg(format!("--server-count={count}"))
            .arg("--health-bind-address=127.0.0.1")
            .arg(format!("--health-port={health}"))
            .arg(format!("--graceful-shutdown-timeout={}s", DRAIN.as_secs()));
        let server = Server {
            running: Running::start(format!("proxy-server {id}"), command)?,
            frontend: SocketAddr::new(host, frontend),
            agents: SocketAddr::new(host, agents),
            health,
        };
        eventually_blocking(START_LIMIT, "the server listens", || {
            server.metric("cluster_proxy_server_lanes").map(|_| ())
        });
        Ok(server)
    }

    /// The same server again, at the same addresses, after it has ended.
    pub(crate) fn restart(&self, server: &Server, id: &str, count: usize) -> Result<Server> {
        let ports = (server.frontend.port(), server.agents.port(), server.health);
        self.server_at(id, count, server.frontend.ip(), ports)
    }

    /// An agent of the cluster `managed` that dials `host` at `port`.
    pub(crate) fn agent(&self, (host, port): (&str, u16), more: &[&str]) -> Result<Running> {
        let mut command = Command::new(program());
        command
            .arg("proxy-agent")
            .arg(format!("--proxy-server-host={host}"))
            .arg(format!("--proxy-server-port={port}"))
            .args(self.certificates.agent_flags())
            .arg("--health-server-host=127.0.0.1")
            .arg(format!("--health-server-port={}", free_port()?))
            .arg("--lanes=2")
            .arg("--sync-interval=200ms")
            .arg("--sync-interval-cap=1s")
            .arg(format!("--drain-timeout={}s", DRAIN.as_secs()))
            .args(more)
            // The machine's own proxies lead nowhere on the loopback address.
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy");
        Running::start("proxy-agent", command)
    }
}

/// As in [`Workshop::dialer`], also for a process that has the files only.
pub(crate) fn dialer(
    address: SocketAddr,
    certificates: &CertificateFiles,
) -> Result<ProxyServerDialer> {
    let tls = certificates.client_tls("client")?;
    let server = Target::new(&address.ip().to_string(), address.port())?;
    let config = DialerConfig::new(server, tls);
    Ok(ProxyServerDialer::new(config, DialerMetrics::default())?)
}

/// A running server.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) frontend: SocketAddr,
    pub(crate) agents: SocketAddr,
    health: u16,
}

impl Server {
    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.health))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name}"))?.parse()?)
    }

    /// Waits until this many agents are connected, each with the lanes that it keeps; while it was
    /// busy it may have got more.
    pub(crate) fn has_agents(&self, count: usize, limit: Duration) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        eventually_blocking(limit, format!("{count} agents"), || {
            let agents = self.metric("cluster_proxy_server_connected_agents")?;
            let lanes = self.metric("cluster_proxy_server_lanes")?;
            ensure!(
                agents == f64::from(count) && lanes >= f64::from(count * LANES),
                "{agents} agents, {lanes} lanes"
            );
            Ok(())
        });
    }
}

/// Several servers and agents that are connected to all of them.
pub(crate) struct Hub<'w> {
    pub(crate) workshop: &'w Workshop,
    pub(crate) servers: Vec<Server>,
    pub(crate) agents: Vec<Running>,
    pub(crate) agent_side: Balancer,
    pub(crate) user_side: Balancer,
}

/// Lanes that each agent of these tests keeps to each server.
const LANES: u32 = 2;

impl<'w> Hub<'w> {
    pub(crate) fn start(workshop: &'w Workshop, servers: usize, agents: usize) -> Result<Self> {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let all: Vec<_> = (0..servers)
            .map(|index| workshop.server(&format!("server-{index}"), servers, here))
            .collect::<Result<_>>()?;
        let balancer = |side: fn(&Server) -> SocketAddr| {
            workshop
                .runtime
                .block_on(Balancer::start(all.iter().map(side).collect()))
        };
        let (agent_side, user_side) = (
            balancer(|server| server.agents)?,
            balancer(|server| server.frontend)?,
        );
        let mut hub = Self {
            workshop,
            servers: all,
            agents: Vec::new(),
            agent_side,
            user_side,
        };
        for _ in 0..agents {
            hub.add_agent(&[])?;
        }
        hub.is_connected();
        Ok(hub)
    }

    pub(crate) fn add_agent(&mut self, more: &[&str]) -> Result<()> {
        let entrypoint = ("127.0.0.1", self.agent_side.address().port());
        self.agents.push(self.workshop.agent(entrypoint, more)?);
        Ok(())
    }

    /// Waits until every agent is connected to every server, with all its lanes.
    pub(crate) fn is_connected(&self) {
        for server in &self.servers {
            server.has_agents(self.agents.len(), START_LIMIT);
        }
    }

    /// Leads to the servers there are now.
    pub(crate) fn update_balancers(&self) {
        let side = |side: fn(&Server) -> SocketAddr| self.servers.iter().map(side).collect();
        self.agent_side.set_backends(side(|server| server.agents));
        self.user_side.set_backends(side(|server| server.frontend));
    }
}
