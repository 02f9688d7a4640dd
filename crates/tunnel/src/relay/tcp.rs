//! Between a tunnel stream and a TCP socket, as the agent makes between a lane and a target.
//!
//! Reading starts with a small buffer that grows while reads fill it, and there is no buffer at
//! all while the socket has nothing: an idle connection costs no memory, a busy one few system
//! calls. Writing gathers what is there into one vectored write.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::{Backlog, Broke, Leg, Moved, Pumped, RelayEnd, Turns};
use crate::http2::DATA_PAYLOAD;
use crate::stream::TunnelStream;
use crate::unread_budget::UnreadBudget;

/// A relay between a stream and a socket. Dropped before its end, the stream is reset and the
/// socket closed with a TCP reset.
#[derive(Debug)]
pub struct TcpRelay {
    near: TunnelStream,
    far: TcpStream,
    to_far: ToSocket,
    to_near: FromSocket,
    finished: bool,
}

impl TcpRelay {
    /// A relay that has moved nothing yet.
    #[must_use]
    pub fn new(near: TunnelStream, far: TcpStream) -> Self {
        let to_far = ToSocket::default();
        Self {
            near,
            far,
            to_far,
            to_near: FromSocket::default(),
            finished: false,
        }
    }

    /// The same, and what the socket's end leaves unread counts against `budget`: the relay breaks
    /// when the room is needed.
    #[must_use]
    pub fn within(mut self, budget: &UnreadBudget) -> Self {
        self.to_far.backlog.count_in(budget);
        self
    }

    /// Moves bytes until both directions have ended or a leg broke.
    pub async fn run(&mut self) -> RelayEnd {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// What was moved so far.
    #[must_use]
    pub fn moved(&self) -> Moved {
        Moved {
            to_far: self.to_far.moved,
            to_near: self.to_near.moved,
        }
    }

    /// As [`run`](Self::run), for who looks at [`moved`](Self::moved) meanwhile.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let to_far = match self.to_far.poll(cx, &mut self.near, &mut self.far) {
            Ok(pumped) => pumped,
            Err(broke) => return Poll::Ready(broke.into_end(Leg::Near)),
        };
        let to_near = match self.to_near.poll(cx, &mut self.far, &mut self.near) {
            Ok(pumped) => pumped,
            Err(broke) => return Poll::Ready(broke.into_end(Leg::Far)),
        };
        if let (Pumped::Done, Pumped::Done) = (&to_far, &to_near) {
            self.finished = true;
            return Poll::Ready(RelayEnd::Finished);
        }
        // While the stream's receiving half is not being read, its reset would go unnoticed.
        if !matches!(to_far, Pumped::Starved)
            && let Poll::Ready(error) = self.near.poll_broken(cx)
        {
            return Poll::Ready(RelayEnd::Broken {
                leg: Leg::Near,
                error,
            });
        }
        Poll::Pending
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        if !self.finished {
            // The target must not take what was cut off for complete. Fails only on a socket that
            // is gone already.
            let _ = self.far.set_zero_linger();
        }
    }
}

/// The direction from the stream to the socket.
#[derive(Debug, Default)]
struct ToSocket {
    queue: VecDeque<Bytes>,
    queued: usize,
    /// What came after the queue while the socket took nothing.
    backlog: Backlog,
    source_ended: bool,
    done: bool,
    moved: u64,
}

impl ToSocket {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TunnelStream,
        socket: &mut TcpStream,
    ) -> Result<Pumped, Broke> {
        self.backlog.check().map_err(Broke::Sink)?;
        let mut turns = Turns::new();
        while !self.done {
            if turns.poll_next(cx).is_pending() {
                return Ok(Pumped::Starved);
            }
            let starved = self.gather(cx, source)?;
            if self.queue.is_empty() {
                self.backlog.hold(0, self.moved, cx);
                if self.source_ended {
                    shutdown(socket).map_err(Broke::Sink)?;
                    self.done = true;
                    break;
                }
                return Ok(Pumped::Starved);
            }
            let written = match self.poll_write(cx, socket) {
                Poll::Ready(Ok(0)) => return Err(Broke::Sink(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Err(Broke::Sink(error)),
                Poll::Pending => return self.read_on(cx, source, starved),
            };
            self.advance(written);
            source.release(written);
            self.moved += written as u64;
        }
        Ok(Pumped::Done)
    }

    /// Takes what the stream has, up to one good write. Whether the stream had no more.
    fn gather(&mut self, cx: &mut Context<'_>, source: &mut TunnelStream) -> Result<bool, Broke> {
        while self.queue.len() < MAX_SLICES && self.queued < MAX_GATHERED {
            if let Some(chunk) = self.backlog.pop() {
                self.queued += chunk.len();
                self.queue.push_back(chunk);
                continue;
            }
            if self.source_ended {
                break;
            }
            match source.poll_chunk(cx) {
                Poll::Ready(Ok(Some(chunk))) => {
                    self.queued += chunk.len();
                    self.queue.push_back(chunk);
                }
                Poll::Ready(Ok(None)) => self.source_ended = true,
                Poll::Ready(Err(error)) => return Err(Broke::Source(error)),
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Takes what the stream has sent out of the frames it came in while the socket takes nothing:
    /// memory is then as much as the bytes, and counted. `starved` when the stream had no more.
    fn read_on(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TunnelStream,
        mut starved: bool,
    ) -> Result<Pumped, Broke> {
        if source.has_credit_of_its_own() {
            if self.backlog.is_empty() {
                for chunk in std::mem::take(&mut self.queue) {
                    self.backlog.push(chunk);
                }
                self.queued = 0;
            }
            while !self.source_ended && !starved {
                match source.poll_chunk(cx) {
                    Poll::Ready(Ok(Some(chunk))) => self.backlog.push(chunk),
                    Poll::Ready(Ok(None)) => self.source_ended = true,
                    Poll::Ready(Err(error)) => return Err(Broke::Source(error)),
                    Poll::Pending => starved = true,
                }
            }
        }
        self.backlog.hold(self.queued, self.moved, cx);
        self.backlog.check().map_err(Broke::Sink)?;
        Ok(if starved {
            Pumped::Starved
        } else {
            Pumped::Blocked
        })
    }

    fn poll_write(&self, cx: &mut Context<'_>, socket: &mut TcpStream) -> Poll<io::Result<usize>> {
        if let [only] = self.queue.as_slices().0
            && self.queue.len() == 1
        {
            return Pin::new(socket).poll_write(cx, only);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(chunk);
        }
        Pin::new(socket).poll_write_vectored(cx, &slices[..self.queue.len()])
    }

    fn advance(&mut self, written: usize) {
        self.queued -= written;
        let mut left = written;
        while let Some(chunk) = self.queue.front_mut() {
            if left < chunk.len() {
                chunk.advance(left);
                return;
            }
            left -= chunk.len();
            self.queue.pop_front();
        }
    }
}

/// The direction from the socket to the stream.
#[derive(Debug)]
struct FromSocket {
    buffer: BytesMut,
    /// How much to read at once; follows what reads bring.
    read_size: usize,
    /// Read from the socket and not yet taken by the stream.
    pending: Bytes,
    done: bool,
    moved: u64,
}

impl Default for FromSocket {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            read_size: MIN_READ,
            pending: Bytes::new(),
            done: false,
            moved: 0,
        }
    }
}

impl FromSocket {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
        sink: &mut TunnelStream,
    ) -> Result<Pumped, Broke> {
        let mut turns = Turns::new();
        while !self.done {
            if turns.poll_next(cx).is_pending() {
                return Ok(Pumped::Starved);
            }
            if self.pending.is_empty() {
                match self.poll_read(cx, socket) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) => {
                        sink.finish().map_err(Broke::Sink)?;
                        self.done = true;
                        break;
                    }
                    Poll::Ready(Err(error)) => return Err(Broke::Source(error)),
                    Poll::Pending => return Ok(Pumped::Starved),
                }
            }
            let taken = match sink.poll_capacity(cx, self.pending.len()) {
                Poll::Ready(Ok(capacity)) => capacity,
                Poll::Ready(Err(error)) => return Err(Broke::Sink(error)),
                Poll::Pending => return Ok(Pumped::Blocked),
            };
            sink.send(self.pending.split_to(taken), false)
                .map_err(Broke::Sink)?;
            self.moved += taken as u64;
        }
        Ok(Pumped::Done)
    }

    /// Fills `pending`; `false` at the socket's end of file.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
    ) -> Poll<io::Result<bool>> {
        // Readiness first, so that a socket with nothing to read needs no buffer.
        if socket.poll_read_ready(cx)?.is_pending() {
            self.buffer = BytesMut::new();
            return Poll::Pending;
        }
        if self.buffer.capacity() < self.read_size / 2 {
            self.buffer.reserve(self.read_size);
        }
        let room = self.buffer.capacity().min(self.read_size);
        match poll_read_buf(Pin::new(socket), cx, &mut (&mut self.buffer).limit(room))? {
            Poll::Pending => {
                self.buffer = BytesMut::new();
                Poll::Pending
            }
            Poll::Ready(0) => {
                self.buffer = BytesMut::new();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(read) => {
                if read == self.read_size {
                    self.read_size = (self.read_size * 2).min(MAX_READ);
                } else if read < self.read_size / 4 {
                    self.read_size = (self.read_size / 2).max(MIN_READ);
                }
                self.pending = self.buffer.split().freeze();
                Poll::Ready(Ok(true))
            }
        }
    }
}

/// Ends the socket's sending direction (FIN).
fn shutdown(socket: &TcpStream) -> io::Result<()> {
    match socket2::SockRef::from(socket).shutdown(Shutdown::Write) {
        // The target is gone already; whether that was an error, reading from it tells.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}

/// Slices of one vectored write; each frame of a stream is one.
const MAX_SLICES: usize = 16;

/// Bytes gathered for one write: four full frames, as much as a send buffer usually takes.
const MAX_GATHERED: usize = 4 * DATA_PAYLOAD;

/// A first read: a request head or a TLS flight.
const MIN_READ: usize = 4 * 1024;

/// Two full DATA frames. Larger reads gain nothing.
const MAX_READ: usize = 2 * DATA_PAYLOAD;
