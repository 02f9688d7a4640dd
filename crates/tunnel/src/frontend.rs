//! The proxy-server's face to the users of the tunnel: HTTP/2 with one CONNECT stream for each
//! tunnelled connection (RFC 9113 section 8.5). [`crate::ProxyServerDialer`] is the other end.

use std::future::poll_fn;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::TunnelError;
use crate::http2::server::ServerLink;
use crate::http2::{Http2Settings, IncomingConnect};

/// The TLS application protocol (RFC 7301) of a frontend connection.
pub const FRONTEND_ALPN: &[u8] = b"h2";

/// One user's connection. Everything on it moves only while [`next`](Self::next) is polled.
#[derive(Debug)]
pub struct FrontendConnection<T> {
    link: ServerLink<T>,
}

impl<T> FrontendConnection<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Starts over `io`, whose TLS handshake with [`FRONTEND_ALPN`] is done.
    ///
    /// # Errors
    ///
    /// When the user does not begin HTTP/2 within the handshake time-out.
    pub async fn open_over(io: T, settings: &Http2Settings) -> Result<Self, TunnelError> {
        Ok(Self {
            link: ServerLink::start(io, "proxy-server", MAX_RESETS, settings).await?,
        })
    }

    /// The next connection asked for. Nothing is lost when the future is dropped and asked for
    /// again.
    ///
    /// # Errors
    ///
    /// What ended the connection: [`TunnelError::Closed`] when it was in order.
    pub async fn next(&mut self) -> Result<IncomingConnect, TunnelError> {
        poll_fn(|cx| self.link.poll_connect(cx)).await
    }

    /// Takes no more streams (GOAWAY); after the last of those open the connection ends.
    pub fn finish(&mut self) {
        self.link.finish();
    }
}

/// Streams a user may reset before they are seen here (CVE-2023-44487). A burst of cancelled
/// dials is honest.
const MAX_RESETS: usize = 256;
