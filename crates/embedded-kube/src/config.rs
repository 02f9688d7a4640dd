//! How an embedded cluster is set up.

use std::net::SocketAddr;
use std::path::PathBuf;

use cluster_proxy_identity::Token;

/// What an embedded cluster is called, where it listens and whom it trusts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name in kubeconfigs and, with `-embedded` after it, of the node.
    pub name: String,
    /// The issuer of service account tokens. Two clusters often share one, as real ones do.
    pub issuer: String,
    /// Where the API is served.
    pub listener: Listener,
    /// DNS names and IP addresses of the serving certificate, beside `localhost`, the loopback
    /// addresses and the names of the `kubernetes` Service.
    pub sans: Vec<String>,
    /// Certificates (PEM) of more CAs whose client certificates are accepted, beside the cluster's
    /// own. The common name is the user, each organization a group.
    pub client_ca: Option<String>,
    /// A bearer token that is `kubernetes-admin` in the group `system:masters`.
    pub admin_token: Option<Token>,
}

impl Config {
    /// A cluster with its own CA on a free port of the loopback address.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            issuer: DEFAULT_ISSUER.to_owned(),
            listener: Listener::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            sans: Vec::new(),
            client_ca: None,
            admin_token: None,
        }
    }
}

/// Where the API is served, with TLS in either case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// An address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket that only this user may open.
    Unix(PathBuf),
}

/// The issuer that most clusters have.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
