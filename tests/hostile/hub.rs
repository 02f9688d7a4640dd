//! A proxy-server and its agents, as processes, and clients of it in this one.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_testkit::certificates::CertificateFolder;
use cluster_proxy_testkit::konnectivity::KonnectivityPrograms;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_testkit::{eventually, free_port};
use cluster_proxy_tests::program;
use cluster_proxy_tunnel::frontend::HTTP2_ALPN;
use cluster_proxy_tunnel::tls::{self, ServerName};
use cluster_proxy_tunnel::{DialerConfig, DialerMetrics, Http2Settings, ProxyServerDialer, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Go's programs and one CA's certificates.
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

/// A running program with an operations listener.
pub(crate) struct Program {
    pub(crate) running: Running,
    health: u16,
}

impl Program {
    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    /// The sum of the metric's series, 0 where it has none.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let text = get(self.health, "/metrics").await?;
        ensure!(text.contains("# EOF"), "half of the metrics: {text}");
        let mut sum = 0.0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').context("no value")?;
            if series.split('{').next() == Some(name) {
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    async fn ready(&self) {
        let what = format!("{} is ready", self.running.name());
        eventually(START_LIMIT, &what, async || {
            get(self.health, "/readyz").await.map(drop)
        })
        .await;
    }
}

/// Until a started program is ready.
const START_LIMIT: Duration = Duration::from_secs(20);

/// One scrape or probe.
pub(crate) const GET_LIMIT: Duration = Duration::from_secs(5);

/// The body of a 200 answer on a port of this machine.
async fn get(port: u16, path: &str) -> Result<String> {
    let getting = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        // With an end that can be seen.
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nAccept: application/openmetrics-text\r\n\
             Connection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head} {body}");
        Ok(body.to_owned())
    };
    timeout(GET_LIMIT, getting).await.context("no answer")?
}

/// A proxy-server.
pub(crate) struct Hub<'w> {
    pub(crate) workshop: &'w Workshop,
    pub(crate) server: Program,
    pub(crate) frontend: u16,
    pub(crate) agents: u16,
}

/// Whose agent, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentKind {
    Lane,
    Go,
}

impl<'w> Hub<'w> {
    /// Starts a server with more flags.
    pub(crate) async fn start(workshop: &'w Workshop, flags: &[&str]) -> Result<Self> {
        Self::start_on(workshop, (free_port()?, free_port()?), flags).await
    }

    /// The same, on these ports for clients and agents.
    pub(crate) async fn start_on(
        workshop: &'w Workshop,
        (frontend, agents): (u16, u16),
        flags: &[&str],
    ) -> Result<Self> {
        let health = free_port()?;
        let mut command = ours("proxy-server");
        command
            .arg("--server-bind-address=127.0.0.1")
            .arg(format!("--server-port={frontend}"))
            .args(workshop.certificates.frontend_flags())
            .arg("--agent-bind-address=127.0.0.1")
            .arg(format!("--agent-port={agents}"))
            .args(workshop.certificates.agent_port_flags())
            .arg("--proxy-strategies=destHost")
            .arg("--health-bind-address=127.0.0.1")
            .arg(format!("--health-port={health}"))
            // One line for each of 100,000 connections would be measured too.
            .arg("--log-level=info,access=off")
            .args(flags);
        let server = Program {
            running: Running::start("proxy-server", command)?,
            health,
        };
        server.ready().await;
        Ok(Self {
            workshop,
            server,
            frontend,
            agents,
        })
    }

    /// Starts an agent for the targets of this machine, and waits until it is connected.
    pub(crate) async fn agent(&self, kind: AgentKind, flags: &[&str]) -> Result<Program> {
        let health = free_port()?;
        let mut command = match kind {
            AgentKind::Lane => ours("proxy-agent"),
            AgentKind::Go => self.workshop.go.proxy_agent(),
        };
        command
            .arg("--proxy-server-host=127.0.0.1")
            .arg(format!("--proxy-server-port={}", self.agents))
            .args(self.workshop.certificates.agent_flags())
            .arg("--agent-identifiers=ipv4=127.0.0.1")
            .arg("--health-server-host=127.0.0.1")
            .arg(format!("--health-server-port={health}"))
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .args(flags);
        if kind == AgentKind::Go {
            command.arg(format!("--admin-server-port={}", free_port()?));
        }
        let agent = Program {
            running: Running::start(format!("{kind:?} agent"), command)?,
            health,
        };
        agent.ready().await;
        Ok(agent)
    }

    /// A client of its own connections, whose streams have windows of `window` bytes.
    pub(crate) fn client(&self, window: u32) -> Result<ProxyServerDialer> {
        let server: Target = format!("127.0.0.1:{}", self.frontend).parse()?;
        let tls = self.workshop.certificates.tls(&Leaf::proxy_client())?;
        let mut config = DialerConfig::new(server, tls);
        config.http2 = Http2Settings {
            stream_window: window,
            ..Http2Settings::default()
        };
        Ok(ProxyServerDialer::new(config, DialerMetrics::default())?)
    }

    /// What the server logged last, for a step that fails.
    pub(crate) fn log(&self) -> PathBuf {
        self.server.running.log_path().to_owned()
    }
}

/// One of our programs by its command.
fn ours(command: &str) -> Command {
    let mut program = Command::new(program());
    program.arg(command);
    program
}

/// What the streams of all programs here have.
pub(crate) const WINDOW: u32 = 1024 * 1024;

/// What no stream is without.
pub(crate) const SMALLEST_WINDOW: u32 = 65_535;

/// A client that opened so many connections to `target` and reads nothing any more, not even off
/// its socket.
pub(crate) async fn deaf_client(
    hub: &Hub<'_>,
    target: &crate::targets::Target,
    count: usize,
) -> Result<impl Sized + use<>> {
    let config = hub.workshop.certificates.tls(&Leaf::proxy_client())?;
    let config = config.with_alpn(&[HTTP2_ALPN]).config();
    let socket = TcpStream::connect(("127.0.0.1", hub.frontend)).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let tls = tls::connect(socket, name, config, START_LIMIT).await?;
    let (requests, mut connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size((1 << 31) - 1)
        .handshake::<_, bytes::Bytes>(tls.stream)
        .await?;
    let authority = target.address.to_string();
    let opening = async {
        let mut streams = Vec::new();
        for _ in 0..count {
            let request = http::Request::connect(authority.as_str()).body(())?;
            let (answer, stream) = requests
                .clone()
                .ready()
                .await?
                .send_request(request, false)?;
            streams.push((answer.await?, stream));
        }
        anyhow::Ok(streams)
    };
    let streams = tokio::select! {
        opened = opening => opened?,
        end = &mut connection => anyhow::bail!("the connection ended: {end:?}"),
    };
    Ok((streams, connection))
}
