//! The socket of a user of the tunnel: what a frontend accepts.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::tls::ServerStream;

/// A connection that a frontend has accepted, in clear for who reads it.
#[derive(Debug)]
pub enum ClientSocket {
    /// Over TCP, whose TLS handshake is done.
    Tls(Box<ServerStream>),
    /// On a Unix socket: the file system has decided who may connect.
    Unix(UnixStream),
}

/// Calls the same method of whichever socket it is.
macro_rules! socket {
    ($socket:expr, $io:ident => $call:expr) => {
        match $socket.get_mut() {
            ClientSocket::Tls($io) => {
                let $io = Pin::new(&mut **$io);
                $call
            }
            ClientSocket::Unix($io) => {
                let $io = Pin::new($io);
                $call
            }
        }
    };
}

impl ClientSocket {
    /// Closed from now on, the peer reads an error and no end of file: by a TCP reset. A Unix
    /// socket has no such thing.
    pub(crate) fn abort_when_closed(&self) {
        if let Self::Tls(tls) = self {
            // Fails only on a socket that is gone already.
            let _ = tls.get_ref().0.get_ref().set_zero_linger();
        }
    }

    /// Holds little for a peer that reads slowly: there is one stream on this connection.
    pub(crate) fn hold_little(&mut self) {
        if let Self::Tls(tls) = self {
            tls.get_mut().1.set_buffer_limit(Some(ENCRYPTED));
        }
    }

    /// Why the system has broken the connection off, if it has.
    pub(crate) fn broken(&self) -> Option<io::Error> {
        let error = match self {
            Self::Tls(tls) => tls.get_ref().0.get_ref().take_error(),
            Self::Unix(socket) => socket.take_error(),
        };
        error.unwrap_or_else(Some)
    }

    /// Ready once the peer, which has ended its direction in order, will not read either: it has
    /// closed a TCP connection (a close_notify alone leaves that open), or its Unix socket. Over
    /// TCP somebody who half-closes the socket under TLS looks the same.
    ///
    /// On a Unix socket nothing wakes the caller: ask again when other things happen.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tls(tls) => {
                let mut byte = [0];
                let socket = tls.get_ref().0.get_ref();
                match socket.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
                    // Bytes after the end, which nobody will read: what follows cannot be seen.
                    Poll::Ready(Ok(1..)) | Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
                }
            }
            // Of no bytes at all the system still says whether somebody could read them.
            Self::Unix(socket) => match SockRef::from(socket).send(&[]) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(()),
                _ => Poll::Pending,
            },
        }
    }
}

/// Encrypted bytes that may wait for the socket of one stream: a full frame and its records.
const ENCRYPTED: usize = 80 * 1024;

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        socket!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        socket!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        socket!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket!(self, io => io.poll_shutdown(cx))
    }
}
