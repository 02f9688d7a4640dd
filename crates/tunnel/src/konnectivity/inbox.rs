//! Packets off a gRPC stream.

use std::task::{Context, Poll, ready};

use cluster_proxy_konnectivity_wire::Packet;
use cluster_proxy_konnectivity_wire::framing::Unframer;
use h2::RecvStream;
use http::HeaderMap;

use super::grpc::violation;
use super::packet_counts::Segment;
use crate::error::TunnelError;

/// The receiving half. Credit goes back when a piece was taken apart: while nobody asks for
/// packets, HTTP/2's flow control holds the peer back.
#[derive(Debug)]
pub(super) struct Inbox {
    stream: RecvStream,
    unframer: Unframer,
    owed: usize,
    segment: Segment,
}

/// What came.
#[derive(Debug)]
pub(super) enum Received {
    Packet(Packet),
    /// The peer ended its half in order.
    End(Option<HeaderMap>),
}

impl Inbox {
    pub(super) fn new(stream: RecvStream, segment: Segment) -> Self {
        Self {
            stream,
            unframer: Unframer::default(),
            owed: 0,
            segment,
        }
    }

    /// What comes next; not to be asked after the end. Messages that say nothing are left out.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received, TunnelError>> {
        loop {
            let message = self.unframer.next_message();
            match message.map_err(|error| violation(&error.to_string()))? {
                Some(message) => match Packet::decode(message) {
                    Ok(packet) => {
                        self.segment.count(&packet);
                        return Poll::Ready(Ok(Received::Packet(packet)));
                    }
                    Err(error) if error.ends_stream() => {
                        return Poll::Ready(Err(violation(&error.to_string())));
                    }
                    Err(error) => tracing::debug!("konnectivity: a packet is ignored: {error}"),
                },
                None => match ready!(self.poll_piece(cx))? {
                    true => {}
                    false => return self.poll_end(cx),
                },
            }
        }
    }

    /// Takes one more piece off the stream; false at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, TunnelError>> {
        let owed = std::mem::take(&mut self.owed);
        // Fails only on a stream that is gone, which the next poll tells.
        let _ = self.stream.flow_control().release_capacity(owed);
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(piece)) => {
                self.owed = piece.len();
                self.unframer.push(piece);
                Poll::Ready(Ok(true))
            }
            Some(Err(source)) => Poll::Ready(Err(TunnelError::Http2 { source })),
            None => Poll::Ready(Ok(false)),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TunnelError>> {
        if !self.unframer.is_empty() {
            return Poll::Ready(Err(violation("the stream was cut within a message")));
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(Ok(Received::End(trailers))),
            Err(source) => Poll::Ready(Err(TunnelError::Http2 { source })),
        }
    }
}
