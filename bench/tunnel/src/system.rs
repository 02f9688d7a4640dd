//! The systems compared: a hub and an agent (or two relays), started as programs of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster_proxy_testkit::certificates::CertificateFolder;
use cluster_proxy_testkit::free_port;
use cluster_proxy_testkit::konnectivity::KonnectivityPrograms;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_testkit::process_usage::cpu_seconds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::front::{Front, Protocol};
use crate::lanes::{self, CONNECTED};
use crate::process::Memory;
use crate::rathole::Rathole;

/// Whose programs, and what they speak with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Ours at both ends: a lane.
    Ours,
    /// Our proxy-server, Go's agent: konnectivity.
    OursGo,
    /// Go's proxy-server, our agent: konnectivity.
    GoOurs,
    /// Go's at both ends, for gRPC clients.
    GoGrpc,
    /// Go's at both ends, for CONNECT clients.
    GoConnect,
    /// Two relays: the floor.
    TwoHops,
    /// One relay, which dials the target by TCP.
    OneHop,
    /// rathole at both ends: a port for each target, TLS between them.
    Rathole,
}

impl Kind {
    pub(crate) fn is_go(self) -> bool {
        matches!(self, Self::GoGrpc | Self::GoConnect)
    }

    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::TwoHops | Self::OneHop)
    }

    /// The front that Go's server has, or that our own is measured by.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::GoOurs | Self::GoConnect => "http-connect",
            _ => "grpc",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours, lane",
            Self::OursGo => "ours × Go agent",
            Self::GoOurs => "Go server × ours",
            Self::GoGrpc => "Go, grpc",
            Self::GoConnect => "Go, http-connect",
            Self::TwoHops => "two-hop relay",
            Self::OneHop => "one-hop relay",
            Self::Rathole => "rathole",
        })
    }
}

/// Programs and certificates.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) go: KonnectivityPrograms,
    /// Our program, a release build as in the image.
    pub(crate) ours: PathBuf,
    pub(crate) certificates: CertificateFolder,
    /// rathole's program and the files that configure it, where it takes part.
    pub(crate) rathole: Option<Rathole>,
}

impl Workshop {
    pub(crate) fn new(ours: PathBuf) -> Result<Self> {
        ensure!(
            ours.is_file(),
            "{}: build it first (make bench-tunnel does)",
            ours.display()
        );
        Ok(Self {
            go: KonnectivityPrograms::find()?,
            ours,
            certificates: CertificateFolder::new(&["127.0.0.1"])?,
            rathole: None,
        })
    }

    fn ours(&self, command: &str) -> Command {
        let mut program = Command::new(&self.ours);
        program.arg(command).arg("--log-level=warn");
        program
    }

    fn this_program(&self, role: &str) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(role)
            .arg("--certificates")
            .arg(self.certificates.folder());
        Ok(command)
    }
}

/// A hub and its agent, connected.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) kind: Kind,
    pub(crate) proxy: SocketAddr,
    agent_port: u16,
    pub(crate) hub: Running,
    pub(crate) agent: Option<Running>,
    /// Where targets have ports of their own.
    ports: BTreeMap<SocketAddr, SocketAddr>,
}

impl System {
    pub(crate) async fn start(workshop: &Workshop, kind: Kind) -> Result<Self> {
        if kind == Kind::Rathole {
            return Self::start_rathole(workshop).await;
        }
        let mut system = Self::start_hub(workshop, kind).await?;
        system.agent = match kind {
            Kind::OneHop | Kind::TwoHops => system.agent,
            _ => Some(start_agent(workshop, kind, system.agent_port).await?),
        };
        Ok(system)
    }

    /// Without an agent, but for relays.
    pub(crate) async fn start_hub(workshop: &Workshop, kind: Kind) -> Result<Self> {
        let (port, agent_port) = (free_port()?, free_port()?);
        let proxy = SocketAddr::from(([127, 0, 0, 1], port));
        let mut agent = None;
        let mut command = match kind {
            Kind::OneHop | Kind::TwoHops => {
                let mut hub = workshop.this_program("relay")?;
                hub.arg(format!("--listen={proxy}"));
                if kind == Kind::TwoHops {
                    let next = SocketAddr::from(([127, 0, 0, 1], agent_port));
                    let mut far = workshop.this_program("relay")?;
                    far.arg(format!("--listen={next}"));
                    agent = Some(Running::start("relay far", far)?);
                    until("the far relay listens", async || {
                        TcpStream::connect(next).await.is_ok()
                    })
                    .await?;
                    hub.arg(format!("--next={next}"));
                }
                hub
            }
            Kind::Rathole => bail!("rathole's two ends start together"),
            Kind::Ours | Kind::OursGo => workshop.ours("proxy-server"),
            Kind::GoOurs | Kind::GoGrpc | Kind::GoConnect => workshop.go.proxy_server(),
        };
        if !kind.is_floor() {
            command
                .arg(format!("--mode={}", kind.mode()))
                .arg("--server-bind-address=127.0.0.1")
                .arg(format!("--server-port={port}"))
                .args(workshop.certificates.frontend_flags())
                .arg("--agent-bind-address=127.0.0.1")
                .arg(format!("--agent-port={agent_port}"))
                .args(workshop.certificates.agent_port_flags())
                .arg("--health-bind-address=127.0.0.1")
                .arg(format!("--health-port={}", free_port()?))
                .arg("--admin-bind-address=127.0.0.1")
                .arg(format!("--admin-port={}", free_port()?));
        }
        let hub = Running::start(format!("{kind}: hub"), command)?;
        until("the hub listens", async || {
            TcpStream::connect(proxy).await.is_ok()
        })
        .await
        .with_context(|| kind.to_string())?;
        Ok(Self {
            kind,
            proxy,
            agent_port,
            hub,
            agent,
            ports: BTreeMap::new(),
        })
    }

    async fn start_rathole(workshop: &Workshop) -> Result<Self> {
        let rathole = workshop.rathole.as_ref().context("no rathole")?;
        let started = rathole.start().await?;
        Ok(Self {
            kind: Kind::Rathole,
            proxy: started.server,
            agent_port: started.server.port(),
            hub: started.hub,
            agent: Some(started.agent),
            ports: started.ports,
        })
    }

    /// One more of Go's agents.
    pub(crate) async fn add_agent(&self, workshop: &Workshop) -> Result<Running> {
        start_agent(workshop, self.kind, self.agent_port).await
    }

    /// One process with so many idle agents, all connected.
    pub(crate) fn add_idle_agents(&self, workshop: &Workshop, count: usize) -> Result<Running> {
        let mut command = workshop.this_program("lanes")?;
        command
            .arg(format!("--server=127.0.0.1:{}", self.agent_port))
            .arg(format!("--count={count}"));
        let agents = Running::start("idle agents", command)?;
        agents.wait_for_line(CONNECTED, LANES_LIMIT)?;
        Ok(agents)
    }

    /// The way in by that protocol.
    pub(crate) fn front(&self, workshop: &Workshop, protocol: Protocol) -> Result<Front> {
        if protocol == Protocol::Tcp {
            return Ok(Front::Ports(self.ports.clone()));
        }
        Front::new(
            protocol,
            self.proxy,
            &workshop.certificates.client_tls("client")?,
        )
    }

    /// What both have used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Ok(Usage {
            hub: cpu_seconds(self.hub.id())?,
            agent: match &self.agent {
                Some(agent) => cpu_seconds(agent.id())?,
                None => 0.0,
            },
        })
    }

    /// What both take now.
    pub(crate) fn memory(&self) -> Result<[Memory; 2]> {
        Ok([
            Memory::of(self.hub.id())?,
            match &self.agent {
                Some(agent) => Memory::of(agent.id())?,
                None => Memory::default(),
            },
        ])
    }
}

/// CPU seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) hub: f64,
    pub(crate) agent: f64,
}

impl Usage {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            hub: self.hub - before.hub,
            agent: self.agent - before.agent,
        }
    }

    pub(crate) fn total(self) -> f64 {
        self.hub + self.agent
    }
}

async fn start_agent(workshop: &Workshop, kind: Kind, server_port: u16) -> Result<Running> {
    let health = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = match kind {
        Kind::Ours | Kind::GoOurs => workshop.ours("proxy-agent"),
        Kind::OursGo | Kind::GoGrpc | Kind::GoConnect => workshop.go.proxy_agent(),
        Kind::TwoHops | Kind::OneHop | Kind::Rathole => bail!("{kind}: not an agent of this kind"),
    };
    command
        .arg("--proxy-server-host=127.0.0.1")
        .arg(format!("--proxy-server-port={server_port}"))
        .args(workshop.certificates.agent_flags())
        .arg("--health-server-host=127.0.0.1")
        .arg(format!("--health-server-port={}", health.port()))
        .arg("--admin-bind-address=127.0.0.1")
        .arg(format!("--admin-server-port={}", free_port()?))
        // The machine's own proxies lead nowhere on the loopback address.
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy");
    if kind == Kind::Ours {
        // What it is anywhere but on the loopback address, where a port-forward is supposed.
        command.arg("--lanes=2");
    }
    let agent = Running::start(format!("{kind}: agent"), command)?;
    until("the agent is connected", async || is_ready(health).await)
        .await
        .with_context(|| kind.to_string())?;
    Ok(agent)
}

/// Both programs' agents are ready when a server has taken them.
async fn is_ready(health: SocketAddr) -> bool {
    let ask = async {
        let mut socket = TcpStream::connect(health).await?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {health}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        socket.read_exact(&mut status).await?;
        std::io::Result::Ok(status)
    };
    matches!(timeout(LOOK, ask).await, Ok(Ok(status)) if status.ends_with(b" 200"))
}

pub(crate) async fn until(what: &str, look: impl AsyncFn() -> bool) -> Result<()> {
    let end = Instant::now() + START_LIMIT;
    while !look().await {
        ensure!(Instant::now() < end, "not within {START_LIMIT:?}: {what}");
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Until a started program is there.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Until all idle agents are connected: a millisecond of CPU each on an idle machine.
const LANES_LIMIT: Duration = Duration::from_secs(60);

const LOOK: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One of this program's other roles; see [`lanes`] and [`crate::relay`].
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// A relay of the floor.
    Relay(crate::relay::RelayArgs),
    /// Many idle agents.
    Lanes(lanes::LanesArgs),
}
