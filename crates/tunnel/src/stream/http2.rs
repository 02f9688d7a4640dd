//! A tunnelled connection that is a stream of HTTP/2 of its own, held as h2's halves.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::CountedStream;
use crate::http2::DATA_PAYLOAD;

/// Both halves of the stream. Dropped before both directions ended, it is reset.
#[derive(Debug)]
pub(super) struct Http2Stream {
    send: SendStream<Bytes>,
    recv: RecvStream,
    send_ended: bool,
    recv_ended: bool,
    /// At the end that opens streams and chooses among connections.
    counted: Option<CountedStream>,
}

impl Http2Stream {
    pub(super) fn new(
        send: SendStream<Bytes>,
        recv: RecvStream,
        counted: Option<CountedStream>,
    ) -> Self {
        Self {
            send,
            recv,
            send_ended: false,
            recv_ended: false,
            counted,
        }
    }

    /// The next bytes as they came off the wire, `None` after the peer's END_STREAM. Their credit
    /// is owed until [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream was reset or the connection under it was lost.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        while !self.recv_ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.note_moved();
                    return Poll::Ready(Ok(Some(chunk)));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => self.recv_ended = true,
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Returns credit for `taken` bytes to the peer.
    pub(super) fn release(&mut self, taken: usize) {
        // Fails only for more than was received, or on a stream that is gone: nothing to do then.
        let _ = self.recv.flow_control().release_capacity(taken);
    }

    /// Whether everything was read and the peer has ended its direction.
    pub(super) fn at_end(&self) -> bool {
        self.recv_ended || self.recv.is_end_stream()
    }

    /// How many of `wanted` bytes may be sent now; at least one.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` after [`finish`](Self::finish), `ConnectionReset` when the peer takes no more.
    pub(super) fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        if self.send_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted = wanted.min(DATA_PAYLOAD);
        self.send.reserve_capacity(wanted);
        // `poll_capacity` reports increases only: what is there already must be asked for first.
        let available = match self.send.capacity() {
            0 => match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(available))) => available,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                Poll::Ready(None) => return Poll::Ready(Err(self.why_closed(cx))),
                Poll::Pending => {
                    if let Some(counted) = &mut self.counted {
                        counted.blocked();
                    }
                    return Poll::Pending;
                }
            },
            available => available,
        };
        Poll::Ready(Ok(available.min(wanted)))
    }

    /// Sends `chunk`, for which there must be capacity, and ends this direction with it if `end`.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream is gone.
    pub(super) fn send(&mut self, chunk: Bytes, end: bool) -> io::Result<()> {
        self.send.send_data(chunk, end).map_err(broken)?;
        self.note_moved();
        self.send_ended |= end;
        Ok(())
    }

    /// Ends this direction (END_STREAM); later calls do nothing.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream is gone.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.send_ended {
            Ok(())
        } else {
            self.send(Bytes::new(), true)
        }
    }

    /// Ready once the peer has reset the stream or the connection under it is lost, which the
    /// reading half alone does not notice after the peer's END_STREAM or while it is not read.
    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match ready!(self.send.poll_reset(cx)) {
            Ok(reason) => Poll::Ready(broken(reason.into())),
            Err(error) => Poll::Ready(broken(error)),
        }
    }

    fn note_moved(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.moved();
        }
    }

    fn why_closed(&mut self, cx: &mut Context<'_>) -> io::Error {
        match self.poll_broken(cx) {
            Poll::Ready(error) => error,
            Poll::Pending => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        if !(self.send_ended && self.at_end()) {
            self.send.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

/// The one error of a stream that ended before its END_STREAM.
fn broken(error: h2::Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        BrokenTunnel { cause: error },
    )
}

/// Why a tunnelled connection broke off.
#[derive(Debug, thiserror::Error)]
#[error("the tunnelled connection was cut: {cause}")]
struct BrokenTunnel {
    cause: h2::Error,
}
