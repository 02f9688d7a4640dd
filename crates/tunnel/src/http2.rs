//! HTTP/2 as the tunnel uses it: one set of limits for every connection, keepalive, and the two
//! ends (who opens CONNECT streams, who answers them).
//!
//! Equal stream and connection windows deadlock (one stalled stream takes all credit), so the
//! connection window is the largest there is and the number of streams is bounded such that
//! their windows never exceed it.

mod batch;
pub(crate) mod client;
pub(crate) mod keepalive;
pub(crate) mod server;

use std::time::Duration;

pub use crate::incoming::IncomingConnect;

/// What may be set of an HTTP/2 connection of the tunnel. The defaults suit both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Settings {
    /// Flow control window of each stream in bytes: 1 MiB unless set; up to 16 MiB for long fat
    /// links, since a stream moves at most one window per round trip.
    pub stream_window: u32,
    /// How long a connection may be idle before the peer is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long the peer may stay silent after it was asked.
    pub ping_timeout: Duration,
    /// Limit for everything between the end of the TLS handshake and the first tunnel.
    pub handshake_timeout: Duration,
}

impl Http2Settings {
    /// The most streams one connection may carry: their windows together stay within the
    /// connection's. Never 0.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        usize::try_from(self.max_concurrent_streams()).unwrap_or(usize::MAX)
    }

    fn max_concurrent_streams(&self) -> u32 {
        CONNECTION_WINDOW / self.bounded_stream_window()
    }

    fn bounded_stream_window(&self) -> u32 {
        self.stream_window
            .clamp(MIN_STREAM_WINDOW, MAX_STREAM_WINDOW)
    }

    fn client(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.bounded_stream_window())
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_SIZE)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_LIST)
            .initial_max_send_streams(self.max_streams())
            .data_frame_budget(DATA_FRAME_BUDGET)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(REMEMBER_RESETS_FOR)
            .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
            .enable_push(false);
        builder
    }

    fn server(&self, resets_before_accept: usize) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.bounded_stream_window())
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_SIZE)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_concurrent_streams(self.max_concurrent_streams())
            .data_frame_budget(DATA_FRAME_BUDGET)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(REMEMBER_RESETS_FOR)
            .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
            .max_pending_accept_reset_streams(resets_before_accept);
        builder
    }
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            stream_window: 1024 * 1024,
            ping_interval: Duration::from_secs(10),
            // Twice this, as a byte may come right after the question, is found within 30 s.
            ping_timeout: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Payload of a full DATA frame: with the frame's header of 9 bytes it fills four TLS records of
/// 16 KiB exactly. One byte more would cost a record of its own.
pub(crate) const DATA_PAYLOAD: usize = 65_527;

/// RFC 9113 section 6.9.1: the largest window. Never the limit; the stream windows are.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// HTTP/2's own initial window: less would only cost round trips.
const MIN_STREAM_WINDOW: u32 = 65_535;

/// 16 MiB: 127 streams still fit one connection.
const MAX_STREAM_WINDOW: u32 = 16 * 1024 * 1024;

/// Takes [`DATA_PAYLOAD`] with room for peers that round up.
const MAX_FRAME_SIZE: u32 = 64 * 1024;

/// Bytes of one stream that may wait for the socket: one full frame leaves while the next is read.
/// What is beyond this waits at the relay, where it is counted.
pub(crate) const MAX_SEND_BUFFER: usize = 2 * DATA_PAYLOAD;

/// A CONNECT request or answer has a handful of short headers.
const MAX_HEADER_LIST: u32 = 32 * 1024;

/// What unread small DATA frames may cost before the peer counts as flooding, in h2's measure
/// (256 bytes less the payload for each frame; about what the frame takes in memory). Enough for
/// 80 stalled streams whose windows are full of 100-byte lines, and a bound on what one peer can
/// pin beyond its windows.
const DATA_FRAME_BUDGET: usize = 128 * 1024 * 1024;

/// Streams reset here whose late frames are still known as such: as many as may be open.
const REMEMBERED_RESETS: usize = 2048;

/// Long enough for a window of data that was under way when the stream was reset.
const REMEMBER_RESETS_FOR: Duration = Duration::from_secs(10);

/// Streams the peer may make us reset by its errors over the connection's life (CVE-2025-8671).
/// h2 counts late frames of forgotten streams too, and a lane lives for months.
const MAX_ERROR_RESETS: usize = 65_536;
