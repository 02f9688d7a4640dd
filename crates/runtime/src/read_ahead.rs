//! A socket that is read in large pieces: rustls asks for 4 KiB at a time, which would be a
//! system call each.
//!
//! The buffer exists only while there is something to read, so that an idle connection costs no
//! memory.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// See the module.
#[derive(Debug)]
pub struct ReadAhead<Io> {
    socket: Io,
    buffer: BytesMut,
    /// How much to read at once; follows what reads bring.
    read_size: usize,
}

impl<Io: AsyncRead + Unpin> ReadAhead<Io> {
    /// Takes over the socket.
    #[must_use]
    pub fn new(socket: Io) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            read_size: MIN_READ,
        }
    }

    /// The socket, for its options. Whoever reads from it loses bytes for the others.
    #[must_use]
    pub fn get_ref(&self) -> &Io {
        &self.socket
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.buffer.reserve(self.read_size);
        let limit = self.read_size;
        let buffer = &mut (&mut self.buffer).limit(limit);
        match poll_read_buf(Pin::new(&mut self.socket), cx, buffer)? {
            Poll::Pending => {
                self.buffer = BytesMut::new();
                Poll::Pending
            }
            Poll::Ready(read) => {
                if read == self.read_size {
                    self.read_size = (self.read_size * 2).min(MAX_READ);
                } else if read < self.read_size / 4 {
                    self.read_size = (self.read_size / 2).max(MIN_READ);
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for ReadAhead<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            ready!(self.poll_fill(cx))?;
        }
        let taken = self.buffer.len().min(buf.remaining());
        buf.put_slice(&self.buffer[..taken]);
        self.buffer.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for ReadAhead<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A few small TLS records.
const MIN_READ: usize = 8 * 1024;

/// Four full TLS records and their frames.
const MAX_READ: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn gives_every_byte_in_order_and_then_the_end() {
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let (near, mut far) = duplex(50_000);
        let to_send = sent.clone();
        let sending = tokio::spawn(async move {
            far.write_all(&to_send).await.unwrap();
            let mut back = [0; 2];
            far.read_exact(&mut back).await.unwrap();
            back
        });
        let mut reading = ReadAhead::new(near);
        let mut got = vec![0; 3];
        reading.read_exact(&mut got).await.unwrap();
        reading.write_all(b"ok").await.unwrap();
        reading.read_to_end(&mut got).await.unwrap();
        assert!(got == sent);
        assert_eq!(&sending.await.unwrap(), b"ok");
    }
    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (near, _far) = duplex(10);
        let mut reading = ReadAhead::new(near);
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::ZERO, reading.read(&mut byte));
        assert!(read.await.is_err(), "there was nothing to read");
        assert_eq!(reading.buffer.capacity(), 0);
    }
}
