//! Where a kube-apiserver listens, and how to open a connection to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_http_proxy::{Outbound, Proxy, ProxyError, Via};
use cluster_proxy_runtime::read_ahead::ReadAhead;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::tls::{TlsGeneration, TlsMaterial};

/// Where a kube-apiserver listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host name or IP address (without brackets), and port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix domain socket. TLS is spoken over it all the same.
    Unix(PathBuf),
}

/// A connected socket, before TLS.
pub type ApiSocket = ReadAhead<Either<Outbound, UnixStream>>;

/// A kube-apiserver as seen from here: address, name, trust, and the client certificate, if there
/// is one. Cheap to share in an [`Arc`].
#[derive(Debug)]
pub struct ApiEndpoint {
    address: Address,
    server_name: ServerName<'static>,
    path_prefix: String,
    authority: String,
    tls: TlsMaterial,
    proxy: Option<Proxy>,
}

impl ApiEndpoint {
    pub(crate) fn new(
        address: Address,
        server_name: ServerName<'static>,
        path_prefix: String,
        tls: TlsMaterial,
        proxy: Option<Proxy>,
    ) -> Self {
        let authority = match &address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => match &server_name {
                ServerName::DnsName(name) => name.as_ref().to_owned(),
                _ => UNIX_AUTHORITY.to_owned(),
            },
        };
        Self {
            address,
            server_name,
            path_prefix,
            authority,
            tls,
            proxy,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The name that its certificate must have.
    #[must_use]
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// What stands before every path, from the server URL: empty, or a path without a slash at
    /// its end.
    #[must_use]
    pub fn path_prefix(&self) -> &str {
        &self.path_prefix
    }

    /// `host:port` for the `Host` header or `:authority`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether there is a client certificate to come with.
    #[must_use]
    pub fn has_client_certificate(&self) -> bool {
        self.tls.has_identity()
    }

    /// The TLS configuration for a new connection, with or without the client certificate. Take it
    /// anew each time: the files behind it rotate.
    ///
    /// A request with somebody else's token must not ride on a connection with our certificate,
    /// since the kube-apiserver would take it for ours.
    #[must_use]
    pub fn tls(&self, with_identity: bool, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(self.generation().config(with_identity));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// Opens a socket, without TLS, directly or through the HTTP proxy that leads there. The
    /// socket and the proxy's answer are each bounded by [`CONNECT_TIMEOUT`].
    ///
    /// # Errors
    /// When nobody can be reached, or not in time, or the proxy does not want to.
    pub async fn dial(&self) -> Result<ApiSocket, ConnectError> {
        let socket = match &self.address {
            Address::Tcp { host, port } => Either::Left(match &self.proxy {
                None => Outbound::Left(self.tcp(host, *port).await?),
                Some(proxy) => Box::pin(self.through(proxy, host, *port)).await?,
            }),
            Address::Unix(path) => {
                let connecting = timeout(CONNECT_TIMEOUT, UnixStream::connect(path));
                Either::Right(self.in_time(connecting.await)?)
            }
        };
        Ok(ReadAhead::new(socket))
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        self.in_time(timeout(CONNECT_TIMEOUT, tcp(host, port)).await)
    }

    fn in_time<Socket>(
        &self,
        connected: Result<io::Result<Socket>, Elapsed>,
    ) -> Result<Socket, ConnectError> {
        let address = || self.address.clone();
        connected
            .map_err(|_| ConnectError::TimedOut { address: address() })?
            .map_err(|source| ConnectError::Unreachable {
                address: address(),
                source,
            })
    }

    async fn through(
        &self,
        proxy: &Proxy,
        host: &str,
        port: u16,
    ) -> Result<Outbound, ConnectError> {
        let at = proxy.url().address();
        let socket = timeout(CONNECT_TIMEOUT, tcp(&at.host, at.port))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| ConnectError::ProxyUnreachable {
                address: self.address.clone(),
                proxy: proxy.url().to_string(),
                source,
            })?;
        let generation = self.generation();
        proxy
            .open(socket, (host, port), generation.ca(), CONNECT_TIMEOUT)
            .await
            .map_err(|cause| ConnectError::Proxy {
                address: self.address.clone(),
                cause: Box::new(cause),
            })
    }

    /// Opens a socket as [`Self::dial`] does and shakes hands, which is bounded by
    /// [`CONNECT_TIMEOUT`] too.
    ///
    /// # Errors
    /// When nobody can be reached, not in time, or the server cannot prove its name.
    pub async fn connect(
        &self,
        with_identity: bool,
        alpn: &[&[u8]],
    ) -> Result<TlsStream<ApiSocket>, ConnectError> {
        let socket = self.dial().await?;
        let connector = TlsConnector::from(self.tls(with_identity, alpn));
        let handshake = connector.connect(self.server_name.clone(), socket);
        match timeout(CONNECT_TIMEOUT, handshake).await {
            Ok(stream) => stream.map_err(|source| ConnectError::Handshake {
                address: self.address.clone(),
                via: Via::of(self.proxy.as_ref()),
                source,
            }),
            Err(_) => Err(ConnectError::TimedOut {
                address: self.address.clone(),
            }),
        }
    }

    /// The TLS configurations of now. Another allocation means that files have changed, and that
    /// kept connections may carry an old certificate.
    pub(crate) fn generation(&self) -> Arc<TlsGeneration> {
        self.tls.current()
    }
}

/// Why no connection to a kube-apiserver came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket could not be opened.
    #[error("the kube-apiserver at {address} cannot be reached")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the operating system says.
        source: io::Error,
    },
    /// The socket to the HTTP proxy could not be opened.
    #[error(
        "the kube-apiserver at {address} cannot be reached: its HTTP proxy {proxy} does not answer \
         (look at HTTPS_PROXY and NO_PROXY)"
    )]
    ProxyUnreachable {
        /// Where the kube-apiserver is.
        address: Address,
        /// The proxy's URL, without credentials.
        proxy: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The HTTP proxy leads nowhere.
    #[error("the kube-apiserver at {address} cannot be reached: {cause} ({})", cause.advice())]
    Proxy {
        /// Where the kube-apiserver is.
        address: Address,
        /// What the proxy says.
        cause: Box<ProxyError>,
    },
    /// The TLS handshake failed.
    #[error(
        "the TLS handshake with the kube-apiserver at {address}{via} failed{}",
        advice(via, source)
    )]
    Handshake {
        /// Where.
        address: Address,
        /// Which HTTP proxy is on the way.
        via: Via,
        /// What rustls says.
        source: io::Error,
    },
    /// It took longer than [`CONNECT_TIMEOUT`].
    #[error("the kube-apiserver at {address} did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut {
        /// Where.
        address: Address,
    },
}

/// What to do about a failed handshake, where the HTTP proxy is to be suspected.
fn advice(via: &Via, error: &io::Error) -> &'static str {
    if via.inspects(error) {
        " (a certificate of an unknown CA came in place of the hub's: if the proxy inspects TLS, \
         let it pass this address on untouched)"
    } else {
        ""
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// How long the socket, and after it the TLS handshake, may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The authority of a server behind a Unix socket whose certificate is not for a DNS name.
const UNIX_AUTHORITY: &str = "localhost";
