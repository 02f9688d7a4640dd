//! The connection on a client's stream, once it was dialled.
//!
//! CLOSE_REQ ends both directions: the client reads nothing more and waits for the answer. It gets
//! it as soon as everything it sent was handed on; the target then has [`LINGER`] to end its side.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::client_stream::ClientEvent;
use cluster_proxy_konnectivity_wire::server_table::CloseReason;
use tokio::time::Sleep;

use super::{Stream, broke};
use crate::http2::DATA_PAYLOAD;

/// Dropped before both directions ended, the client is told that the connection broke.
#[derive(Debug)]
pub(crate) struct ClientPipe {
    stream: Stream,
    /// Nothing more is sent to the client.
    send_ended: bool,
    /// Until the client surely knows the connection.
    settling: Option<Pin<Box<Sleep>>>,
    /// Since the client was told of the end that it had asked for.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl ClientPipe {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            send_ended: false,
            settling: Some(Box::pin(tokio::time::sleep(SETTLE))),
            lingering: None,
        }
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Some(data) = self.stream.data.pop_front() {
                self.settling = None;
                return Poll::Ready(Ok(Some(data)));
            }
            if self.stream.closing && !self.stream.finished {
                let reason = CloseReason::Ended;
                self.stream.handle(ClientEvent::Closed { reason });
                self.lingering = Some(Box::pin(tokio::time::sleep(LINGER)));
            }
            if self.has_ended_in_order() {
                return Poll::Ready(Ok(None));
            }
            if self.stream.gone || self.stream.finished {
                return Poll::Ready(Err(gone()));
            }
            ready!(self.stream.poll_packet(cx));
        }
    }

    /// HTTP/2's credit went back with the message.
    #[expect(clippy::unused_self, reason = "the face of a carrier")]
    pub(crate) fn release(&self, _taken: usize) {}

    pub(crate) fn at_end(&self) -> bool {
        self.stream.data.is_empty() && self.has_ended_in_order()
    }

    pub(crate) fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        if self.send_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted = wanted.min(DATA_PAYLOAD - OVERHEAD);
        // Who asked for the end reads nothing more.
        if self.lingering.is_some() {
            return Poll::Ready(Ok(wanted));
        }
        if self.stream.gone || self.stream.finished {
            return Poll::Ready(Err(gone()));
        }
        if let Some(settling) = &mut self.settling {
            ready!(settling.as_mut().poll(cx));
            self.settling = None;
        }
        self.stream.send.reserve_capacity(wanted + OVERHEAD);
        loop {
            let available = self.stream.send.capacity();
            if available > OVERHEAD {
                return Poll::Ready(Ok(wanted.min(available - OVERHEAD)));
            }
            match ready!(self.stream.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(gone())),
            }
        }
    }

    pub(crate) fn send(&mut self, chunk: Bytes, end: bool) -> io::Result<()> {
        if self.lingering.is_none() && !chunk.is_empty() {
            if self.stream.gone || self.stream.finished {
                return Err(gone());
            }
            self.stream.handle(ClientEvent::Deliver { data: chunk });
        }
        if end { self.finish() } else { Ok(()) }
    }

    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.send_ended {
            return Ok(());
        }
        if self.stream.gone {
            return Err(gone());
        }
        self.send_ended = true;
        if !self.stream.finished {
            let reason = CloseReason::Ended;
            self.stream.handle(ClientEvent::Closed { reason });
        }
        Ok(())
    }

    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(lingering) = &mut self.lingering {
            return lingering.as_mut().poll(cx).map(|()| {
                let text = "the client closed, and the target did not follow";
                io::Error::new(io::ErrorKind::ConnectionReset, text)
            });
        }
        if self.stream.gone {
            return Poll::Ready(gone());
        }
        if self.stream.finished {
            return Poll::Pending;
        }
        self.stream.send.poll_reset(cx).map(|_| gone())
    }

    /// Whether the client has asked for the end of both directions.
    pub(crate) fn has_closed(&self) -> bool {
        self.stream.closing
    }

    /// Whether CLOSE_RSP without an error was said: nothing flows after it, either way.
    fn has_ended_in_order(&self) -> bool {
        self.lingering.is_some() || self.send_ended
    }
}

impl Drop for ClientPipe {
    fn drop(&mut self) {
        if !self.stream.finished {
            self.stream.handle(ClientEvent::Closed { reason: broke() });
        }
    }
}

fn gone() -> io::Error {
    let text = "the tunnelled connection was cut: the client's stream has ended";
    io::Error::new(io::ErrorKind::ConnectionReset, text)
}

/// What is around the bytes of one message: gRPC's prefix, DATA's own, and the connection's number.
const OVERHEAD: usize = 64;

/// Go's client reads on while another of its goroutines takes note of DIAL_RSP, and drops DATA for
/// a connection that is not noted yet. So who has said nothing yet gets its first bytes this much
/// later.
const SETTLE: Duration = Duration::from_millis(20);

/// Half of what Go's client waits for the end. What it sent last is still on its way.
const LINGER: Duration = Duration::from_secs(5);
