//! The side that clients connect to: accepts, handshakes, reads requests, hands them to a
//! [`Front`], and ends in step with the process's drain.
//!
//! The accept loop outlives everything a network can do to it: errors of `accept` (EMFILE among
//! them) are waited out, and handshakes run in tasks of their own with a deadline, so that neither
//! garbage nor silence on one connection keeps the next one waiting.

mod connection;
mod settings;
pub(crate) mod unread;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::body::{Body, BodyError};
use crate::connect::{Dialled, Protocol};
use crate::tls;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::read_ahead::ReadAhead;
pub use settings::ServerSettings;

/// A role's HTTPS face.
pub trait Front: Send + Sync + 'static {
    /// Who a client is by its certificate.
    type Peer: Send + Sync + 'static;
    /// The content of answers.
    type Content: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static;

    /// The TLS configuration for the next handshake.
    fn tls_config(&self) -> Arc<ServerConfig>;

    /// Reads the client's verified certificate chain; `None` when it gave none.
    fn identify(&self, certificates: Option<&[CertificateDer<'_>]>) -> Self::Peer;

    /// Answers one request. Dropped when the client goes away.
    fn answer(
        &self,
        request: Request<Body>,
        client: &Arc<Client<Self::Peer>>,
    ) -> impl Future<Output = Response<Self::Content>> + Send;
}

/// What is known of a connection's client.
#[derive(Debug)]
pub struct Client<Peer> {
    /// Where it connects from.
    pub address: SocketAddr,
    /// What the connection speaks.
    pub protocol: Protocol,
    /// Who it is.
    pub peer: Peer,
}

/// What a server counts; clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    /// Connections accepted.
    pub accepted: Counter,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures: Counter,
    /// Connections open now.
    pub open: Gauge,
}

impl ServerMetrics {
    /// Adds the counters to `registry`; the caller gives it the role's prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections_accepted",
            "Client connections accepted",
            self.accepted.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "Client TLS handshakes that failed or took too long",
            self.handshake_failures.clone(),
        );
        registry.register(
            "connections_open",
            "Client connections open now",
            self.open.clone(),
        );
    }
}

/// Accepts connections on `listener` and lets `front` answer their requests, until `drain` closes.
///
/// Connections are tasks of `drain`: they finish their requests while it closes and are cut when it
/// ends.
pub async fn serve<F: Front>(
    listener: TcpListener,
    front: Arc<F>,
    settings: ServerSettings,
    metrics: ServerMetrics,
    drain: Drain,
) {
    let settings = Arc::new(settings);
    let places = Arc::new(Semaphore::new(settings.max_connections));
    loop {
        // A place first: what does not fit waits in the kernel's queue, not in memory of ours.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let accepted = tokio::select! {
            biased;
            () = drain.closing() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Some((place, Ok((tcp, address)))) => {
                metrics.accepted.inc();
                let incoming = Incoming {
                    tcp,
                    address,
                    place,
                };
                let (front, settings) = (Arc::clone(&front), Arc::clone(&settings));
                let (metrics, inner) = (metrics.clone(), drain.clone());
                drain.spawn(Box::pin(async move {
                    incoming.serve(front, &settings, &metrics, &inner).await;
                }));
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, "cannot accept a connection; going on");
                sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
}

struct Incoming {
    tcp: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
}

impl Incoming {
    async fn serve<F: Front>(
        self,
        front: Arc<F>,
        settings: &ServerSettings,
        metrics: &ServerMetrics,
        drain: &Drain,
    ) {
        let Self {
            tcp,
            address,
            place,
        } = self;
        // Requests and answers are small and complete: waiting to fill a packet only delays them.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let handshake = tokio::select! {
            () = drain.ended() => return,
            result = timeout(settings.handshake_timeout, tls::accept(front.tls_config(), ReadAhead::new(tcp))) => {
                result
            }
        };
        let Dialled { io, protocol } = match handshake {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(error)) => {
                metrics.handshake_failures.inc();
                tracing::debug!(client = %address, %error, "TLS handshake failed");
                return;
            }
            Err(_elapsed) => {
                metrics.handshake_failures.inc();
                tracing::debug!(client = %address, "TLS handshake took too long");
                return;
            }
        };
        let peer = front.identify(io.get_ref().1.peer_certificates());
        let client = Arc::new(Client {
            address,
            protocol,
            peer,
        });
        let open = Open::new(metrics.open.clone());
        connection::serve(io, front, client, settings, drain).await;
        drop((open, place));
    }
}

/// Counts a connection while it is open.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// After a failed `accept`: long enough not to spin while descriptors are short, short enough that
/// nobody notices once they are not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
