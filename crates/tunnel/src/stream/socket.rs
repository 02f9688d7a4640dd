//! A tunnelled connection that has a client's socket to itself, as after CONNECT of HTTP/1.1.
//!
//! End of file is the socket's: TLS's close_notify, or the end of a Unix socket's direction. What
//! ends in another way is broken, and what is dropped before its end is reset.
//!
//! Nobody but the relay drives the socket, so that what was sent leaves only while
//! [`SocketStream::poll_flushed`] is polled.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};

use crate::client_socket::ClientSocket;
use crate::http2::DATA_PAYLOAD;

/// Dropped before both directions ended, the client reads an error where its transport has one.
#[derive(Debug)]
pub(crate) struct SocketStream {
    socket: ClientSocket,
    reading: Reading,
    writing: Writing,
    /// When the system is asked next whether the client is still there.
    look: Option<Pin<Box<Sleep>>>,
    /// The client, which had ended its direction, does not read either.
    closed: bool,
}

/// From the client.
#[derive(Debug)]
struct Reading {
    buffer: BytesMut,
    /// How much to read at once; follows what reads bring.
    size: usize,
    /// Read before this was a stream.
    early: Bytes,
    ended: bool,
    /// What came after the last bytes.
    failed: Option<io::Error>,
}

/// To the client.
#[derive(Debug, Default)]
struct Writing {
    queue: VecDeque<Bytes>,
    queued: usize,
    ended: bool,
    /// The end has left, too.
    shut_down: bool,
}

impl SocketStream {
    /// A stream over `socket`, from which `early` was read already, and its end if `ended`. The
    /// client gets `head` before all else.
    pub(crate) fn new(mut socket: ClientSocket, early: Bytes, ended: bool, head: Bytes) -> Self {
        socket.hold_little();
        let mut writing = Writing::default();
        writing.push(head);
        Self {
            socket,
            reading: Reading {
                buffer: BytesMut::new(),
                size: MIN_READ,
                early,
                ended,
                failed: None,
            },
            writing,
            look: None,
            closed: false,
        }
    }

    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.reading.poll_chunk(cx, &mut self.socket)
    }

    /// Who reads no further holds the client up: its credit is the socket's.
    #[expect(clippy::unused_self, reason = "the face of a carrier")]
    pub(super) fn release(&self, _taken: usize) {}

    pub(super) fn at_end(&self) -> bool {
        self.reading.ended && self.reading.early.is_empty()
    }

    pub(super) fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        if self.writing.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.writing.queued >= MAX_QUEUED {
            ready!(self.writing.poll_some(cx, &mut self.socket))?;
        }
        let room = MAX_QUEUED.saturating_sub(self.writing.queued);
        Poll::Ready(Ok(wanted.min(room)))
    }

    pub(super) fn send(&mut self, chunk: Bytes, end: bool) {
        self.writing.push(chunk);
        self.writing.ended |= end;
    }

    pub(super) fn finish(&mut self) {
        self.writing.ended = true;
    }

    /// Ready when everything sent has left for the system, the end of it included.
    pub(super) fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.poll_all(cx, &mut self.socket)
    }

    /// Ready once the client is gone, as far as the system knows, or does not follow an end that
    /// it has not asked for alone.
    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let look = self
                .look
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK_INTERVAL)));
            ready!(look.as_mut().poll(cx));
            look.as_mut().reset(Instant::now() + LOOK_INTERVAL);
            if let Some(error) = self.socket.broken() {
                return Poll::Ready(error);
            }
            let is_unix = matches!(self.socket, ClientSocket::Unix(_));
            if self.closed && is_unix {
                let text = "the client has closed, and the target did not follow";
                return Poll::Ready(io::Error::new(io::ErrorKind::BrokenPipe, text));
            }
        }
    }

    /// Ready, once, when the client has closed after the end of its direction.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.closed || !self.at_end() {
            return Poll::Pending;
        }
        ready!(self.socket.poll_closed(cx));
        self.closed = true;
        self.look = None;
        Poll::Ready(())
    }
}

impl Drop for SocketStream {
    fn drop(&mut self) {
        if !(self.writing.shut_down && self.at_end()) {
            self.socket.abort_when_closed();
        }
    }
}

impl Reading {
    /// As much as there is, up to one full frame: TLS gives a record at a time.
    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut ClientSocket,
    ) -> Poll<io::Result<Option<Bytes>>> {
        if !self.early.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.early))));
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        while !self.ended && self.buffer.len() < self.size {
            match self.poll_read(cx, socket) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if self.buffer.is_empty() => {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Poll::Pending if self.buffer.is_empty() => {
                    self.buffer = BytesMut::new();
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        let read = self.buffer.len();
        if read == 0 {
            self.buffer = BytesMut::new();
            return Poll::Ready(Ok(None));
        }
        if read == self.size {
            self.size = (self.size * 2).min(DATA_PAYLOAD);
        } else if read < self.size / 4 {
            self.size = (self.size / 2).max(MIN_READ);
        }
        Poll::Ready(Ok(Some(self.buffer.split().freeze())))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut ClientSocket,
    ) -> Poll<io::Result<usize>> {
        let missing = self.size - self.buffer.len();
        self.buffer.reserve(missing);
        let read = {
            let mut room = (&mut self.buffer).limit(missing);
            ready!(tokio_util::io::poll_read_buf(
                Pin::new(socket),
                cx,
                &mut room
            ))
        };
        Poll::Ready(read.map_err(cut_short))
    }
}

impl Writing {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.queued += chunk.len();
            self.queue.push_back(chunk);
        }
    }

    /// Writes until the socket takes no more; ready when it took anything.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut ClientSocket,
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(chunk);
        }
        let count = self.queue.len().min(MAX_SLICES);
        let written = ready!(Pin::new(socket).poll_write_vectored(cx, &slices[..count]))
            .map_err(cut_short)?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.queued -= written;
        let mut left = written;
        while let Some(chunk) = self.queue.front_mut() {
            if left < chunk.len() {
                chunk.advance(left);
                break;
            }
            left -= chunk.len();
            self.queue.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut ClientSocket,
    ) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            ready!(self.poll_some(cx, socket))?;
        }
        if self.shut_down {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut *socket).poll_flush(cx)).map_err(cut_short)?;
        if self.ended {
            match ready!(Pin::new(socket).poll_shutdown(cx)) {
                // The client is gone already; whether that was in order, reading tells.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                done => done.map_err(cut_short)?,
            }
            self.shut_down = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// The library's words for TLS that ends without its end are addressed to programmers.
fn cut_short(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let text = "the client's connection ended without TLS's close_notify";
        return io::Error::new(io::ErrorKind::ConnectionReset, text);
    }
    error
}

/// Bytes for the client that wait here, beyond what the system and TLS hold: two full frames, one
/// of which leaves while the next comes.
const MAX_QUEUED: usize = 2 * DATA_PAYLOAD;

/// Slices of one vectored write; each frame of the other leg is one.
const MAX_SLICES: usize = 16;

/// A first read: a TLS flight.
const MIN_READ: usize = 4 * 1024;

/// How often the system is asked for what would wake nobody, and what the target of a client that
/// has closed its Unix socket gets at least to do the same.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
