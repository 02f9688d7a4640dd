//! One tunnelled connection: a CONNECT stream of HTTP/2 (RFC 9113 section 8.5), held as h2's own
//! halves.
//!
//! END_STREAM is TCP's FIN in that direction, so half-close survives. An abort is
//! RST_STREAM(CONNECT_ERROR), sent explicitly; any reset before the peer's END_STREAM, whatever
//! its code, and the loss of the connection underneath are errors and never an end of file: a
//! truncated transfer must not look complete. (hyper's upgraded streams read CANCEL as end of
//! file, which is why this is not one of them.)
//!
//! Flow control is the sender's and the receiver's business at once: nothing is handed to h2
//! without capacity, and credit goes back only for what the far side took.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::DATA_PAYLOAD;

/// One tunnelled connection. Shut down writing to end this direction; dropped before both
/// directions ended, it is aborted, and the peer reads an error.
#[derive(Debug)]
pub struct TunnelStream {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Received and not yet taken by the reader; its credit is still owed.
    unread: Bytes,
    send_ended: bool,
    recv_ended: bool,
    _counted: Option<CountedStream>,
}

impl TunnelStream {
    pub(crate) fn new(
        send: SendStream<Bytes>,
        recv: RecvStream,
        counted: Option<CountedStream>,
    ) -> Self {
        Self {
            send,
            recv,
            unread: Bytes::new(),
            send_ended: false,
            recv_ended: false,
            _counted: counted,
        }
    }

    /// The next bytes as they came off the wire, `None` after the peer's END_STREAM. Their credit
    /// is owed until [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream was reset or the connection under it was lost.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.unread.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.unread))));
        }
        while !self.recv_ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => return Poll::Ready(Ok(Some(chunk))),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => self.recv_ended = true,
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Returns credit for `taken` bytes to the peer.
    pub(crate) fn release(&mut self, taken: usize) {
        // Fails only for more than was received, or on a stream that is gone: nothing to do then.
        let _ = self.recv.flow_control().release_capacity(taken);
    }

    /// Whether everything was read and the peer has ended its direction.
    pub(crate) fn at_end(&self) -> bool {
        self.recv_ended || (self.unread.is_empty() && self.recv.is_end_stream())
    }

    /// How many of `wanted` bytes may be sent now; at least one.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` after [`finish`](Self::finish), `ConnectionReset` when the peer takes no more.
    pub(crate) fn poll_capacity(
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
            0 => match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(available)) => available,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(self.why_closed(cx))),
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
    pub(crate) fn send(&mut self, chunk: Bytes, end: bool) -> io::Result<()> {
        self.send.send_data(chunk, end).map_err(broken)?;
        self.send_ended |= end;
        Ok(())
    }

    /// Ends this direction (END_STREAM); later calls do nothing.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream is gone.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.send_ended {
            Ok(())
        } else {
            self.send(Bytes::new(), true)
        }
    }

    /// Ready once the peer has reset the stream or the connection under it is lost, which the
    /// reading half alone does not notice after the peer's END_STREAM or while it is not read.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match ready!(self.send.poll_reset(cx)) {
            Ok(reason) => Poll::Ready(broken(reason.into())),
            Err(error) => Poll::Ready(broken(error)),
        }
    }

    fn why_closed(&mut self, cx: &mut Context<'_>) -> io::Error {
        match self.poll_broken(cx) {
            Poll::Ready(error) => error,
            Poll::Pending => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(mut chunk) = ready!(self.poll_chunk(cx))? else {
            return Poll::Ready(Ok(()));
        };
        let taken = chunk.len().min(buf.remaining());
        buf.put_slice(&chunk[..taken]);
        chunk.advance(taken);
        self.unread = chunk;
        self.release(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = ready!(self.poll_capacity(cx, buf.len()))?;
        self.send(Bytes::copy_from_slice(&buf[..taken]), false)?;
        Poll::Ready(Ok(taken))
    }

    /// Gathers into one DATA frame: a TLS session on top hands over one slice per record.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let taken = ready!(self.poll_capacity(cx, wanted))?;
        let mut chunk = BytesMut::with_capacity(taken);
        for buf in bufs {
            let fits = buf.len().min(taken - chunk.len());
            chunk.extend_from_slice(&buf[..fits]);
        }
        self.send(chunk.freeze(), false)?;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back here: the task that drives the connection writes what it was given.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        if !(self.send_ended && self.at_end()) {
            self.send.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

/// The streams open on one connection, to know which connection is least busy and to keep the sum
/// of their windows below the connection's.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamCount(Arc<AtomicUsize>);

impl StreamCount {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more until it is dropped, unless `max` are counted already.
    pub(crate) fn add(&self, max: usize) -> Option<CountedStream> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < max).then_some(count + 1)
            })
            .ok()
            .map(|_| CountedStream(Arc::clone(&self.0)))
    }
}

/// One stream of a [`StreamCount`].
#[derive(Debug)]
pub(crate) struct CountedStream(Arc<AtomicUsize>);

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests;
