//! Bounds of a server: what one client, and all of them, may hold.

use std::time::Duration;

/// How a server treats its clients.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Connections open at most; more wait to be accepted.
    pub max_connections: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head on HTTP/1.1, and for the time between two requests.
    pub header_read_timeout: Duration,
    /// A request's head at most, in bytes. Five hundred groups in headers are about 100 KiB.
    pub max_header_size: u32,
    /// HTTP/2 streams at most on one connection.
    pub max_streams: u32,
    /// What a client may send on one stream before it is read, in bytes. With `max_streams` this
    /// is what one connection can pin.
    pub stream_window: u32,
    /// Silence after which a PING asks an HTTP/2 client whether it is there.
    pub keepalive: Duration,
    /// How long it may take to answer.
    pub keepalive_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(30),
            max_header_size: 256 << 10,
            // Above the pool's 90: two of our own programs never meet this limit.
            max_streams: 128,
            stream_window: 512 << 10,
            keepalive: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

impl ServerSettings {
    /// Every stream can fill its window, so that a request nobody reads stops no other. It is also
    /// twice h2's budget for small unread DATA frames, which hyper lets nobody set.
    pub(crate) fn connection_window(&self) -> u32 {
        self.stream_window
            .saturating_mul(self.max_streams)
            .min(MAX_WINDOW)
    }
}

/// The largest window of HTTP/2 (RFC 9113 section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The largest frame taken, in bytes.
pub(crate) const MAX_FRAME_SIZE: u32 = 64 << 10;

/// What is queued for one stream beyond the client's window, in bytes.
pub(crate) const MAX_SEND_BUFFER: usize = 256 << 10;

/// Streams that a client opened and reset before we looked at them (CVE-2023-44487).
pub(crate) const MAX_RESET_PENDING: usize = 20;

/// Streams that we reset for a client's errors, over a connection's life (CVE-2025-8671).
pub(crate) const MAX_ERROR_RESETS: usize = 1024;
