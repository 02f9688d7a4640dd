//! What a service-proxy works with: parsed values only, nothing of flags.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use cluster_proxy_authentication::{DEFAULT_CACHE_TTL, OidcSettings};
use cluster_proxy_forward::PoolSettings;
use cluster_proxy_forward::server::ServerSettings;
use cluster_proxy_identity::tls::{ClientTls, ServerTls};
use cluster_proxy_kube_api::names::AUTHENTICATED_GROUP;
use cluster_proxy_kube_client::{ConfigMapName, Connection};

/// Everything a [`ServiceProxy`](crate::ServiceProxy) needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our certificate. Client certificates must be optional: the user-server shows one, others do
    /// not. ALPN must offer `h2` and `http/1.1`.
    pub tls: ServerTls,
    /// This cluster's kube-apiserver, with the credentials that may review tokens and impersonate.
    pub managed: Connection,
    /// The hub, with credentials that may review tokens. `None` where the user-server reviews hub
    /// tokens, which is the rule.
    pub hub: Option<Connection>,
    /// An OpenID provider whose ID tokens are accepted.
    pub oidc: Option<OidcConfig>,
    /// Who may be impersonated, and how.
    pub impersonation: Impersonation,
    /// How long the answer to a token review is remembered; zero reviews every request.
    pub review_cache_ttl: Duration,
    /// How long the kube-apiserver or a Service may take to begin its answer to a short request.
    pub head_timeout: Duration,
    /// The CAs that certificates of Services must come from. The protocols offered are set at each
    /// handshake.
    pub services_tls: ClientTls,
    /// Where Services are whose host (`<service>.<namespace>.svc`) is not looked up in the DNS.
    pub service_addresses: HashMap<String, SocketAddr>,
    /// Connections to the kube-apiserver, and to each Service.
    pub pool: PoolSettings,
    /// Connections of clients.
    pub server: ServerSettings,
}

impl Config {
    /// The usual configuration for a certificate and a cluster. No Service is trusted to be
    /// itself.
    ///
    /// # Panics
    /// Never: there is no file to read.
    #[must_use]
    pub fn new(tls: ServerTls, managed: Connection) -> Self {
        Self {
            tls,
            managed,
            hub: None,
            oidc: None,
            impersonation: Impersonation::default(),
            review_cache_ttl: DEFAULT_CACHE_TTL,
            head_timeout: HEAD_TIMEOUT,
            services_tls: ClientTls::load_cas(Vec::new(), Vec::new()).expect("no file to read"),
            service_addresses: HashMap::new(),
            pool: PoolSettings::default(),
            server: ServerSettings::default(),
        }
    }
}

/// An OpenID provider.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// Which of its tokens are accepted, and as whom.
    pub settings: OidcSettings,
    /// With which CA its certificate is verified.
    pub ca: OidcCa,
}

/// The CA of an OpenID provider.
#[derive(Debug, Clone)]
pub enum OidcCa {
    /// These CAs.
    Roots(ClientTls),
    /// A ConfigMap of this cluster, key `ca.crt`, watched. While it is missing or invalid, ID
    /// tokens cannot be verified.
    ConfigMap(ConfigMapName),
}

/// The bounds of what a stated user may become here (`impersonation.rs` has the rules).
#[derive(Debug, Clone)]
pub struct Impersonation {
    /// Off: requests of hub users are refused, and every token is passed on unreviewed, unless
    /// there is an OpenID provider.
    pub enabled: bool,
    /// The cluster's role lets us impersonate uids (`authentication.k8s.io`, `uids`).
    pub uid: bool,
    /// Keys of extra that the cluster's role lets us impersonate (`userextras/<key>`).
    pub extra_keys: BTreeSet<String>,
    /// Groups of the hub that begin with `system:` and mean the same here.
    pub system_groups: BTreeSet<String>,
    /// Hand on `system:serviceaccounts` groups without the prefix, as upstream does: rights that
    /// this cluster gives to its own service accounts then count for the hub's.
    pub raw_service_account_groups: bool,
}

impl Default for Impersonation {
    fn default() -> Self {
        Self {
            enabled: true,
            uid: false,
            extra_keys: BTreeSet::new(),
            system_groups: [AUTHENTICATED_GROUP, OPENSHIFT_OAUTH_GROUP]
                .map(str::to_owned)
                .into(),
            raw_service_account_groups: false,
        }
    }
}

/// The group of everybody whom OpenShift's OAuth server authenticated.
const OPENSHIFT_OAUTH_GROUP: &str = "system:authenticated:oauth";

/// Above every limit of a kube-apiserver (60 s for a request, unless an operator raised it) and of
/// what is commonly proxied through one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
