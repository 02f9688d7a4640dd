//! Packets onto a gRPC stream.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::{Packet, framing};
use h2::SendStream;
use http::HeaderMap;

use super::grpc::violation;
use super::packet_counts::Segment;
use crate::error::TunnelError;
use crate::http2::DATA_PAYLOAD;

/// The sending half, and what does not fit it yet. A connection's bytes are queued only when
/// nothing else waits; the other packets are bounded by [`Self::is_crowded`].
#[derive(Debug)]
pub(super) struct Outbox {
    stream: SendStream<Bytes>,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    segment: Segment,
}

impl Outbox {
    pub(super) fn new(stream: SendStream<Bytes>, segment: Segment) -> Self {
        Self {
            stream,
            waiting: VecDeque::new(),
            bytes: 0,
            segment,
        }
    }

    pub(super) fn push(&mut self, packet: &Packet) {
        self.segment.count(packet);
        let message = framing::frame(packet);
        self.bytes += message.len();
        self.waiting.push_back(message);
    }

    /// Whether so much waits that the peer is to be read no further: all else that is sent answers
    /// something that it sent.
    pub(super) fn is_crowded(&self) -> bool {
        self.bytes > CROWDED
    }

    /// Ready when everything is with h2.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        while let Some(message) = self.waiting.front_mut() {
            let wanted = message.len().min(DATA_PAYLOAD);
            self.stream.reserve_capacity(wanted);
            // `poll_capacity` reports increases only: what is there already must be asked for first.
            let available = match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(available)) => available,
                    Some(Err(source)) => return Poll::Ready(Err(TunnelError::Http2 { source })),
                    None => return Poll::Ready(Err(violation("the peer takes no more packets"))),
                },
                available => available,
            };
            let part = message.split_to(available.min(wanted));
            if message.is_empty() {
                self.waiting.pop_front();
            }
            self.bytes -= part.len();
            self.stream
                .send_data(part, false)
                .map_err(|source| TunnelError::Http2 { source })?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends this half, with trailers when it is a server's. Fails only when the stream is gone.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        let _ = match trailers {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
    }
}

/// More than one DIAL_REQ for each dial that may wait and one close for each connection: honest
/// ends never get so far, so that two of them cannot wait for each other.
const CROWDED: usize = 1024 * 1024;
