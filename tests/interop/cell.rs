//! The cells of the matrix: whose server, whose agent, and how a client comes to the server.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_proxy_testkit::certificates::CertificateFolder;
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::free_port;
use cluster_proxy_testkit::konnectivity::{ClientCertificate, KonnectivityPrograms};
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::http::curl;
use cluster_proxy_tests::program;

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Go,
    Ours,
}

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    Go,
    Ours,
}

/// How a client reaches the server, and which client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// The Go client package over mTLS.
    Grpc,
    /// The Go client package on a Unix socket, as a kube-apiserver beside its server does.
    GrpcUnix,
    /// CONNECT of HTTP/1.1 over mTLS.
    HttpConnect,
    /// CONNECT of HTTP/1.1 on a Unix socket.
    HttpConnectUnix,
    /// curl, with the server as its HTTPS proxy.
    Curl,
    /// CONNECT of HTTP/2 over mTLS. Go's server has none.
    Http2Connect,
}

impl Frontend {
    /// The server's `--mode`.
    fn mode(self) -> &'static str {
        match self {
            Self::HttpConnect | Self::HttpConnectUnix | Self::Curl => "http-connect",
            Self::Grpc | Self::GrpcUnix | Self::Http2Connect => "grpc",
        }
    }

    /// The Go client's `--mode`.
    fn client_mode(self) -> &'static str {
        match self {
            Self::Http2Connect => "http2-connect",
            other => other.mode(),
        }
    }

    fn is_unix(self) -> bool {
        matches!(self, Self::GrpcUnix | Self::HttpConnectUnix)
    }

    /// Whose behaviour in Go's table it is held to.
    pub(crate) fn reference(self) -> Self {
        match self {
            Self::Http2Connect => Self::HttpConnect,
            other => other,
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Grpc => "grpc",
            Self::GrpcUnix => "grpc unix",
            Self::HttpConnect => "http-connect",
            Self::HttpConnectUnix => "http-connect unix",
            Self::Curl => "curl",
            Self::Http2Connect => "http2-connect",
        })
    }
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MatrixCell {
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    pub(crate) frontend: Frontend,
}

impl MatrixCell {
    /// Whether both programs are Go's, which differ from nobody.
    pub(crate) fn is_reference(self) -> bool {
        self.server == Server::Go && self.agent == Agent::Go
    }
}

impl fmt::Display for MatrixCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            agent,
            frontend,
        } = self;
        write!(f, "{server:?} × {agent:?} × {frontend}")
    }
}

/// What all tunnels of the suite share: Go's programs and one CA's certificates.
pub(crate) struct Workshop {
    pub(crate) go: KonnectivityPrograms,
    pub(crate) certificates: CertificateFolder,
}

impl Workshop {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            go: KonnectivityPrograms::find()?,
            certificates: CertificateFolder::new(&["127.0.0.1"])?,
        })
    }
}

/// A server with one agent, ready.
pub(crate) struct Tunnel<'w> {
    pub(crate) workshop: &'w Workshop,
    pub(crate) frontend: Frontend,
    /// `host:port`, or `unix:path`.
    pub(crate) proxy: String,
    cell: MatrixCell,
    agent_port: u16,
    ports: Ports,
    server: RefCell<Running>,
    agent: RefCell<Running>,
}

/// Where both programs tell of themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) server_health: u16,
    pub(crate) server_admin: u16,
    pub(crate) agent_health: u16,
}

impl Ports {
    fn new() -> Result<Self> {
        Ok(Self {
            server_health: free_port()?,
            server_admin: free_port()?,
            agent_health: free_port()?,
        })
    }
}

impl<'w> Tunnel<'w> {
    pub(crate) fn start(workshop: &'w Workshop, cell: MatrixCell) -> Result<Self> {
        let agent_port = free_port()?;
        let ports = Ports::new()?;
        let (server, proxy) = start_server(workshop, cell, agent_port, ports)?;
        let agent = start_agent(workshop, cell, agent_port, ports)?;
        Ok(Self {
            workshop,
            frontend: cell.frontend,
            proxy,
            cell,
            agent_port,
            ports,
            server: RefCell::new(server),
            agent: RefCell::new(agent),
        })
    }

    /// The Go client, with all but its last arguments.
    pub(crate) fn client(&self, what: &str) -> Command {
        let mut command = self.workshop.go.client();
        command
            .arg(what)
            .arg(format!("--mode={}", self.frontend.client_mode()))
            .arg(format!("--proxy={}", self.proxy));
        if !self.frontend.is_unix() {
            self.certificate().add_to(&mut command);
        }
        command
    }

    pub(crate) fn certificate(&self) -> ClientCertificate {
        self.workshop.certificates.client_certificate()
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// Ends the agent as a machine that fails does.
    pub(crate) fn kill_agent(&self) -> Result<()> {
        self.agent.borrow_mut().kill()?;
        Ok(())
    }

    /// Starts another agent in place of one that was killed, and waits until it is connected.
    pub(crate) fn replace_agent(&self) -> Result<()> {
        *self.agent.borrow_mut() =
            start_agent(self.workshop, self.cell, self.agent_port, self.ports)?;
        Ok(())
    }

    /// Ends the server as a machine that fails does.
    pub(crate) fn kill_server(&self) -> Result<()> {
        self.server.borrow_mut().kill()?;
        Ok(())
    }

    /// What both programs logged last, for a cell that fails.
    pub(crate) fn last_words(&self) -> String {
        let mut words = String::new();
        for program in [&*self.server.borrow(), &*self.agent.borrow()] {
            let lines = program.lines();
            let first = lines.len().saturating_sub(LAST_WORDS);
            for line in lines.iter().skip(first) {
                words.push_str(&format!("    {}: {line}\n", program.name()));
            }
        }
        words
    }
}

/// Lines of each program that a failed cell shows.
const LAST_WORDS: usize = 10;

/// Until a started pair is connected.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The program of one of ours by its command.
fn ours(command: &str) -> Command {
    let mut program = Command::new(program());
    program.arg(command);
    program
}

/// Starts a server, and says where its frontend is. Ours takes Go's flags.
fn start_server(
    workshop: &Workshop,
    cell: MatrixCell,
    agent_port: u16,
    ports: Ports,
) -> Result<(Running, String)> {
    let mut command = match cell.server {
        Server::Go => workshop.go.proxy_server(),
        Server::Ours => ours("proxy-server"),
    };
    let proxy = if cell.frontend.is_unix() {
        let socket = workshop.certificates.file(&format!("{agent_port}.socket"));
        command
            .arg("--server-port=0")
            .arg(format!("--uds-name={}", socket.display()));
        format!("unix:{}", socket.display())
    } else {
        let port = free_port()?;
        command
            .arg("--server-bind-address=127.0.0.1")
            .arg(format!("--server-port={port}"))
            .args(workshop.certificates.frontend_flags());
        format!("127.0.0.1:{port}")
    };
    command
        .arg(format!("--mode={}", cell.frontend.mode()))
        .arg("--agent-bind-address=127.0.0.1")
        .arg(format!("--agent-port={agent_port}"))
        .args(workshop.certificates.agent_port_flags())
        .arg("--health-bind-address=127.0.0.1")
        .arg(format!("--health-port={}", ports.server_health))
        .arg("--admin-bind-address=127.0.0.1")
        .arg(format!("--admin-port={}", ports.server_admin));
    let name = format!("{:?} proxy-server {}", cell.server, cell.frontend);
    Ok((Running::start(name, command)?, proxy))
}

/// Starts an agent, and waits until it is connected.
fn start_agent(
    workshop: &Workshop,
    cell: MatrixCell,
    agent_port: u16,
    ports: Ports,
) -> Result<Running> {
    let health_port = ports.agent_health;
    let mut command = match cell.agent {
        Agent::Go => workshop.go.proxy_agent(),
        Agent::Ours => ours("proxy-agent"),
    };
    command
        .arg("--proxy-server-host=127.0.0.1")
        .arg(format!("--proxy-server-port={agent_port}"))
        .args(workshop.certificates.agent_flags())
        .arg("--health-server-host=127.0.0.1")
        .arg(format!("--health-server-port={health_port}"))
        .arg("--admin-bind-address=127.0.0.1")
        .arg(format!("--admin-server-port={}", free_port()?))
        // The machine's own proxies lead nowhere on the loopback address.
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy");
    let name = format!("{:?} proxy-agent {}", cell.agent, cell.frontend);
    let agent = Running::start(name, command)?;
    // Both programs' agents are ready when a server has taken them.
    let url = format!("http://127.0.0.1:{health_port}/readyz");
    eventually_blocking(START_LIMIT, "the agent is connected", || {
        let answer = curl(Command::new("curl"), &[&url])?;
        ensure!(answer.code == 200, "{}: {}", answer.code, answer.body);
        Ok(())
    });
    Ok(agent)
}

/// A file of the machine, for curl's arguments.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
