//! The listener: TCP or a Unix socket, TLS over either, HTTP/1.1 and HTTP/2 by ALPN.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::tls::ServerTls;
use cluster_proxy_runtime::drain::Drain;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::cluster::Cluster;
use crate::config::Listener;
use crate::handlers;

/// Where an embedded cluster listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddress {
    /// With the port that was taken.
    Tcp(SocketAddr),
    /// The socket's path.
    Unix(PathBuf),
}

/// A listener that is bound and not served yet.
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removes the socket's file when it is dropped.
        _file: SocketFile,
    },
}

impl Bound {
    /// # Errors
    /// When the address is in use or not allowed.
    pub(crate) async fn bind(listener: &Listener) -> io::Result<(Self, LocalAddress)> {
        match listener {
            Listener::Tcp(address) => {
                let bound = TcpListener::bind(address).await?;
                let address = bound.local_addr()?;
                Ok((Self::Tcp(bound), LocalAddress::Tcp(address)))
            }
            Listener::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                let bound = Self::Unix {
                    listener,
                    _file: SocketFile(path.clone()),
                };
                let owner_only = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(path, owner_only)?;
                Ok((bound, LocalAddress::Unix(path.clone())))
            }
        }
    }

    /// Serves until the drain closes.
    pub(crate) async fn serve(self, server: Server) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let drain = server.cluster.drain.clone();
        let server = Arc::new(server);
        loop {
            let place = Arc::clone(&connections).acquire_owned();
            let place = tokio::select! {
                place = place => place.expect("the semaphore is never closed"),
                () = drain.closing() => return,
            };
            let stream = tokio::select! {
                accepted = self.accept() => accepted,
                () = drain.closing() => return,
            };
            match stream {
                Ok(stream) => {
                    let server = Arc::clone(&server);
                    drain.spawn_until_ended(async move {
                        server.connection(stream).await;
                        drop(place);
                    });
                }
                // Out of files, or a peer that was gone at once: neither ends the listener.
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Transport>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix { listener, .. } => Box::new(listener.accept().await?.0),
        })
    }
}

/// What every connection is served with.
pub(crate) struct Server {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) tls: ServerTls,
}

impl Server {
    async fn connection(&self, stream: Box<dyn Transport>) {
        let acceptor = TlsAcceptor::from(self.tls.config());
        let tls = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!("TLS handshake took too long");
                return;
            }
        };
        let certificate = tls
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .map(|it| Arc::new(it.clone().into_owned()));
        let service = service_fn(|request| {
            let answered =
                handlers::handle(Arc::clone(&self.cluster), certificate.clone(), request);
            async { Ok::<_, Infallible>(answered.await) }
        });
        let drain = &self.cluster.drain;
        let builder = builder(drain);
        let connection = builder.serve_connection(TokioIo::new(tls), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = drain.closing() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection broke off");
        }
    }
}

fn builder(drain: &Drain) -> Builder<DrainExecutor> {
    let mut builder = Builder::new(DrainExecutor(drain.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER);
    builder
}

/// Streams of HTTP/2 connections as tasks that the drain owns.
#[derive(Debug, Clone)]
struct DrainExecutor(Drain);

impl<F> Executor<F> for DrainExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn_until_ended(task);
    }
}

/// A connection of either kind.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A socket's file, gone with its listener.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "the socket's file stays");
        }
    }
}

/// Removes the socket that a killed process left behind; one that somebody listens on stays, and
/// so does a file of another kind.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// Connections at once: a test opens hundreds, and each costs some tens of kilobytes.
const MAX_CONNECTIONS: usize = 2000;

/// Requests at once on an HTTP/2 connection, as the kube-apiserver takes.
const MAX_STREAMS: u32 = 100;

/// All headers of a request: 500 groups to impersonate, and a large token.
const MAX_HEADER_BYTES: u32 = 256 * 1024;

/// Each group is a header of its own.
const MAX_HEADERS: usize = 1000;

const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADER_TIME: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(15);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the file stays behind");
        let (bound, address) = Bound::bind(&Listener::Unix(path.clone())).await.unwrap();
        assert_eq!(address, LocalAddress::Unix(path.clone()));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Bound::bind(&Listener::Unix(path.clone())).await;
        assert_eq!(second.err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());
        std::fs::remove_dir(&folder).unwrap();
    }
}
