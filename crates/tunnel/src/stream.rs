//! One tunnelled connection: a CONNECT stream of HTTP/2 (RFC 9113 section 8.5), held as h2's own
//! halves, or a konnectivity connection or a client's own socket that behaves like one.
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
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

mod count;
mod http2;
mod socket;

pub(crate) use count::{CountedStream, StreamCount};
use http2::Http2Stream;
pub(crate) use socket::SocketStream;

use crate::konnectivity::{ClientPipe, Pipe};

/// One tunnelled connection. Shut down writing to end this direction; dropped before both
/// directions ended, it is aborted, and the peer reads an error.
#[derive(Debug)]
pub struct TunnelStream {
    carrier: Carrier,
    /// Received and not yet taken by the reader; its credit is still owed.
    unread: Bytes,
}

/// What carries the bytes.
#[derive(Debug)]
enum Carrier {
    Http2(Http2Stream),
    /// On the stream that all connections of an agent share.
    Shared(Pipe),
    /// On a konnectivity client's own stream.
    Client(Box<ClientPipe>),
    /// On a client's socket.
    Socket(Box<SocketStream>),
}

/// Calls the same method of whatever carries the bytes.
macro_rules! carrier {
    ($stream:expr, $carrier:ident => $call:expr) => {
        match &mut $stream.carrier {
            Carrier::Http2($carrier) => $call,
            Carrier::Shared($carrier) => $call,
            Carrier::Client($carrier) => $call,
            Carrier::Socket($carrier) => $call,
        }
    };
}

impl TunnelStream {
    pub(crate) fn new(
        send: SendStream<Bytes>,
        recv: RecvStream,
        counted: Option<CountedStream>,
    ) -> Self {
        Self {
            carrier: Carrier::Http2(Http2Stream::new(send, recv, counted)),
            unread: Bytes::new(),
        }
    }

    pub(crate) fn over_pipe(pipe: Pipe) -> Self {
        Self {
            carrier: Carrier::Shared(pipe),
            unread: Bytes::new(),
        }
    }

    pub(crate) fn over_client(client: ClientPipe) -> Self {
        Self {
            carrier: Carrier::Client(Box::new(client)),
            unread: Bytes::new(),
        }
    }

    pub(crate) fn over_socket(socket: SocketStream) -> Self {
        Self {
            carrier: Carrier::Socket(Box::new(socket)),
            unread: Bytes::new(),
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
        carrier!(self, carrier => carrier.poll_chunk(cx))
    }

    /// Returns credit for `taken` bytes to the peer.
    pub(crate) fn release(&mut self, taken: usize) {
        carrier!(self, carrier => carrier.release(taken));
    }

    /// Whether everything was read and the peer has ended its direction.
    pub(crate) fn at_end(&mut self) -> bool {
        self.unread.is_empty() && carrier!(self, carrier => carrier.at_end())
    }

    /// Whether the peer sends more only for what was [released](Self::release): such a stream may
    /// be read on while nobody takes what came, and holds a window at most.
    pub(crate) fn has_credit_of_its_own(&self) -> bool {
        matches!(self.carrier, Carrier::Http2(_))
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
        carrier!(self, carrier => carrier.poll_capacity(cx, wanted))
    }

    /// Sends `chunk`, for which there must be capacity, and ends this direction with it if `end`.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream is gone.
    pub(crate) fn send(&mut self, chunk: Bytes, end: bool) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Http2(stream) => stream.send(chunk, end),
            Carrier::Shared(pipe) => pipe.send(chunk, end),
            Carrier::Client(client) => client.send(chunk, end),
            // Whether it is gone, flushing tells.
            Carrier::Socket(socket) => {
                socket.send(chunk, end);
                Ok(())
            }
        }
    }

    /// Ends this direction (END_STREAM); later calls do nothing.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream is gone.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Http2(stream) => stream.finish(),
            Carrier::Shared(pipe) => pipe.finish(),
            Carrier::Client(client) => client.finish(),
            Carrier::Socket(socket) => {
                socket.finish();
                Ok(())
            }
        }
    }

    /// Ready when what was sent is on its way: others than a socket have who drives them.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub(crate) fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Socket(socket) => socket.poll_flushed(cx),
            Carrier::Http2(_) | Carrier::Shared(_) | Carrier::Client(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ready, once, when the peer, whose end of file was read, turns out to have closed for good.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.carrier {
            Carrier::Socket(socket) => socket.poll_closed(cx),
            Carrier::Http2(_) | Carrier::Shared(_) | Carrier::Client(_) => Poll::Pending,
        }
    }

    /// Passes on that the other leg, whose end of file was passed on, has closed for good: only
    /// a protocol without half-close has to be told.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream is gone.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Shared(pipe) => pipe.close(),
            Carrier::Http2(_) | Carrier::Client(_) | Carrier::Socket(_) => Ok(()),
        }
    }

    /// Passes on how `source`, which came to its end of file, ended: this direction, or, when its
    /// peer has closed for good and says so, both as far as this carrier can.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the stream is gone.
    pub(crate) fn end_like(&mut self, source: &Self) -> io::Result<()> {
        match (&source.carrier, &self.carrier) {
            (Carrier::Client(client), Carrier::Shared(pipe)) if client.has_closed() => pipe.close(),
            _ => self.finish(),
        }
    }

    /// Ready once the peer has reset the stream or the connection under it is lost, which the
    /// reading half alone does not notice after the peer's END_STREAM or while it is not read.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        carrier!(self, carrier => carrier.poll_broken(cx))
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

    /// But for a socket nothing is held back here: the task that drives the connection writes
    /// what it was given.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish()?;
        self.poll_flushed(cx)
    }
}

#[cfg(test)]
mod tests;
