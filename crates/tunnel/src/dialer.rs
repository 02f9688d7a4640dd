//! Reaching a target through the tunnel: the [`Dialer`] trait, and [`ProxyServerDialer`], which
//! asks a proxy-server over a few kept connections.
//!
//! One CONNECT stream for each tunnelled connection; nothing is dialled for a stream while a kept
//! connection lives. Connections are made lazily, one at a time, however many wait for the first.
//!
//! Behind the server's address there may be several. A connection that received a GOAWAY or died is
//! replaced; a stream that died with it before it was answered is tried again on another. A server
//! that is gone without a word is found by its silence after half a minute only: a stream that is
//! not answered soon is tried on another connection beside, and the first answer counts. (A slow
//! target is then dialled twice; one of the two is closed unused.)

mod metrics;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::tls::ClientTls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::dial_error::DialError;
use crate::frontend::HTTP2_ALPN;
use crate::http2::Http2Settings;
use crate::http2::client::{ClientLink, ConnectFailure, SLOW_ANSWER, is_loss_of_link};
use crate::stream::TunnelStream;
use crate::target::{Target, TargetError};
use crate::{socket, tls};

pub use metrics::DialerMetrics;

/// A connection as a [`Dialer`] makes it.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// What [`Dialer::dial`] returns.
pub type Dialling<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, DialError>> + Send + 'a>>;

/// Reaches targets. The seam for tests of those who use the tunnel.
pub trait Dialer: fmt::Debug + Send + Sync {
    /// Connects to `target`. Never waits without a deadline.
    fn dial<'a>(&'a self, target: &'a Target) -> Dialling<'a>;
}

/// How a [`ProxyServerDialer`] works.
#[derive(Debug, Clone)]
pub struct DialerConfig {
    /// The proxy-server's host and port for users of the tunnel.
    pub server: Target,
    /// Trust and client certificate; the protocol offered is set by the dialer.
    pub tls: ClientTls,
    /// How many connections to keep, at least 1. Several spread the work over cores, and loss on
    /// one stalls only its own streams.
    pub connections: usize,
    /// Limit for one [`ProxyServerDialer::connect`], everything included.
    pub deadline: Duration,
    /// HTTP/2 settings of the kept connections.
    pub http2: Http2Settings,
}

impl DialerConfig {
    /// The usual settings: 2 connections, 10 s for a connect.
    #[must_use]
    pub fn new(server: Target, tls: ClientTls) -> Self {
        Self {
            server,
            tls,
            connections: 2,
            deadline: Duration::from_secs(10),
            http2: Http2Settings::default(),
        }
    }
}

/// Reaches targets through a proxy-server. Clones share the kept connections; when the last is
/// dropped, each of those ends with the last stream on it.
#[derive(Debug, Clone)]
pub struct ProxyServerDialer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: DialerConfig,
    tls: ClientTls,
    server_name: ServerName<'static>,
    metrics: DialerMetrics,
    kept: Mutex<Vec<ClientLink>>,
    /// Drivers of connections: each ends with its connection.
    drivers: TaskTracker,
    /// Held by who dials: the single flight. A lock over await on purpose.
    flight: Arc<tokio::sync::Mutex<Flight>>,
}

/// How dialling went lately.
#[derive(Debug, Default)]
struct Flight {
    failed: Option<(Instant, DialError)>,
}

impl ProxyServerDialer {
    /// A dialer that has dialled nothing yet.
    ///
    /// # Errors
    ///
    /// When the server's host is no name that a certificate could have.
    pub fn new(config: DialerConfig, metrics: DialerMetrics) -> Result<Self, TargetError> {
        let host = config.server.host();
        let server_name = ServerName::try_from(host).map_err(|_| TargetError::Host)?;
        let tls = config.tls.with_alpn(&[HTTP2_ALPN]);
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                tls,
                server_name,
                metrics,
                kept: Mutex::default(),
                drivers: TaskTracker::new(),
                flight: Arc::default(),
            }),
        })
    }

    /// Connects to `target` through the tunnel.
    ///
    /// # Errors
    ///
    /// Why not, within the configured deadline.
    pub async fn connect(&self, target: &Target) -> Result<TunnelStream, DialError> {
        let deadline = self.inner.config.deadline;
        let connected = timeout(deadline, self.try_connect(target))
            .await
            .unwrap_or_else(|_| {
                let details = format!("nothing within {} s", deadline.as_secs());
                Err(DialError::TimedOut { details })
            });
        self.inner.metrics.count(connected.as_ref().err());
        connected
    }

    async fn try_connect(&self, target: &Target) -> Result<TunnelStream, DialError> {
        let mut first = pin!(self.connect_on_any(target));
        if let Ok(connected) = timeout(SLOW_ANSWER + BESIDE, first.as_mut()).await {
            return connected;
        }
        let mut beside = pin!(self.connect_on_any(target));
        tokio::select! {
            connected = first.as_mut() => match connected {
                Err(DialError::ServerUnreachable { .. }) => beside.await,
                connected => connected,
            },
            connected = beside.as_mut() => match connected {
                Err(DialError::ServerUnreachable { .. }) => first.await,
                connected => connected,
            },
        }
    }

    /// Tries servers until one answers, a few times at most.
    async fn connect_on_any(&self, target: &Target) -> Result<TunnelStream, DialError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, was_kept) = match self.connect_once(target).await {
                Ok(stream) => return Ok(stream),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Server { error, was_kept }) => (error, was_kept),
            };
            if tries >= MAX_TRIES {
                return Err(error);
            }
            // A kept connection may have died while nobody looked.
            if !was_kept {
                sleep(TRY_PAUSE).await;
            }
        }
    }

    async fn connect_once(&self, target: &Target) -> Result<TunnelStream, Failed> {
        let (link, fresh) = self.link().await.map_err(|error| Failed::Server {
            error,
            was_kept: false,
        })?;
        let failure = match link.connect(target, self.inner.config.deadline).await {
            Ok(stream) => return Ok(stream),
            Err(failure) => failure,
        };
        Err(match failure {
            ConnectFailure::Answered { error } => Failed::Final(error),
            ConnectFailure::Unanswered { limit } => {
                let details = format!("the server did not answer in {} s", limit.as_secs());
                Failed::Final(DialError::TimedOut { details })
            }
            ConnectFailure::Full { max } => {
                let details = format!("{max} connections to the proxy-server's connection");
                Failed::Final(DialError::Overloaded { details })
            }
            ConnectFailure::Lost { source } => {
                let details = format!("{}: {source}", self.inner.config.server);
                let error = DialError::ServerUnreachable { details };
                if is_loss_of_link(&source) {
                    let was_kept = !fresh;
                    Failed::Server { error, was_kept }
                } else {
                    Failed::Final(error)
                }
            }
        })
    }

    /// A connection with room for a stream, and whether it was made just now.
    async fn link(&self) -> Result<(ClientLink, bool), DialError> {
        if let Some(link) = self.inner.least_busy() {
            self.grow();
            return Ok((link, false));
        }
        let asked = Instant::now();
        let mut flight = self.inner.flight.lock().await;
        if let Some(link) = self.inner.least_busy() {
            return Ok((link, true));
        }
        // Who waited for a flight that failed shares its failure, instead of dialling in turn.
        if let Some((at, error)) = &flight.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let dialled = self.inner.dial().await;
        flight.failed = dialled
            .as_ref()
            .err()
            .map(|error| (Instant::now(), error.clone()));
        dialled.map(|link| (link, true))
    }

    /// Makes one more connection in the background when every kept one is busy and there may be
    /// more.
    fn grow(&self) {
        let kept = self.inner.kept();
        let sound = kept.iter().filter(|link| !link.is_doubtful()).count();
        if sound >= self.inner.config.connections
            || kept.len() >= self.inner.config.connections + MAX_DOUBTFUL
            || kept.iter().any(|link| link.busy_streams() == 0)
        {
            return;
        }
        let Ok(mut flight) = Arc::clone(&self.inner.flight).try_lock_owned() else {
            return;
        };
        if flight
            .failed
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() < GROWTH_PAUSE)
        {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        self.inner.drivers.spawn(async move {
            let Some(inner) = inner.upgrade() else { return };
            if let Err(error) = inner.dial().await {
                tracing::debug!(%error, "no further connection to the proxy-server");
                flight.failed = Some((Instant::now(), error));
            }
        });
    }
}

impl Dialer for ProxyServerDialer {
    fn dial<'a>(&'a self, target: &'a Target) -> Dialling<'a> {
        Box::pin(async move {
            let stream = self.connect(target).await?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }
}

impl Inner {
    fn kept(&self) -> MutexGuard<'_, Vec<ClientLink>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept connection with the fewest busy streams; forgets those that take none any more.
    /// Doubtful ones are left out, unless there are so many that the targets must be slow.
    fn least_busy(&self) -> Option<ClientLink> {
        let mut kept = self.kept();
        kept.retain(ClientLink::is_usable);
        let may_replace = kept.len() < self.config.connections + MAX_DOUBTFUL;
        kept.iter()
            .filter(|link| link.has_room() && !(may_replace && link.is_doubtful()))
            .min_by_key(|link| {
                let doubtful = link.is_doubtful();
                (doubtful, link.busy_streams(), link.open_streams())
            })
            .cloned()
    }

    /// Makes a connection and keeps it.
    async fn dial(&self) -> Result<ClientLink, DialError> {
        let server = &self.config.server;
        let unreachable = |details: String| DialError::ServerUnreachable {
            details: format!("proxy-server {server}: {details}"),
        };
        self.metrics.connection_dialled();
        let limit = self.config.deadline;
        let socket = socket::dial(&server.host(), server.port(), limit)
            .await
            .map_err(|error| unreachable(error.details().to_owned()))?;
        let config = self.tls.config();
        let connected = tls::connect(socket, self.server_name.clone(), config, limit)
            .await
            .map_err(|error| unreachable(format!("TLS: {error}: {}", tls::explain(&error))))?;
        if connected.alpn.as_deref() != Some(HTTP2_ALPN) {
            return Err(unreachable(
                "it offers no HTTP/2: is this the port for users of the tunnel (8090)?".to_owned(),
            ));
        }
        let (link, driver) = ClientLink::start(connected.stream, &self.config.http2)
            .await
            .map_err(|error| unreachable(error.in_full()))?;
        let name = server.to_string();
        self.drivers.spawn(async move {
            let end = driver.await;
            tracing::info!(
                server = name,
                reason = end.reason(),
                "connection to the proxy-server ended: {}",
                end.in_full()
            );
        });
        self.kept().push(link.clone());
        tracing::info!(%server, "connected to the proxy-server");
        Ok(link)
    }
}

/// Why a stream was not opened.
enum Failed {
    /// Another server would say the same, or may not be asked again.
    Final(DialError),
    /// The server was not reached, or lost.
    Server { error: DialError, was_kept: bool },
}

/// More than the time after which a connection is doubtful, so that another is taken.
const BESIDE: Duration = Duration::from_millis(50);

/// A load balancer may lead to a server that has just gone a few times in a row.
const MAX_TRIES: u32 = 4;

/// For a load balancer to notice.
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// Doubtful connections kept beyond the configured number, until they answer or are found dead.
const MAX_DOUBTFUL: usize = 2;

/// How long a failed attempt at one more connection lasts while others still work.
const GROWTH_PAUSE: Duration = Duration::from_secs(5);
