//! What a user-server is told: parsed values only.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_forward::PoolSettings;
use cluster_proxy_forward::server::ServerSettings;
use cluster_proxy_identity::tls::{ClientTls, ServerTls};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_tunnel::Dialer;
use tokio::net::TcpListener;

use crate::exposed_services_config_map::ExposedServicesConfigMap;
use crate::limits::Limits;

/// Everything a [`UserServer`](crate::UserServer) needs.
#[derive(Debug)]
pub struct Config {
    /// Where users connect; bound already, since a port in use is an error of the start.
    pub listener: TcpListener,
    /// Our certificate towards users. ALPN must offer `h2` and `http/1.1`.
    pub tls: ServerTls,
    /// Who reviews tokens.
    pub token_review: TokenReview,
    /// The way into the tunnel.
    pub dialer: Arc<dyn Dialer>,
    /// The CA of the service-proxies, and the certificate that makes our word about a hub user
    /// count. The protocols offered are set at each handshake.
    pub service_proxy_tls: ClientTls,
    /// Services of the clusters.
    pub services: ServicesConfig,
    /// Cookies that clusters set come back to their kube-apiserver or Service only.
    pub confine_cookies: bool,
    /// How much a user, and a cluster, may have under way.
    pub limits: Limits,
    /// How long a service-proxy may take to begin its answer to a short request.
    pub head_timeout: Duration,
    /// Connections to each cluster's service-proxy.
    pub pool: PoolSettings,
    /// Connections of users.
    pub server: ServerSettings,
}

/// Which Services may be reached, and how.
#[derive(Debug, Default)]
pub struct ServicesConfig {
    /// The list of them. `None` exposes nothing.
    pub exposed: Option<ExposedServicesConfigMap>,
    /// Whoever comes may reach them, with a token or without, as the Go cluster-proxy has it.
    /// Otherwise users of the hub may.
    pub anonymous: bool,
    /// They see the `Authorization` that the client sent, a token of the hub included. Otherwise
    /// those that the list says do.
    pub pass_authorization: bool,
}

/// Where bearer tokens are reviewed.
#[derive(Debug)]
pub enum TokenReview {
    /// On the hub first: tokens of the hub never leave it.
    Hub {
        /// The hub, with credentials that may create TokenReviews.
        hub: Connection,
        /// How long the answer to a review is remembered; zero reviews every request.
        cache_ttl: Duration,
        /// The hub is asked, too, whether the user may use `managedclusters/proxy` of the cluster:
        /// its account may then create SubjectAccessReviews.
        authorize: bool,
    },
    /// On the managed cluster, by its service-proxy: every token travels there, as upstream has
    /// it. Nobody is authenticated here then, so a cluster that cannot be reached is answered as
    /// a token that is not accepted.
    Managed,
}

impl Config {
    /// A configuration with the usual bounds.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        tls: ServerTls,
        token_review: TokenReview,
        dialer: Arc<dyn Dialer>,
        service_proxy_tls: ClientTls,
    ) -> Self {
        Self {
            listener,
            tls,
            token_review,
            dialer,
            service_proxy_tls,
            services: ServicesConfig::default(),
            confine_cookies: true,
            limits: Limits::default(),
            head_timeout: HEAD_TIMEOUT,
            pool: PoolSettings::default(),
            server: ServerSettings::default(),
        }
    }
}

/// Longer than the 300 s that a service-proxy gives its kube-apiserver, so that the answer of who
/// knows more comes first.
const HEAD_TIMEOUT: Duration = Duration::from_secs(310);
