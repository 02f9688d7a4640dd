//! The socket under an HTTP/2 connection, with the frames of one turn written at once.
//!
//! h2 flushes after each DATA frame, which would be a TLS record and a system call for each
//! small message of each stream. So small writes are gathered and flushes ignored here while h2
//! is being polled, and the driver, once h2 has nothing more to do, writes what was gathered:
//! h2 holds [`BatchedIo`], the driver its [`BatchHandle`]. Large frames pass straight through.
//!
//! It also counts what is received, for [`super::keepalive`], and ends a turn in which much was:
//! h2 takes frames for as long as there are any, and a peer that sends without pause would keep the
//! thread from all others.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The end that h2 has.
#[derive(Debug)]
pub(crate) struct BatchedIo<T> {
    shared: BatchHandle<T>,
}

/// The end that the driver has. Both are only ever used by the task that drives the connection,
/// so that the lock is never contended.
#[derive(Debug)]
pub(crate) struct BatchHandle<T> {
    inner: Arc<Mutex<Inner<T>>>,
}

#[derive(Debug)]
struct Inner<T> {
    io: T,
    /// Gathered and not yet written; nothing is allocated while nothing waits.
    batch: Vec<u8>,
    /// How much of `batch` was written already.
    written: usize,
    /// Whether something was written and not flushed.
    unflushed: bool,
    received: u64,
    /// Received in this turn of the task, and when that began.
    in_turn: usize,
    turn_began: Instant,
    /// Why the last flush failed; h2 learns it with its next call.
    failed: Option<io::ErrorKind>,
}

impl<T> BatchedIo<T> {
    pub(crate) fn new(io: T) -> Self {
        let inner = Inner {
            io,
            batch: Vec::new(),
            written: 0,
            unflushed: false,
            received: 0,
            in_turn: 0,
            turn_began: Instant::now(),
            failed: None,
        };
        Self {
            shared: BatchHandle {
                inner: Arc::new(Mutex::new(inner)),
            },
        }
    }

    pub(crate) fn handle(&self) -> BatchHandle<T> {
        BatchHandle {
            inner: Arc::clone(&self.shared.inner),
        }
    }
}

impl<T> BatchHandle<T> {
    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.lock().received
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> BatchHandle<T> {
    /// Writes what h2 has handed over since the last time. To be called whenever h2 has been
    /// polled until it was pending.
    pub(crate) fn flush(&self, cx: &mut Context<'_>) {
        let mut inner = self.lock();
        inner.in_turn = 0;
        if inner.unflushed
            && let Poll::Ready(Err(error)) = inner.poll_flush(cx)
        {
            inner.failed = Some(error.kind());
            cx.waker().wake_by_ref();
        }
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_batch(cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_write_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.batch.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.batch[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.batch = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl<T> Inner<T> {
    fn is_turn_over(&mut self) -> bool {
        if self.in_turn == 0 {
            self.turn_began = Instant::now();
        }
        self.in_turn >= TURN || (self.in_turn > 0 && self.turn_began.elapsed() >= TURN_TIME)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for BatchedIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        if inner.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut inner.io).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        inner.received += read as u64;
        inner.in_turn += read;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for BatchedIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.shared.lock();
        inner.check()?;
        inner.unflushed = true;
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if inner.batch.len() + length > BATCH {
            ready!(inner.poll_write_batch(cx))?;
        }
        if length > BATCH {
            return Pin::new(&mut inner.io).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            inner.batch.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.shared.lock().io.is_write_vectored()
    }

    /// Left to [`BatchHandle::flush`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        ready!(inner.poll_flush(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

/// One full TLS record.
const BATCH: usize = 16 * 1024;

/// Two full frames.
const TURN: usize = 2 * super::DATA_PAYLOAD;

/// Ten thousand small frames are fewer bytes than that, and more work: a round trip of others waits
/// for a few such turns.
const TURN_TIME: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn small_writes_leave_together_and_large_ones_at_once() {
        let (io, mut peer) = tokio::io::duplex(1 << 20);
        let mut batched = BatchedIo::new(io);
        let handle = batched.handle();
        for _ in 0..3 {
            batched.write_all(b"small").await.unwrap();
            batched.flush().await.unwrap();
        }
        let mut seen = [0; 64];
        let nothing = tokio::time::timeout(Duration::from_millis(20), peer.read(&mut seen));
        assert!(nothing.await.is_err());
        poll_fn(|cx| {
            handle.flush(cx);
            Poll::Ready(())
        })
        .await;
        assert_eq!(peer.read(&mut seen).await.unwrap(), 15);
        // What was gathered before a large one leaves before it.
        batched.write_all(b"small").await.unwrap();
        batched.write_all(&[b'L'; BATCH + 1]).await.unwrap();
        let mut all = vec![0; 5 + BATCH + 1];
        peer.read_exact(&mut all).await.unwrap();
        assert_eq!(&all[..6], b"smallL");
        peer.write_all(b"back").await.unwrap();
        batched.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(handle.received(), 4);
    }

    #[tokio::test]
    async fn a_full_socket_holds_writers_back_and_loses_nothing() {
        let (io, mut peer) = tokio::io::duplex(1024);
        let mut batched = BatchedIo::new(io);
        let handle = batched.handle();
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let writing = async {
            for piece in sent.chunks(700) {
                batched.write_all(piece).await.unwrap();
            }
            batched.shutdown().await.unwrap();
        };
        let mut seen = Vec::new();
        let reading = peer.read_to_end(&mut seen);
        let ((), read) = tokio::join!(writing, reading);
        read.unwrap();
        assert!(seen == sent, "{} bytes arrived", seen.len());
        drop(handle);
    }

    #[tokio::test]
    async fn a_peer_that_never_pauses_does_not_keep_the_turn() {
        let (io, mut peer) = tokio::io::duplex(8 * TURN);
        let mut batched = BatchedIo::new(io);
        let handle = batched.handle();
        peer.write_all(&vec![0; 4 * TURN]).await.unwrap();
        let mut bytes = vec![0; TURN];
        let mut turns = Vec::new();
        for _ in 0..4 {
            let mut read = 0;
            poll_fn(|cx| {
                loop {
                    let mut buf = ReadBuf::new(&mut bytes[..TURN / 4]);
                    if Pin::new(&mut batched).poll_read(cx, &mut buf).is_pending() {
                        handle.flush(cx);
                        return Poll::Ready(());
                    }
                    read += buf.filled().len();
                }
            })
            .await;
            turns.push(read);
        }
        assert!(
            turns.iter().all(|read| (1..2 * TURN).contains(read)),
            "{turns:?}"
        );
    }

    #[tokio::test]
    async fn a_failed_flush_is_told_to_the_next_call() {
        let (io, peer) = tokio::io::duplex(1024);
        let mut batched = BatchedIo::new(io);
        let handle = batched.handle();
        drop(peer);
        batched.write_all(b"lost").await.unwrap();
        poll_fn(|cx| {
            handle.flush(cx);
            Poll::Ready(())
        })
        .await;
        assert!(batched.write_all(b"x").await.is_err());
        assert!(batched.flush().await.is_err());
    }
}
