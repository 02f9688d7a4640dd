//! Users that speak HTTP/2: one CONNECT stream for each tunnelled connection (RFC 9113 section
//! 8.5), whose other end is [`crate::ProxyServerDialer`], and one gRPC stream of konnectivity's
//! `ProxyService`, on the same connections.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use cluster_proxy_konnectivity_wire::headers::PROXY_PATH;
use tokio::io::{AsyncRead, AsyncWrite};

use super::PROXY;
use crate::dial_error::DialError;
use crate::error::TunnelError;
use crate::http2::server::{ServerLink, read_connect};
use crate::http2::{Http2Settings, IncomingConnect};
use crate::konnectivity::{self, PendingClient};

/// One user's connection. Everything on it moves only while [`next`](Self::next) is polled.
#[derive(Debug)]
pub struct Http2Frontend<T> {
    link: ServerLink<T>,
    /// Calls that have not said yet what they want dialled.
    clients: Vec<PendingClient>,
    patience: Duration,
}

impl<T> Http2Frontend<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Starts over `io`, on which the user is about to say HTTP/2's preface.
    ///
    /// # Errors
    ///
    /// When the user does not begin HTTP/2 within the handshake time-out.
    pub async fn open_over(io: T, settings: &Http2Settings) -> Result<Self, TunnelError> {
        Ok(Self {
            link: ServerLink::start(io, PROXY, MAX_RESETS, settings).await?,
            clients: Vec::new(),
            patience: settings.handshake_timeout,
        })
    }

    /// The next connection asked for. Nothing is lost when the future is dropped and asked for
    /// again.
    ///
    /// # Errors
    ///
    /// What ended the connection: [`TunnelError::Closed`] when it was in order.
    pub async fn next(&mut self) -> Result<IncomingConnect, TunnelError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Takes no more streams (GOAWAY); after the last of those open the connection ends.
    pub fn finish(&mut self) {
        self.link.finish();
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<IncomingConnect, TunnelError>> {
        while let Poll::Ready(stream) = self.link.poll_stream(cx) {
            let (request, mut respond) = stream?;
            if !konnectivity::is_call(&request, PROXY_PATH) {
                if let Some(incoming) = read_connect(request, respond, PROXY) {
                    return Poll::Ready(Ok(incoming));
                }
            } else if self.clients.len() < MAX_CLIENTS {
                let client = PendingClient::of_call(request, respond, self.patience);
                self.clients.extend(client);
            } else {
                PendingClient::refuse_call(&mut respond);
            }
        }
        self.poll_clients(cx).map(Ok)
    }

    fn poll_clients(&mut self, cx: &mut Context<'_>) -> Poll<IncomingConnect> {
        let mut index = 0;
        while let Some(client) = self.clients.get_mut(index) {
            let Poll::Ready(address) = client.poll_address(cx) else {
                index += 1;
                continue;
            };
            let client = self.clients.swap_remove(index);
            match address.map(|address| address.parse()) {
                Some(Ok(target)) => {
                    return Poll::Ready(IncomingConnect::of_client(target, client));
                }
                Some(Err(error)) => client.refuse(&DialError::Invalid {
                    details: format!("target: {error}"),
                }),
                None => {}
            }
        }
        Poll::Pending
    }
}

/// Streams a user may reset before they are seen here (CVE-2023-44487). A burst of cancelled
/// dials is honest.
const MAX_RESETS: usize = 256;

/// A client says what it wants dialled right after its call: so many on one connection are a burst,
/// and are looked at in turn.
const MAX_CLIENTS: usize = 256;
