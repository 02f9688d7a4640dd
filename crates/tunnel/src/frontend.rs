//! The proxy-server's face to the users of the tunnel. One listener takes whatever they speak:
//! CONNECT of HTTP/2, konnectivity's gRPC `ProxyService`, and CONNECT of HTTP/1.1, over mutual TLS
//! or on a Unix socket.
//!
//! TLS's ALPN says which of the two HTTPs it is where it says `h2`; the first bytes do otherwise.

mod authorities;
mod head;
mod http1;
mod http2;

use std::future::poll_fn;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::client_socket::ClientSocket;
use crate::error::TunnelError;
use crate::http2::{Http2Settings, IncomingConnect};

use authorities::Authorities;
pub use head::{ConnectHead, HeadError};
use http1::Http1Frontend;
pub(crate) use http1::PendingConnect;
pub use http2::Http2Frontend;

/// The TLS application protocol (RFC 7301) of users that speak HTTP/2.
pub const HTTP2_ALPN: &[u8] = b"h2";

/// The TLS application protocols of a frontend, the best first.
pub const FRONTEND_ALPN: [&[u8]; 2] = [HTTP2_ALPN, b"http/1.1"];

/// One user's connection. Everything on it moves only while [`next`](Self::next) is polled.
#[derive(Debug)]
pub struct FrontendConnection {
    spoken: Spoken,
}

#[derive(Debug)]
enum Spoken {
    /// Any number of tunnelled connections.
    Http2(Box<Http2Frontend<Authorities<ClientSocket>>>),
    /// One.
    Http1(Box<Http1Frontend>),
}

impl FrontendConnection {
    /// Finds out what is spoken on `socket`; `alpn` is what TLS agreed on.
    ///
    /// # Errors
    ///
    /// When the user says nothing, or nothing known, within the handshake time-out.
    pub async fn open(
        mut socket: ClientSocket,
        alpn: Option<&[u8]>,
        settings: &Http2Settings,
    ) -> Result<Self, TunnelError> {
        let limit = settings.handshake_timeout;
        let mut first = BytesMut::new();
        if alpn == Some(HTTP2_ALPN) {
            return Self::http2(first, socket, settings).await;
        }
        let reading = read_until_known(&mut socket, &mut first);
        let is_http2 = timeout(limit, reading)
            .await
            .map_err(|_| TunnelError::TimedOut {
                step: "the first bytes",
                limit,
            })??;
        if is_http2 {
            return Self::http2(first, socket, settings).await;
        }
        let connection = Http1Frontend::new(socket, first, limit);
        Ok(Self {
            spoken: Spoken::Http1(Box::new(connection)),
        })
    }

    async fn http2(
        first: BytesMut,
        socket: ClientSocket,
        settings: &Http2Settings,
    ) -> Result<Self, TunnelError> {
        let names_a_host = matches!(socket, ClientSocket::Tls(_));
        let io = if names_a_host {
            Authorities::kept(first, socket)
        } else {
            Authorities::replaced(first, socket)
        };
        let connection = Http2Frontend::open_over(io, settings).await?;
        Ok(Self {
            spoken: Spoken::Http2(Box::new(connection)),
        })
    }

    /// The next connection asked for. Nothing is lost when the future is dropped and asked for
    /// again.
    ///
    /// # Errors
    ///
    /// What ended the connection: [`TunnelError::Closed`] when it was in order.
    pub async fn next(&mut self) -> Result<IncomingConnect, TunnelError> {
        poll_fn(|cx| match &mut self.spoken {
            Spoken::Http2(connection) => connection.poll_next(cx),
            Spoken::Http1(connection) => connection.poll_next(cx),
        })
        .await
    }

    /// Takes no more requests; what is open goes on. After the last of it the connection ends.
    pub fn finish(&mut self) {
        match &mut self.spoken {
            Spoken::Http2(connection) => connection.finish(),
            Spoken::Http1(connection) => connection.finish(),
        }
    }

    /// The protocol's name, for logs.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self.spoken {
            Spoken::Http2(_) => "HTTP/2",
            Spoken::Http1(_) => "HTTP/1.1",
        }
    }
}

/// Reads into `first` until it is, or is not, the preface of HTTP/2 (RFC 9113 section 3.4).
async fn read_until_known(
    socket: &mut ClientSocket,
    first: &mut BytesMut,
) -> Result<bool, TunnelError> {
    loop {
        let known = first.len().min(PREFACE.len());
        if first[..known] != PREFACE[..known] {
            return Ok(false);
        }
        if known == PREFACE.len() {
            return Ok(true);
        }
        // As much as a head has: nothing of it is thrown away.
        first.reserve(FIRST_READ);
        match socket.read_buf(first).await {
            Ok(0) => return Err(TunnelError::Closed),
            Ok(_) => {}
            Err(error) => return Err(http1::broken(&error)),
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A CONNECT head, or a preface and its SETTINGS.
const FIRST_READ: usize = 1024;

/// How this end calls itself in `Proxy-Status`.
const PROXY: &str = "proxy-server";
