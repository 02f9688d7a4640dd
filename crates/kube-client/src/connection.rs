//! A connection to one cluster, parsed whole before anything is dialled.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_http_proxy::{Proxies, Proxy, ProxyUrl};
use cluster_proxy_identity::tls::FlagFile;
use http::Uri;
use rustls::pki_types::ServerName;

use crate::client::{ApiService, SILENCE_TIMEOUT, WATCH_SILENCE_TIMEOUT};
use crate::endpoint::{Address, ApiEndpoint};
use crate::error::ConnectionError;
use crate::tls::{PemSource, TlsMaterial, Trust};
use crate::token_source::TokenSource;
use crate::{in_cluster, kubeconfig};

/// A cluster's kube-apiserver, and as whom to come to it. Clones share everything.
#[derive(Debug, Clone)]
pub struct Connection {
    endpoint: Arc<ApiEndpoint>,
    token: TokenSource,
    namespace: String,
}

/// A connection put together by the program itself, as `quickstart` does.
#[derive(Debug, Clone)]
pub struct ConnectionParts {
    /// Where the kube-apiserver listens.
    pub address: Address,
    /// The name that its certificate must have.
    pub server_name: String,
    /// PEM of the CAs that may sign it.
    pub ca: Vec<u8>,
    /// PEM of a client certificate and its key.
    pub client_certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// The token to present.
    pub token: TokenSource,
}

impl Connection {
    /// The connection of a kubeconfig flag: of the file if one is given, otherwise of this pod.
    ///
    /// # Errors
    /// As [`Self::from_kubeconfig`] and [`Self::in_cluster`].
    pub fn from_flag(file: Option<FlagFile>) -> Result<Self, ConnectionError> {
        match file {
            Some(file) => Self::from_kubeconfig(file, None),
            None => Self::in_cluster(),
        }
    }

    /// The connection that a kubeconfig describes, in the given context or in its current one.
    /// Tokens, certificates and CAs that it keeps in files of their own are read again as they
    /// rotate; the kubeconfig itself is read once. An HTTP proxy leads there if the kubeconfig
    /// (`proxy-url`) or the environment says so ([`Proxies::from_environment`]).
    ///
    /// # Errors
    /// A file that is missing or damaged, or asks for what is not supported: exec plugins,
    /// passwords, impersonation, SOCKS proxies, plain HTTP. A proxy in the environment whose URL
    /// is none.
    pub fn from_kubeconfig(file: FlagFile, context: Option<&str>) -> Result<Self, ConnectionError> {
        Self::from_kubeconfig_through(file, context, &Proxies::from_environment()?)
    }

    /// The same with `proxies` instead of the environment's.
    ///
    /// # Errors
    /// As [`Self::from_kubeconfig`].
    pub fn from_kubeconfig_through(
        file: FlagFile,
        context: Option<&str>,
        proxies: &Proxies,
    ) -> Result<Self, ConnectionError> {
        Self::new(kubeconfig::load(file, context)?, proxies)
    }

    /// The connection that the kubeconfig `text` describes, as [`Self::from_kubeconfig`]. `file`
    /// stands in errors, and relative paths are beside it.
    ///
    /// # Errors
    /// As [`Self::from_kubeconfig`].
    pub fn from_kubeconfig_text(
        file: FlagFile,
        text: &str,
        context: Option<&str>,
    ) -> Result<Self, ConnectionError> {
        let source = kubeconfig::parse(file, text, context)?;
        Self::new(source, &Proxies::from_environment()?)
    }

    /// The connection of this pod to its own cluster. No HTTP proxy leads there, whatever the
    /// environment says: the address is a Service's, which a proxy outside cannot reach. (Go's
    /// clients take the proxy unless `NO_PROXY` names that address.)
    ///
    /// # Errors
    /// Outside a pod, and when the service account's files are missing or damaged.
    pub fn in_cluster() -> Result<Self, ConnectionError> {
        Self::new(in_cluster::load()?, &Proxies::none())
    }

    /// A connection put together from parts, to which no HTTP proxy leads.
    ///
    /// # Errors
    /// PEM or names that cannot be used.
    pub fn from_parts(parts: ConnectionParts) -> Result<Self, ConnectionError> {
        let server_name =
            server_name(&parts.server_name).map_err(|cause| ConnectionError::Parts { cause })?;
        let source = Source {
            server: Server {
                address: parts.address,
                server_name,
                path_prefix: String::new(),
            },
            proxy: None,
            trust: Trust::Roots(PemSource::Inline(parts.ca)),
            identity: parts
                .client_certificate
                .map(|(certificate, key)| (PemSource::Inline(certificate), PemSource::Inline(key))),
            token: parts.token,
            namespace: None,
            owner: FlagFile::new("connection", parts.server_name),
        };
        Self::new(source, &Proxies::none())
    }

    /// A client for requests and answers. It does not retry, opens connections within
    /// [`crate::CONNECT_TIMEOUT`], and gives up on a server that is silent for 30 s; who awaits it
    /// sets the deadline of the whole.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, where the client's worker lives.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client_with(SILENCE_TIMEOUT)
    }

    /// A client for watches, whose server says nothing while nothing changes: it gives up only
    /// after 300 s. For the rest as [`Self::client`].
    ///
    /// # Panics
    /// Outside of a Tokio runtime, where the client's worker lives.
    #[must_use]
    pub fn watch_client(&self) -> kube::Client {
        self.client_with(WATCH_SILENCE_TIMEOUT)
    }

    fn client_with(&self, silence: Duration) -> kube::Client {
        let endpoint = Arc::clone(&self.endpoint);
        let service = ApiService::new(endpoint, self.token.clone(), silence);
        kube::Client::new(service, self.namespace.clone())
    }

    /// The kube-apiserver itself, for those who speak raw HTTP to it.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<ApiEndpoint> {
        &self.endpoint
    }

    /// The token that this connection presents.
    #[must_use]
    pub fn token(&self) -> &TokenSource {
        &self.token
    }

    /// The namespace of the context or of the pod, otherwise `default`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn new(source: Source, proxies: &Proxies) -> Result<Self, ConnectionError> {
        let Source {
            server,
            proxy,
            trust,
            identity,
            token,
            namespace,
            owner,
        } = source;
        let tls = TlsMaterial::load(owner, trust, identity)?;
        let proxy = match (&server.address, proxy) {
            (Address::Unix(_), _) => None,
            (Address::Tcp { .. }, Some(url)) => Some(Proxy::new(url)),
            (Address::Tcp { host, port }, None) => proxies.towards(host, *port).cloned(),
        };
        let endpoint = ApiEndpoint::new(
            server.address,
            server.server_name,
            server.path_prefix,
            tls,
            proxy,
        );
        Ok(Self {
            endpoint: Arc::new(endpoint),
            token,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
        })
    }
}

/// Everything that describes a connection, whatever it was read from.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) server: Server,
    /// The proxy named for this server alone, which wins over the environment's.
    pub(crate) proxy: Option<ProxyUrl>,
    pub(crate) trust: Trust,
    pub(crate) identity: Option<(PemSource, PemSource)>,
    pub(crate) token: TokenSource,
    pub(crate) namespace: Option<String>,
    /// Stands in error messages.
    pub(crate) owner: FlagFile,
}

/// A server URL, parsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) path_prefix: String,
}

impl Server {
    /// Parses `https://host[:port][/prefix]`, or `unix:///path/of/socket` (an extension, spoken
    /// with TLS).
    pub(crate) fn parse(url: &str, tls_server_name: Option<&str>) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err("the path of the socket must begin with /".to_owned());
            }
            return Ok(Self {
                address: Address::Unix(PathBuf::from(path)),
                server_name: server_name(tls_server_name.unwrap_or(UNIX_SERVER_NAME))?,
                path_prefix: String::new(),
            });
        }
        if url.is_empty() {
            return Err("there is none".to_owned());
        }
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err("it must begin with https:// (or unix://)".to_owned());
        }
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("credentials in it are not supported".to_owned());
        }
        if uri.query().is_some() {
            return Err("a query in it is not supported".to_owned());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        // `Authority::port` is silent about one that is no number.
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None => HTTPS_PORT,
            Some(text) => match text.parse() {
                Ok(0) | Err(_) => return Err(format!("{text:?} is no port")),
                Ok(port) => port,
            },
        };
        Ok(Self {
            address: Address::Tcp {
                host: host.to_owned(),
                port,
            },
            server_name: server_name(tls_server_name.unwrap_or(host))?,
            path_prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name:?} is neither a DNS name nor an IP address"))
}

const HTTPS_PORT: u16 = 443;

/// What a kube-apiserver's certificate is always valid for.
const UNIX_SERVER_NAME: &str = "kubernetes.default.svc";
