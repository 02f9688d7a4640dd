//! One pooled connection, the slots on it, and the tasks that drive it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, client};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::settings::{Class, STREAMS_BEFORE_SETTINGS};
use super::traffic::{Counted, Traffic};
use crate::body::Body;

/// A connection of a pool. It closes when the pool has let go of it and its last request is over.
pub(crate) struct Connection {
    pub(crate) class: Class,
    pub(crate) traffic: Arc<Traffic>,
    transport: Transport,
    home: Weak<dyn Home>,
    /// Uploads that wait for the peer to read. While there are any, requests go elsewhere.
    stalled: AtomicUsize,
    open: Gauge,
}

/// What carries the requests.
pub(crate) enum Transport {
    Http2 {
        sender: client::SendRequest<Bytes>,
        limits: Arc<PeerLimits>,
    },
    /// `None` while a request is on it.
    Http1 {
        sender: Mutex<Option<http1::SendRequest<Body>>>,
    },
}

/// What the HTTP/2 peer allows, kept current by the task that drives the connection.
#[derive(Debug)]
pub(crate) struct PeerLimits {
    /// The peer has answered once, so its SETTINGS are known.
    settled: AtomicBool,
    max_streams: AtomicUsize,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            settled: AtomicBool::new(false),
            max_streams: AtomicUsize::new(STREAMS_BEFORE_SETTINGS),
        }
    }
}

/// The pool, as its connections see it.
pub(crate) trait Home: Send + Sync {
    /// A request on `connection` is over.
    fn released(&self, connection: &Arc<Connection>);
    /// `connection` takes no more requests.
    fn closed(&self, connection: &Arc<Connection>);
    /// The peer's limits are known.
    fn settled(&self, class: Class);
    /// Lets go of `connection` if it has been idle for long enough, or is too old.
    fn let_go_if_due(&self, connection: &Arc<Connection>);
}

impl Connection {
    pub(crate) fn new(
        class: Class,
        transport: Transport,
        traffic: Arc<Traffic>,
        home: Weak<dyn Home>,
        open: Gauge,
    ) -> Arc<Self> {
        open.inc();
        Arc::new(Self {
            class,
            traffic,
            transport,
            home,
            stalled: AtomicUsize::new(0),
            open,
        })
    }

    pub(crate) const fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) const fn is_http1(&self) -> bool {
        matches!(self.transport, Transport::Http1 { .. })
    }

    /// Requests that it takes at the same time, `cap` at most.
    pub(crate) fn limit(&self, cap: usize) -> usize {
        match &self.transport {
            Transport::Http2 { limits, .. } => limits.max_streams.load(Ordering::Acquire).min(cap),
            Transport::Http1 { .. } => 1,
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        match &self.transport {
            Transport::Http2 { limits, .. } => limits.settled.load(Ordering::Acquire),
            Transport::Http1 { .. } => true,
        }
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed) > 0
    }

    /// Counts an upload that waits for the peer, until the guard is dropped.
    pub(crate) fn stall(self: &Arc<Self>) -> Stall {
        self.stalled.fetch_add(1, Ordering::Relaxed);
        Stall {
            connection: Arc::clone(self),
        }
    }

    pub(crate) fn close(self: &Arc<Self>) {
        if let Some(home) = self.home.upgrade() {
            home.closed(self);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("class", &self.class)
            .field("http1", &self.is_http1())
            .finish_non_exhaustive()
    }
}

/// An upload that waits for the peer to read.
#[derive(Debug)]
pub(crate) struct Stall {
    connection: Arc<Connection>,
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.connection.stalled.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to one request on a connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    connection: Arc<Connection>,
}

impl Slot {
    /// Only the roster makes slots, and counts them.
    pub(crate) const fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    pub(crate) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(home) = self.connection.home.upgrade() {
            home.released(&self.connection);
        }
    }
}

/// Moves an HTTP/2 connection's frames, keeps what the peer allows current, finds dead peers.
pub(crate) async fn drive_http2<Io>(
    mut frames: client::Connection<Counted<Io>, Bytes>,
    connection: Weak<Connection>,
    limits: Arc<PeerLimits>,
    traffic: Arc<Traffic>,
    home: Weak<dyn Home>,
    class: Class,
    keepalive: Duration,
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut ping_pong = frames.ping_pong().expect("nobody else takes the handle");
    let mut ticks = ticker(keepalive);
    // The first PING's answer comes behind the peer's SETTINGS (RFC 9113 section 3.4).
    let mut pinging = ping_pong.send_ping(Ping::opaque()).is_ok();
    let mut read_before = traffic.read();

    loop {
        let event = poll_fn(|context| {
            if let Poll::Ready(result) = Pin::new(&mut frames).poll(context) {
                return Poll::Ready(Event::Closed(result));
            }
            if limits.settled.load(Ordering::Relaxed) {
                limits
                    .max_streams
                    .store(frames.max_concurrent_send_streams(), Ordering::Release);
            }
            if let Poll::Ready(Ok(_)) = ping_pong.poll_pong(context) {
                return Poll::Ready(Event::Pong);
            }
            ticks.poll_tick(context).map(|_| Event::Tick)
        })
        .await;
        match event {
            Event::Closed(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "pooled connection ended");
                }
                break;
            }
            Event::Pong => {
                pinging = false;
                if !limits.settled.swap(true, Ordering::AcqRel) {
                    limits
                        .max_streams
                        .store(frames.max_concurrent_send_streams(), Ordering::Release);
                    if let Some(home) = home.upgrade() {
                        home.settled(class);
                    }
                }
            }
            Event::Tick => {
                let read_now = traffic.read();
                if read_now == read_before {
                    if pinging {
                        tracing::debug!("pooled connection's peer is silent; closing");
                        break;
                    }
                    pinging = ping_pong.send_ping(Ping::opaque()).is_ok();
                }
                read_before = read_now;
                check_age(&home, &connection);
            }
        }
    }
    if let (Some(home), Some(connection)) = (home.upgrade(), connection.upgrade()) {
        home.closed(&connection);
    }
}

/// Moves an HTTP/1.1 connection's bytes.
pub(crate) async fn drive_http1<Io>(
    driver: http1::Connection<TokioIo<Counted<Io>>, Body>,
    connection: Weak<Connection>,
    home: Weak<dyn Home>,
    look_after: Duration,
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut driver = std::pin::pin!(driver);
    let mut ticks = ticker(look_after);
    loop {
        tokio::select! {
            result = &mut driver => {
                if let Err(error) = result {
                    tracing::debug!(%error, "pooled HTTP/1.1 connection ended");
                }
                break;
            }
            _ = ticks.tick() => check_age(&home, &connection),
        }
    }
    if let (Some(home), Some(connection)) = (home.upgrade(), connection.upgrade()) {
        home.closed(&connection);
    }
}

enum Event {
    Closed(Result<(), h2::Error>),
    Pong,
    Tick,
}

fn check_age(home: &Weak<dyn Home>, connection: &Weak<Connection>) {
    if let (Some(home), Some(connection)) = (home.upgrade(), connection.upgrade()) {
        home.let_go_if_due(&connection);
    }
}

fn ticker(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Transport {
    pub(crate) const fn http1(sender: http1::SendRequest<Body>) -> Self {
        Self::Http1 {
            sender: Mutex::new(Some(sender)),
        }
    }
}

/// Takes an HTTP/1.1 connection's sender; a panic elsewhere cannot leave it half changed.
pub(crate) fn take_sender(
    sender: &Mutex<Option<http1::SendRequest<Body>>>,
) -> Option<http1::SendRequest<Body>> {
    sender.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Puts an HTTP/1.1 connection's sender back for the next request.
pub(crate) fn return_sender(
    place: &Mutex<Option<http1::SendRequest<Body>>>,
    sender: http1::SendRequest<Body>,
) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
}
