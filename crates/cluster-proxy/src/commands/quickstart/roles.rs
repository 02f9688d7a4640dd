//! The four roles in this process, on free ports of the loopback address, with certificates of a
//! CA made for this run.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_proxy_authentication::DEFAULT_CACHE_TTL;
use cluster_proxy_identity::TunnelHost;
use cluster_proxy_identity::ca::{CertificateAuthority, Issued, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, FlagFile, ServerTls};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_proxy_agent::{self as proxy_agent, ProxyAgent};
use cluster_proxy_proxy_server::{
    self as proxy_server, AGENT_ALPN, AgentIdentity, Port, ProxyServer,
};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_service_proxy::{self as service_proxy, ServiceProxy, ServiceProxyMetrics};
use cluster_proxy_tunnel::frontend::{FRONTEND_ALPN, HTTP2_ALPN};
use cluster_proxy_tunnel::lane::LANE_ALPN;
use cluster_proxy_tunnel::{DialerConfig, DialerMetrics, Http2Settings, ProxyServerDialer, Target};
use cluster_proxy_user_server::{self as user_server, TokenReview, UserServer as UserServerRole};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::access::Access;
use super::clusters::Clusters;
use super::folder::Folder;
use super::plan::Plan;
use super::request::UserServer;
use super::story::CA_FILE;
use super::tokens::{self, TokenFile};
use super::voice::Voice;

/// File of the hub user's token.
pub(super) const USER_TOKEN_FILE: &str = "user.token";

const USER_SERVER_TOKEN_FILE: &str = "user-server.token";
const SERVICE_PROXY_TOKEN_FILE: &str = "service-proxy.token";

/// From the last role's start until all are ready and the agent is connected.
const READY_LIMIT: Duration = Duration::from_secs(20);

const READY_POLL: Duration = Duration::from_millis(20);

/// The running roles.
pub(super) struct Roles {
    pub(super) user_server: UserServer,
}

impl Roles {
    /// Starts all four and waits until the agent is connected.
    pub(super) async fn start(
        clusters: &Clusters,
        folder: &Arc<Folder>,
        drain: &Drain,
        voice: &Voice,
    ) -> Result<Self> {
        let ca = CertificateAuthority::generate()?;
        folder.write(CA_FILE, ca.cert_pem())?;
        keep_tokens(clusters, folder, drain).await?;
        let hub = role_connection(folder, &clusters.hub, "user-server", USER_SERVER_TOKEN_FILE)?;
        let managed = role_connection(
            folder,
            &clusters.managed,
            "service-proxy",
            SERVICE_PROXY_TOKEN_FILE,
        )?;

        let starting = Starting {
            ca: &ca,
            clusters,
            drain,
            readiness: Readiness::new(),
            registry: Registry::default(),
        };
        starting.start(hub, managed, voice).await
    }
}

/// What the roles share while they are started.
struct Starting<'a> {
    ca: &'a CertificateAuthority,
    clusters: &'a Clusters,
    drain: &'a Drain,
    readiness: Readiness,
    registry: Registry,
}

impl Starting<'_> {
    async fn start(mut self, hub: Connection, managed: Connection, voice: &Voice) -> Result<Roles> {
        let (frontend, agents) = self.proxy_server().await?;
        let service_proxy = self.service_proxy(managed).await?;
        self.proxy_agent(agents, service_proxy)?;
        let address = self.user_server(frontend, hub).await?;
        voice.done(format_args!(
            "user-server {address}, proxy-server {frontend} and {agents} (agents), service-proxy \
             {service_proxy}"
        ));
        self.wait_until_ready().await?;
        voice.done(format_args!(
            "the agent of {} has connected from its side; certificates are from a CA of this run",
            self.clusters.plan.cluster
        ));
        Ok(Roles {
            user_server: UserServer {
                address,
                ca_pem: self.ca.cert_pem().to_owned(),
            },
        })
    }

    /// Listens for users of the tunnel and for agents.
    async fn proxy_server(&mut self) -> Result<(SocketAddr, SocketAddr)> {
        let sans = || vec![Ipv4Addr::LOCALHOST.to_string()];
        let frontend = listener(8090).await?;
        let agents = listener(8091).await?;
        let addresses = (frontend.local_addr()?, agents.local_addr()?);
        let required = ClientAuth::Required;
        let config = proxy_server::Config {
            frontend: Some(Port {
                listener: frontend,
                tls: self.server_tls(&Leaf::proxy_server(sans()), required, &FRONTEND_ALPN)?,
            }),
            frontend_socket: None,
            agents: Port {
                listener: agents,
                tls: self.server_tls(&Leaf::agent_server(sans()), required, &AGENT_ALPN)?,
            },
            server_id: "quickstart".to_owned(),
            server_count: 1,
            strategies: "destHost".parse()?,
            agent_identity: AgentIdentity::Cluster,
            agent_tokens: None,
            agent_table: None,
            server_lease: None,
            dial_limit: cluster_proxy_proxy_server::DIAL_LIMIT,
            http2: Http2Settings::default(),
            unread_limit: crate::flags::default_unread_limit(),
        };
        let server = ProxyServer::new(config, &mut self.registry, &self.readiness);
        self.drain.spawn(server.run(self.drain.clone()));
        Ok(addresses)
    }

    async fn service_proxy(&self, managed: Connection) -> Result<SocketAddr> {
        let listener = listener(7443).await?;
        let address = listener.local_addr()?;
        let leaf = Leaf::service_proxy(&self.clusters.plan.cluster);
        let tls = self.server_tls(&leaf, ClientAuth::Optional, &[b"h2", b"http/1.1"])?;
        let config = service_proxy::Config::new(tls, managed);
        let proxy = ServiceProxy::new(&config, ServiceProxyMetrics::default(), self.drain.clone())?;
        self.drain.spawn(proxy.run(listener));
        Ok(address)
    }

    fn proxy_agent(&mut self, server: SocketAddr, service_proxy: SocketAddr) -> Result<()> {
        let cluster = &self.clusters.plan.cluster;
        let tls = self.client_tls(&Leaf::proxy_agent(cluster), &[LANE_ALPN])?;
        let host = TunnelHost::of(cluster);
        let config = proxy_agent::Config {
            identifiers: format!("host={host}").parse()?,
            service_proxy: target(service_proxy)?,
            ..proxy_agent::Config::new(target(server)?, tls, "quickstart".to_owned())
        };
        let agent = ProxyAgent::new(config, &mut self.registry, &self.readiness)?;
        self.drain.spawn(agent.run(self.drain.clone()));
        Ok(())
    }

    async fn user_server(&mut self, frontend: SocketAddr, hub: Connection) -> Result<SocketAddr> {
        let listener = listener(9092).await?;
        let address = listener.local_addr()?;
        let leaf = Leaf::user_server_serving(vec![
            Ipv4Addr::LOCALHOST.to_string(),
            "localhost".to_owned(),
        ]);
        let tls = self.server_tls(&leaf, ClientAuth::Off, &[b"h2", b"http/1.1"])?;
        let client = self.client_tls(&Leaf::user_server_client(), &[HTTP2_ALPN])?;
        let dialer = ProxyServerDialer::new(
            DialerConfig::new(target(frontend)?, client.clone()),
            DialerMetrics::default(),
        )?;
        let token_review = TokenReview::Hub {
            hub,
            cache_ttl: DEFAULT_CACHE_TTL,
            authorize: false,
        };
        let config =
            user_server::Config::new(listener, tls, token_review, Arc::new(dialer), client);
        let server = UserServerRole::new(config, &mut self.registry, &self.readiness);
        self.drain.spawn(server.run(self.drain.clone()));
        Ok(address)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + READY_LIMIT;
        loop {
            let waiting = self.readiness.waiting_for();
            if waiting.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "not ready after {READY_LIMIT:?}: waiting for {}",
                    waiting.join(", ")
                );
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    fn server_tls(&self, leaf: &Leaf, auth: ClientAuth, alpn: &[&[u8]]) -> Result<ServerTls> {
        let Issued { cert_pem, key_pem } = self.ca.issue(leaf)?;
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let ca = self.ca.cert_pem().as_bytes();
        let tls = ServerTls::from_pem(
            cert_pem.as_bytes(),
            key_pem.as_bytes(),
            Some(ca),
            auth,
            alpn,
        )?;
        Ok(tls)
    }

    fn client_tls(&self, leaf: &Leaf, alpn: &[&[u8]]) -> Result<ClientTls> {
        let Issued { cert_pem, key_pem } = self.ca.issue(leaf)?;
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let pair = Some((cert_pem.as_bytes(), key_pem.as_bytes()));
        Ok(ClientTls::from_pem(
            self.ca.cert_pem().as_bytes(),
            pair,
            alpn,
        )?)
    }
}

/// Tokens of both roles and of the hub user.
async fn keep_tokens(clusters: &Clusters, folder: &Arc<Folder>, drain: &Drain) -> Result<()> {
    let Plan {
        roles_namespace,
        user_namespace,
        ..
    } = &clusters.plan;
    let token = |access: &Access, namespace: &String, account, file| TokenFile {
        access: access.clone(),
        namespace: namespace.clone(),
        account,
        file,
    };
    let (hub, managed) = (&clusters.hub, &clusters.managed);
    let tokens = vec![
        token(
            hub,
            roles_namespace,
            Plan::USER_SERVER_ACCOUNT,
            USER_SERVER_TOKEN_FILE,
        ),
        token(
            managed,
            roles_namespace,
            Plan::SERVICE_PROXY_ACCOUNT,
            SERVICE_PROXY_TOKEN_FILE,
        ),
        token(hub, user_namespace, Plan::USER, USER_TOKEN_FILE),
    ];
    tokens::keep(tokens, folder, drain).await
}

fn role_connection(
    folder: &Folder,
    access: &Access,
    role: &str,
    token_file: &str,
) -> Result<Connection> {
    let kubeconfig = access.kubeconfig(&folder.path().join(token_file));
    let path = folder.write(&format!("{role}.kubeconfig"), kubeconfig)?;
    let connection = Connection::from_kubeconfig(FlagFile::new("--kubeconfig", path), None)
        .with_context(|| format!("{role}'s way to the {} cluster", access.name))?;
    Ok(connection)
}

/// The usual port if it is free, any other if not.
async fn listener(usual: u16) -> Result<TcpListener> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address(usual)).await {
        Ok(listener) => Ok(listener),
        Err(_taken) => TcpListener::bind(address(0)).await.context("no free port"),
    }
}

fn target(address: SocketAddr) -> Result<Target> {
    Ok(Target::new(&address.ip().to_string(), address.port())?)
}
