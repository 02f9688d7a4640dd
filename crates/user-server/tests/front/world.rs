//! A hub, some clusters and a user-server between them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_proxy_identity::ca::{CertificateAuthority, Issued, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use cluster_proxy_identity::{ClusterName, TunnelHost};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_tunnel::dialer::{Connection, Dialling};
use cluster_proxy_tunnel::{DialError, Dialer, Target};
use cluster_proxy_user_server::{Config, Limits, ServicesConfig, TokenReview, UserServer};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::hub::Hub;
use crate::service_proxy::ServiceProxy;

/// Nothing here takes this long unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// The token of the hub user `alice`.
pub(crate) const ALICES_TOKEN: &str = "the-token-of-alice";

/// A token that nobody on the hub has, and that the managed clusters accept.
pub(crate) const MANAGED_TOKEN: &str = "a-token-of-the-managed-cluster";

/// The user-server's name in its certificate.
pub(crate) const NAME: &str = "user-server.test";

/// Everything of one test.
pub(crate) struct World {
    pub(crate) ca: CertificateAuthority,
    pub(crate) hub: Hub,
    pub(crate) address: SocketAddr,
    /// The service-proxy of the cluster `managed`.
    pub(crate) managed: ServiceProxy,
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) readiness: Readiness,
    pub(crate) registry: Registry,
    pub(crate) drain: Drain,
}

/// Leads each cluster's tunnel host where the test says.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    ends: Mutex<HashMap<String, End>>,
    dialled: AtomicUsize,
}

/// What becomes of a dial.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// A connection.
    At(SocketAddr),
    /// This error.
    Fails(DialError),
    /// Nothing.
    Silence,
}

/// What tests vary.
pub(crate) struct Options {
    pub(crate) managed_review: bool,
    pub(crate) alpn: &'static [&'static [u8]],
    pub(crate) dial_timeout: Duration,
    pub(crate) cache_ttl: Duration,
    pub(crate) hub_down: Option<u16>,
    pub(crate) services: ServicesConfig,
    pub(crate) authorize: bool,
    pub(crate) limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            managed_review: false,
            alpn: &[b"h2", b"http/1.1"],
            dial_timeout: LIMIT,
            cache_ttl: LIMIT,
            hub_down: None,
            services: ServicesConfig::default(),
            authorize: false,
            limits: Limits::default(),
        }
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let ca = CertificateAuthority::generate().unwrap();
        let hub = Hub::start(&ca).await;
        hub.knows(
            ALICES_TOKEN,
            json!({
                "username": "alice", "uid": "u-1", "groups": ["devs", "system:authenticated"],
                "extra": {"example.com/Scopes": ["a", "b"]},
            }),
        );
        if let Some(code) = options.hub_down {
            hub.breaks_with(code);
        }
        let tunnel = Arc::new(Tunnel::default());
        let leaf = Leaf::service_proxy(&cluster("managed"));
        let managed = ServiceProxy::start(&ca, &leaf, options.alpn).await;
        tunnel.leads("managed", End::At(managed.address()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let token_review = if options.managed_review {
            TokenReview::Managed
        } else {
            TokenReview::Hub {
                hub: hub.connection(&ca),
                cache_ttl: options.cache_ttl,
                authorize: options.authorize,
            }
        };
        let serving = Leaf::user_server_serving(vec![NAME.to_owned()]);
        let mut config = Config::new(
            listener,
            server_tls(&ca, &serving, &[b"h2", b"http/1.1"]),
            token_review,
            Arc::clone(&tunnel) as Arc<dyn Dialer>,
            client_tls(&ca, Some(&Leaf::user_server_client())),
        );
        config.pool.dial_timeout = options.dial_timeout;
        config.services = options.services;
        config.limits = options.limits;
        let (mut registry, readiness, drain) =
            (Registry::default(), Readiness::new(), Drain::new());
        let server = UserServer::new(config, &mut registry, &readiness);
        drain.spawn(server.run(drain.clone()));
        Self {
            ca,
            hub,
            address,
            managed,
            tunnel,
            readiness,
            registry,
            drain,
        }
    }

    /// The sum of the values of the metric with this name and, if any are given, these labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines()
            .filter(|line| line.starts_with(name))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.end();
    }
}

impl Tunnel {
    pub(crate) fn leads(&self, name: &str, end: End) {
        let host = TunnelHost::of(&cluster(name)).as_str().to_owned();
        self.ends.lock().unwrap().insert(host, end);
    }

    /// Connections asked of the tunnel so far.
    pub(crate) fn dialled(&self) -> usize {
        self.dialled.load(Ordering::SeqCst)
    }
}

impl Dialer for Tunnel {
    fn dial<'a>(&'a self, target: &'a Target) -> Dialling<'a> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let end = self.ends.lock().unwrap().get(&target.host()).cloned();
        let details = format!("{target} at 10.9.8.7");
        Box::pin(async move {
            match end {
                Some(End::At(address)) => {
                    let socket = TcpStream::connect(address).await.unwrap();
                    Ok(Box::new(socket) as Box<dyn Connection>)
                }
                Some(End::Fails(error)) => Err(error),
                Some(End::Silence) => std::future::pending().await,
                None => Err(DialError::NoAgent { details }),
            }
        })
    }
}

pub(crate) fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

pub(crate) fn server_tls(ca: &CertificateAuthority, leaf: &Leaf, alpn: &[&[u8]]) -> ServerTls {
    let Issued { cert_pem, key_pem } = ca.issue(leaf).unwrap();
    ServerTls::from_pem(
        cert_pem.as_bytes(),
        key_pem.as_bytes(),
        Some(ca.cert_pem().as_bytes()),
        ClientAuth::Optional,
        alpn.iter().map(|protocol| protocol.to_vec()).collect(),
    )
    .unwrap()
}

pub(crate) fn client_tls(ca: &CertificateAuthority, leaf: Option<&Leaf>) -> ClientTls {
    let issued = leaf.map(|leaf| ca.issue(leaf).unwrap());
    let pair = issued
        .as_ref()
        .map(|issued| (issued.cert_pem.as_bytes(), issued.key_pem.as_bytes()));
    ClientTls::from_pem(ca.cert_pem().as_bytes(), pair, Vec::new()).unwrap()
}

pub(crate) async fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !met() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
