//! What a proxy-agent is told: parsed values only.

use std::time::Duration;

use cluster_proxy_http_proxy::Proxy;
use cluster_proxy_identity::tls::{ClientTls, FlagFile};
use cluster_proxy_identity::{AnnouncedIdentifiers, SERVICE_PROXY_PORT, TunnelHost};
use cluster_proxy_tunnel::{Http2Settings, Target};

use crate::server_leases::ServerLeasesConfig;

/// The configuration of a [`crate::ProxyAgent`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the proxy-server's agent port is. Behind a load balancer, one address may lead to
    /// several servers.
    pub server: Target,
    /// The HTTP proxy that leads there, if it is not reached directly. The names of targets are
    /// the own cluster's and are always dialled directly.
    pub http_proxy: Option<Proxy>,
    /// Trust in the server and the agent's own certificate; the protocol offered is set here.
    pub tls: ClientTls,
    /// More protocols to offer in TLS, for what routes by them on the way; the server that picks one
    /// speaks konnectivity.
    pub more_alpn: Vec<String>,
    /// Distinct for each agent process.
    pub agent_id: String,
    /// Under which names and addresses this agent wants to be found. Those that are tunnel hosts
    /// lead to [`service_proxy`](Self::service_proxy).
    pub identifiers: AnnouncedIdentifiers,
    /// Where the own cluster's service-proxy listens.
    pub service_proxy: Target,
    /// How long to wait between two connects while servers are missing; the first wait of a
    /// back-off.
    pub sync_interval: Duration,
    /// The longest wait of the back-off.
    pub sync_interval_cap: Duration,
    /// Whether to keep looking for servers beyond the count they state.
    pub sync_forever: bool,
    /// How many lanes to keep to each server that takes more than one. With more than one, a server
    /// that needs them gets up to
    /// [`MAX_LANES`](cluster_proxy_tunnel::lane::MAX_LANES).
    pub lanes: usize,
    /// How long a lane beyond [`lanes`](Self::lanes) may carry nothing before it is closed.
    pub lane_idle: Duration,
    /// Limit for dialling a target, all its addresses included.
    pub dial_timeout: Duration,
    /// Limit for reaching the server: TCP with all addresses, the HTTP proxy's answer, TLS, lane,
    /// each.
    pub connect_timeout: Duration,
    /// The file with the token of this agent's service account, read anew at each connect. A
    /// konnectivity server is always shown the token, another one only when it asks for it.
    pub token_file: Option<FlagFile>,
    /// Leases to count the servers by; without them, each server says how many there are.
    pub server_leases: Option<ServerLeasesConfig>,
    /// HTTP/2 settings of the lanes. The servers are asked to keep to a longer ping interval too.
    pub http2: Http2Settings,
    /// Bytes that all targets together may leave unread before one of them is cut
    /// ([`cluster_proxy_tunnel::UnreadBudget`]).
    pub unread_limit: u64,
}

/// One for what is busy and one for the next, so that few have to wait for a dial.
pub const DEFAULT_LANES: usize = 2;

impl Config {
    /// Konnectivity's defaults around what has none.
    ///
    /// # Panics
    ///
    /// Never: the default address is one.
    #[must_use]
    pub fn new(server: Target, tls: ClientTls, agent_id: String) -> Self {
        Self {
            server,
            http_proxy: None,
            tls,
            more_alpn: Vec::new(),
            agent_id,
            identifiers: AnnouncedIdentifiers::default(),
            service_proxy: Target::new("127.0.0.1", SERVICE_PROXY_PORT)
                .expect("a constant that is valid"),
            sync_interval: Duration::from_secs(1),
            sync_interval_cap: Duration::from_secs(10),
            sync_forever: false,
            lanes: DEFAULT_LANES,
            lane_idle: Duration::from_secs(60),
            dial_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(8),
            token_file: None,
            server_leases: None,
            http2: Http2Settings::default(),
            unread_limit: 64 * 1024 * 1024,
        }
    }

    /// Whether idle lanes are to be left alone for longer than usual.
    pub(crate) fn is_quiet(&self) -> bool {
        self.http2.ping_interval > Http2Settings::default().ping_interval
    }

    /// The announced names that stand for the own cluster's service-proxy.
    pub(crate) fn own_tunnel_hosts(&self) -> Vec<TunnelHost> {
        self.identifiers
            .hosts
            .iter()
            .filter_map(|host| host.parse().ok())
            .collect()
    }
}
