//! Bounds of a pool: how many connections, how much memory each may hold, how long to wait.

use std::time::Duration;

/// Which kind of request rides where.
///
/// Short requests and long ones have connections of their own, so that a hundred idle watches
/// never stand in the way of a `get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Answered and over.
    Short,
    /// Open until somebody hangs up: watches, followed logs.
    Long,
}

impl Class {
    /// Index into arrays of one element per class.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Short => 0,
            Self::Long => 1,
        }
    }

    /// What one stream may hold unread, in bytes.
    ///
    /// A long stream is read by a person or a controller and often not at all for a while
    /// (`logs | less`); a small window keeps what it may pin small. A short one carries lists of
    /// many megabytes, and window / round trip is its speed.
    pub(crate) const fn stream_window(self) -> u32 {
        match self {
            Self::Short => 1 << 20,
            Self::Long => 256 << 10,
        }
    }
}

/// How a [`Pool`](crate::Pool) behaves. All counts are per class.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// HTTP/2 connections at most.
    pub max_connections: usize,
    /// Connections at most to a peer that speaks only HTTP/1.1, where each carries one request.
    pub max_http1_connections: usize,
    /// Streams at most on one connection. kube-apiserver allows 100 and closes a connection that
    /// asks for more than it should; ten stay free for streams that are closing.
    pub max_streams: usize,
    /// Short requests on every connection before another connection is opened, so that the work
    /// of encryption spreads over cores and a lost packet holds up few. Not sooner: requests on
    /// one connection share records, system calls and wake-ups at every hop, and 16 of them spread
    /// over two cost a fifth more CPU in all.
    pub comfortable_streams: usize,
    /// For one dial, handshakes included.
    pub dial_timeout: Duration,
    /// How long a request waits for a free stream when all connections are full.
    pub slot_timeout: Duration,
    /// After which an idle connection closes while its class has another one.
    pub idle_timeout: Duration,
    /// After which the last idle connection of a class closes.
    pub last_idle_timeout: Duration,
    /// Silence after which a PING asks whether the peer is there; silent for as long again, it
    /// counts as dead. Looked at once per such time, so a peer is found dead within three.
    pub keepalive: Duration,
    /// After which a connection takes no new requests, where its credentials or its trust may have
    /// rotated since. Those on it go on.
    pub max_age: Option<Duration>,
    /// How long a request with `Expect: 100-continue` waits for the peer's word before its body
    /// is sent (RFC 9110 section 10.1.1).
    pub expect_timeout: Duration,
    /// Upgraded connections (exec, port-forward, WebSocket) at most.
    pub max_upgrades: usize,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            // With 90 streams each more than a cluster's limit of requests in the user-server.
            max_connections: 48,
            max_http1_connections: 64,
            max_streams: 90,
            comfortable_streams: 32,
            dial_timeout: Duration::from_secs(10),
            slot_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            last_idle_timeout: Duration::from_secs(600),
            keepalive: Duration::from_secs(10),
            max_age: None,
            expect_timeout: Duration::from_secs(1),
            max_upgrades: 512,
        }
    }
}

/// Streams assumed to be allowed until the peer's SETTINGS have come. RFC 9113 section 6.5.2
/// recommends no limit below 100; eight is safe with every server met so far.
pub(crate) const STREAMS_BEFORE_SETTINGS: usize = 8;

/// The largest frame taken, in bytes: fewer frames per megabyte than with the default 16 KiB.
pub(crate) const MAX_FRAME_SIZE: u32 = 64 << 10;

/// What one stream may have queued for sending, in bytes; beyond it the upload waits.
pub(crate) const MAX_SEND_BUFFER: usize = 256 << 10;

/// The largest header list taken from the peer, in bytes with 32 per field (RFC 9113 section
/// 6.5.2). Kubernetes answers stay below 10 KiB; services set cookies.
pub(crate) const MAX_HEADER_LIST: u32 = 256 << 10;

/// The cost of unread small DATA frames before h2 closes the connection, in bytes.
///
/// A frame under 256 bytes costs 256 minus its length until it is read. Ninety stalled readers of
/// 80-byte log lines, each with a full window, cost 52 MB; the bound must hold them and still stop
/// a peer that sends single bytes.
pub(crate) const DATA_FRAME_BUDGET: usize = 64 << 20;

/// Interim (1xx) answers taken for one request. A server sends one or two.
pub(crate) const MAX_INTERIM_ANSWERS: usize = 32;

/// Requests waiting for a stream at most, per class; the next one is refused at once.
pub(crate) const MAX_WAITING: usize = 1024;

/// Tries of a request that the peer refused unprocessed.
pub(crate) const MAX_ATTEMPTS: usize = 4;

/// Kept connections that a request may find closed before it gives up. Each is let go of, so this
/// is more than a pool can hold at once.
pub(crate) const MAX_CLOSED_MET: usize = 16;

/// How much of a request body is kept for another try, in bytes. `kubectl apply` fits; an upload
/// beyond it is sent once.
pub(crate) const MAX_REPLAY: usize = 64 << 10;

/// The connection window: every stream can fill its own, so the connection's is never the limit
/// and a reader that stalls stops nobody else (equal windows deadlock).
pub(crate) fn connection_window(streams: usize, stream_window: u32) -> u32 {
    let wanted = u64::from(stream_window).saturating_mul(streams as u64);
    u32::try_from(wanted.min(MAX_WINDOW)).expect("bounded by MAX_WINDOW, which fits")
}

/// The largest window of HTTP/2 (RFC 9113 section 6.9.1).
const MAX_WINDOW: u64 = (1 << 31) - 1;
