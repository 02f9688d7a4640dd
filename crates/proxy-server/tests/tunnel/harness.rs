//! Servers, agents, dialers and targets for one test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cluster_proxy_identity::ca::{CertificateAuthority, Issued, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use cluster_proxy_identity::{ClusterName, TunnelHost};
use cluster_proxy_proxy_agent::{Config as AgentConfig, ProxyAgent};
use cluster_proxy_proxy_server::{
    AGENT_ALPN, AgentIdentity, AgentTokens, Config, DIAL_LIMIT, Port, ProxyServer,
    ServerLeaseConfig, StatusSource, WatchedAgentTable,
};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_runtime::unix_socket::UnixSocket;
use cluster_proxy_tunnel::frontend::FRONTEND_ALPN;
use cluster_proxy_tunnel::konnectivity::KONNECTIVITY_ALPN;
use cluster_proxy_tunnel::{
    DialerConfig, DialerMetrics, Http2Settings, ProxyServerDialer, Target, TunnelStream,
};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Nothing here takes this long unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A name of the servers that nobody resolves but an HTTP proxy.
pub(crate) const HUB: &str = "hub.test";

/// A CA and what belongs to it.
pub(crate) struct World {
    pub(crate) ca: CertificateAuthority,
}

/// A running proxy-server.
pub(crate) struct Server {
    pub(crate) frontend: SocketAddr,
    pub(crate) agents: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) registry: Registry,
    pub(crate) status: StatusSource,
    /// How many connections of agents there should be.
    links: AtomicU32,
}

/// A running proxy-agent.
pub(crate) struct Agent {
    pub(crate) drain: Drain,
    pub(crate) readiness: Readiness,
}

/// Protocols of an agent port.
pub(crate) type AgentAlpn = &'static [&'static [u8]];

/// With these an agent of ours has a lane.
pub(crate) const LANES: AgentAlpn = &AGENT_ALPN;
/// And with this it has none, as at a Go server.
pub(crate) const KONNECTIVITY: AgentAlpn = &[KONNECTIVITY_ALPN];

/// What tests vary of a server.
pub(crate) struct ServerOptions {
    pub(crate) identity: AgentIdentity,
    pub(crate) strategies: &'static str,
    pub(crate) server_id: &'static str,
    pub(crate) server_count: u32,
    /// Ports to take, as a restarted server does.
    pub(crate) ports: Option<(SocketAddr, SocketAddr)>,
    pub(crate) table: Option<WatchedAgentTable>,
    pub(crate) tokens: Option<AgentTokens>,
    pub(crate) lease: Option<ServerLeaseConfig>,
    pub(crate) dial_limit: Duration,
    /// Whether agents show certificates.
    pub(crate) agent_certificates: ClientAuth,
    /// What agents are offered.
    pub(crate) agent_alpn: AgentAlpn,
    /// The frontend's Unix socket.
    pub(crate) socket: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            identity: AgentIdentity::Cluster,
            strategies: "destHost",
            server_id: "server-1",
            server_count: 1,
            ports: None,
            table: None,
            tokens: None,
            lease: None,
            dial_limit: DIAL_LIMIT,
            agent_certificates: ClientAuth::Required,
            agent_alpn: LANES,
            socket: None,
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            ca: CertificateAuthority::generate().unwrap(),
        }
    }

    pub(crate) async fn server(&self, options: ServerOptions) -> Server {
        let any = "127.0.0.1:0".parse().unwrap();
        let (frontend, agents) = options.ports.unwrap_or((any, any));
        let frontend = self
            .port(
                frontend,
                Leaf::proxy_server(sans()),
                &FRONTEND_ALPN,
                ClientAuth::Required,
            )
            .await;
        let agents = self
            .port(
                agents,
                Leaf::agent_server(sans()),
                options.agent_alpn,
                options.agent_certificates,
            )
            .await;
        let addresses = (
            frontend.listener.local_addr().unwrap(),
            agents.listener.local_addr().unwrap(),
        );
        let config = Config {
            frontend: Some(frontend),
            frontend_socket: options
                .socket
                .map(|path| UnixSocket::bind("socket", &path, true).unwrap()),
            agents,
            server_id: options.server_id.to_owned(),
            server_count: options.server_count,
            strategies: options.strategies.parse().unwrap(),
            agent_identity: options.identity,
            agent_table: options.table,
            agent_tokens: options.tokens,
            server_lease: options.lease,
            dial_limit: options.dial_limit,
            http2: Http2Settings::default(),
            unread_limit: 64 * 1024 * 1024,
        };
        let (mut registry, drain) = (Registry::default(), Drain::new());
        let server = ProxyServer::new(config, &mut registry, &Readiness::new());
        let status = server.status();
        drain.spawn(server.run(drain.clone()));
        Server {
            status,
            frontend: addresses.0,
            agents: addresses.1,
            drain,
            registry,
            links: AtomicU32::new(0),
        }
    }

    /// An agent with the certificate of `cluster`, which announces `identifiers` and whose
    /// service-proxy is `service_proxy`. Does not wait for it to connect.
    pub(crate) fn agent(
        &self,
        address: SocketAddr,
        cluster: &str,
        identifiers: &str,
        service_proxy: SocketAddr,
    ) -> Agent {
        let leaf = Leaf::proxy_agent(&cluster.parse().unwrap());
        self.agent_with(address, &leaf, identifiers, service_proxy)
    }

    /// An agent of `cluster` that is connected to `server`, under its own tunnel host alone, where
    /// a [`greeter`] says the cluster's name.
    pub(crate) async fn connected_agent(&self, server: &Server, cluster: &'static str) -> Agent {
        let own = greeter(cluster).await;
        self.connected_agent_at(server, cluster, own).await
    }

    /// The same, with another service-proxy.
    pub(crate) async fn connected_agent_at(
        &self,
        server: &Server,
        cluster: &str,
        service_proxy: SocketAddr,
    ) -> Agent {
        let agent = self.agent(server.agents, cluster, &announcing(cluster), service_proxy);
        agent.connected(server).await
    }

    pub(crate) fn agent_with(
        &self,
        address: SocketAddr,
        leaf: &Leaf,
        identifiers: &str,
        service_proxy: SocketAddr,
    ) -> Agent {
        let address = address.to_string().parse().unwrap();
        run_agent(self.agent_config(address, leaf, identifiers, service_proxy))
    }

    pub(crate) fn agent_config(
        &self,
        server: Target,
        leaf: &Leaf,
        identifiers: &str,
        service_proxy: SocketAddr,
    ) -> AgentConfig {
        let tls = self.client_tls(leaf);
        let mut config = AgentConfig::new(server, tls, format!("agent-{identifiers}"));
        config.identifiers = identifiers.parse().unwrap();
        config.service_proxy = service_proxy.to_string().parse().unwrap();
        config.sync_interval = Duration::from_millis(50);
        config.sync_interval_cap = Duration::from_millis(200);
        config.dial_timeout = Duration::from_millis(500);
        // Tests of more say so.
        config.lanes = 1;
        config
    }

    pub(crate) fn dialer(&self, server: &Server) -> ProxyServerDialer {
        self.dialer_with(server.frontend, &Leaf::user_server_client())
            .0
    }

    pub(crate) fn dialer_with(
        &self,
        frontend: SocketAddr,
        leaf: &Leaf,
    ) -> (ProxyServerDialer, DialerMetrics) {
        let server = frontend.to_string().parse().unwrap();
        let metrics = DialerMetrics::default();
        let config = DialerConfig::new(server, self.client_tls(leaf));
        (
            ProxyServerDialer::new(config, metrics.clone()).unwrap(),
            metrics,
        )
    }

    pub(crate) fn client_tls(&self, leaf: &Leaf) -> ClientTls {
        let Issued { cert_pem, key_pem } = self.ca.issue(leaf).unwrap();
        let pair = (cert_pem.as_bytes(), key_pem.as_bytes());
        ClientTls::from_pem(self.ca.cert_pem().as_bytes(), Some(pair), vec![]).unwrap()
    }

    async fn port(
        &self,
        address: SocketAddr,
        leaf: Leaf,
        alpn: &[&[u8]],
        client_auth: ClientAuth,
    ) -> Port {
        let Issued { cert_pem, key_pem } = self.ca.issue(&leaf).unwrap();
        let tls = ServerTls::from_pem(
            cert_pem.as_bytes(),
            key_pem.as_bytes(),
            Some(self.ca.cert_pem().as_bytes()),
            client_auth,
            alpn.iter().map(|protocol| protocol.to_vec()).collect(),
        );
        Port {
            listener: TcpListener::bind(address).await.unwrap(),
            tls: tls.unwrap(),
        }
    }
}

impl Agent {
    /// Waits until the agent is connected to `server`, and the server knows it.
    pub(crate) async fn connected(self, server: &Server) -> Self {
        eventually(|| self.readiness.waiting_for().is_empty()).await;
        let links = server.links.fetch_add(1, Ordering::Relaxed) + 1;
        eventually(|| server.links() >= f64::from(links)).await;
        self
    }
}

impl Server {
    /// How many connections of agents it has, of both protocols.
    pub(crate) fn links(&self) -> f64 {
        self.metric("cluster_proxy_server_lanes")
            + self.metric("cluster_proxy_server_konnectivity_streams")
    }

    /// The value of a metric line that begins with `name`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric_of(&self.registry, name)
    }
}

/// The value of a metric line that begins with `name`.
pub(crate) fn metric_of(registry: &Registry, name: &str) -> f64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0.0, |line| {
        line.rsplit(' ').next().unwrap().parse().unwrap()
    })
}

/// An agent that runs; does not wait for it to connect.
pub(crate) fn run_agent(config: AgentConfig) -> Agent {
    let (readiness, drain) = (Readiness::new(), Drain::new());
    let agent = ProxyAgent::new(config, &mut Registry::default(), &readiness).unwrap();
    drain.spawn(agent.run(drain.clone()));
    Agent { drain, readiness }
}

/// The service-proxy of `cluster`, as a target.
pub(crate) fn service_proxy(cluster: &str) -> Target {
    Target::service_proxy(&TunnelHost::of(&cluster.parse::<ClusterName>().unwrap()))
}

/// `host=` with the tunnel host of `cluster`.
pub(crate) fn announcing(cluster: &str) -> String {
    format!("host={}", service_proxy(cluster).host())
}

/// A target that greets with `name` and then echoes until the end of file.
pub(crate) async fn greeter(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(echo(socket, name));
        }
    });
    address
}

async fn echo(mut socket: TcpStream, name: &'static str) {
    let (mut read, mut write) = socket.split();
    let _ = write.write_all(name.as_bytes()).await;
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

/// The greeting of a [`greeter`] at the end of `stream`.
pub(crate) async fn greeting(stream: &mut TunnelStream, length: usize) -> String {
    let mut greeting = vec![0; length];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut greeting))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(greeting).unwrap()
}

pub(crate) async fn eventually(mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !met() {
        assert!(Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn sans() -> Vec<String> {
    ["127.0.0.1", "localhost", HUB].map(str::to_owned).to_vec()
}
