//! A connection through one proxy: TLS with it where it wants that, and `CONNECT`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cluster_proxy_identity::tls::{ClientTls, FlagFile};
use cluster_proxy_runtime::flags::HostPort;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::connect_answer::ConnectAnswer;
use crate::error::{ProxyError, Step};
use crate::proxy_url::ProxyUrl;

/// A connection out: a socket, or what an https:// proxy passes on.
pub type Outbound = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// An HTTP proxy, and whom to trust as it. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Proxy {
    url: Arc<ProxyUrl>,
    ca_files: Arc<[FlagFile]>,
}

impl Proxy {
    /// The proxy at a URL. If that is https://, its certificate must come from a CA of this
    /// machine or of what [`Self::trusting_file`] adds.
    #[must_use]
    pub fn new(url: ProxyUrl) -> Self {
        Self {
            url: Arc::new(url),
            ca_files: Arc::default(),
        }
    }

    /// Trusts the CAs of a file too. It is read at each connection.
    #[must_use]
    pub fn trusting_file(self, path: PathBuf) -> Self {
        let file = FlagFile::new("CA of the HTTP proxy", path);
        let files = self.ca_files.iter().cloned().chain([file]);
        Self {
            url: self.url,
            ca_files: files.collect(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &ProxyUrl {
        &self.url
    }

    /// Asks for a connection to `host` (a name, which the proxy resolves, or an address without
    /// brackets) at `port`, over a socket just connected to [`ProxyUrl::address`]. All of it takes
    /// `limit` at most. CAs in `more_ca` (PEM, empty for none) may have signed the proxy's
    /// certificate too.
    ///
    /// # Errors
    /// [`ProxyError`]; its advice says what to do.
    pub async fn open(
        &self,
        socket: TcpStream,
        (host, port): (&str, u16),
        more_ca: &[u8],
        limit: Duration,
    ) -> Result<Outbound, ProxyError> {
        let deadline = Instant::now() + limit;
        let timed_out = |step| ProxyError::TimedOut {
            proxy: self.url.to_string(),
            step,
            limit,
        };
        let target = self.target(host, port)?;
        let mut stream = if self.url.is_encrypted() {
            let handshake = Box::pin(self.shake_hands(socket, more_ca));
            let stream = timeout_at(deadline, handshake).await;
            Either::Right(Box::new(stream.map_err(|_| timed_out(Step::Handshake))??))
        } else {
            Either::Left(socket)
        };
        let answer = timeout_at(deadline, Box::pin(self.connect(&mut stream, &target))).await;
        answer.map_err(|_| timed_out(Step::Answer))??;
        Ok(stream)
    }

    /// `host:port` as CONNECT names it.
    fn target(&self, host: &str, port: u16) -> Result<String, ProxyError> {
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProxyError::Target {
                proxy: self.url.to_string(),
                host: host.to_owned(),
            });
        }
        Ok(HostPort::new(host, port).to_string())
    }

    async fn shake_hands(
        &self,
        socket: TcpStream,
        more_ca: &[u8],
    ) -> Result<TlsStream<TcpStream>, ProxyError> {
        let proxy = || self.url.to_string();
        let tls = ClientTls::from_system(&self.ca_files, more_ca, vec![b"http/1.1".to_vec()])
            .map_err(|cause| ProxyError::Trust {
                proxy: proxy(),
                cause,
            })?;
        let failed = |cause| ProxyError::Tls {
            proxy: proxy(),
            cause,
        };
        let host = self.url.address().host.clone();
        let name = ServerName::try_from(host)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(tls.config());
        connector.connect(name, socket).await.map_err(failed)
    }

    async fn connect<Io>(&self, io: &mut Io, target: &str) -> Result<(), ProxyError>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let proxy = || self.url.to_string();
        let broken = |cause| ProxyError::Broken {
            proxy: proxy(),
            cause,
        };
        io.write_all(&self.request(target)).await.map_err(broken)?;
        io.flush().await.map_err(broken)?;
        let mut read = BytesMut::with_capacity(FIRST_READ);
        let (answer, head) = loop {
            if read.capacity() == read.len() {
                read.reserve(FIRST_READ);
            }
            if io.read_buf(&mut read).await.map_err(broken)? == 0 {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
            match ConnectAnswer::parse(&read) {
                Ok(Some(whole)) => break whole,
                Ok(None) => {}
                Err(cause) => {
                    return Err(ProxyError::NoAnswer {
                        proxy: proxy(),
                        cause,
                    });
                }
            }
        };
        if !answer.status.is_success() {
            return Err(ProxyError::Refused {
                proxy: proxy(),
                target: target.to_owned(),
                status: answer.status,
                reason: answer.reason,
                schemes: answer.schemes,
                with_credentials: self.url.authorization().is_some(),
            });
        }
        if read.len() > head {
            return Err(ProxyError::Early { proxy: proxy() });
        }
        Ok(())
    }

    fn request(&self, target: &str) -> Vec<u8> {
        let mut request =
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {OUR_NAME}\r\n")
                .into_bytes();
        if let Some(value) = self.url.authorization() {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}

const OUR_NAME: &str = concat!("cluster-proxy/", env!("CARGO_PKG_VERSION"));

/// Most answers are shorter; a longer one is read in pieces until it is whole or longer than
/// [`crate::MAX_ANSWER`].
const FIRST_READ: usize = 1024;
