//! How a pool reaches its destination: the caller dials, the pool speaks HTTP.

use std::future::Future;

use tokio::io::{AsyncRead, AsyncWrite};

/// Dials one destination. Every call makes a new connection.
pub trait Connect: Send + Sync + 'static {
    /// The dialled connection, encryption included.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Why it could not be dialled; callers tell it apart to answer 502, 503 or 504.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Dials, with `offer` as the protocols to negotiate. The pool bounds the time.
    fn connect(
        &self,
        offer: Offer,
    ) -> impl Future<Output = Result<Dialled<Self::Io>, Self::Error>> + Send;
}

/// What to offer by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2, and HTTP/1.1 for peers without it.
    Http2OrHttp1,
    /// HTTP/1.1 alone: upgrades (SPDY, WebSocket) do not exist in HTTP/2.
    Http1,
}

impl Offer {
    /// The ALPN protocol names of this offer, in order of preference (RFC 7301).
    pub const fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http2OrHttp1 => &[b"h2", b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
        }
    }
}

/// The HTTP version that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// What ALPN settled on; a peer that did not answer speaks HTTP/1.1.
    pub fn negotiated(alpn: Option<&[u8]>) -> Self {
        match alpn {
            Some(b"h2") => Self::Http2,
            _ => Self::Http1,
        }
    }
}

/// A connection ready for HTTP.
#[derive(Debug)]
pub struct Dialled<Io> {
    /// The connection.
    pub io: Io,
    /// What it speaks.
    pub protocol: Protocol,
}
