//! The end that answers CONNECT streams: the agent on a lane, the proxy-server on its frontend.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Http2Settings;
use super::batch::{BatchHandle, BatchedIo};
use super::keepalive::Keepalive;
use crate::dial_error::DialError;
use crate::error::TunnelError;
use crate::stream::TunnelStream;
use crate::target::Target;

/// A stream that the peer opened, and where its answer goes.
pub(crate) type ServerStream = (Request<RecvStream>, SendResponse<Bytes>);

/// Accepts streams on one connection and drives it: nothing moves unless this is polled.
pub(crate) struct ServerLink<T> {
    connection: Connection<BatchedIo<T>, Bytes>,
    batch: BatchHandle<T>,
    keepalive: Keepalive,
    timeout: Duration,
    proxy: &'static str,
}

impl<T> ServerLink<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Starts HTTP/2 on `io`, whose TLS handshake is done; `proxy` names this end in the
    /// `Proxy-Status` of its answers. The peer may reset `resets_before_accept` streams before
    /// they are seen here, or the connection ends.
    ///
    /// # Errors
    ///
    /// When the peer does not begin HTTP/2 within the handshake time-out.
    pub(crate) async fn start(
        io: T,
        proxy: &'static str,
        resets_before_accept: usize,
        settings: &Http2Settings,
    ) -> Result<Self, TunnelError> {
        let limit = settings.handshake_timeout;
        let io = BatchedIo::new(io);
        let batch = io.handle();
        let mut connection = timeout(limit, settings.server(resets_before_accept).handshake(io))
            .await
            .map_err(|_| TunnelError::TimedOut {
                step: "the HTTP/2 preface",
                limit,
            })?
            .map_err(|source| TunnelError::Http2 { source })?;
        let ping = connection.ping_pong().expect("taken once, here");
        let keepalive = Keepalive::new(ping, settings);
        Ok(Self {
            connection,
            batch,
            keepalive,
            timeout: settings.ping_timeout,
            proxy,
        })
    }

    /// The next stream of any kind, or why there will be none.
    pub(crate) fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ServerStream, TunnelError>> {
        match self.connection.poll_accept(cx) {
            Poll::Ready(Some(Ok(stream))) => return Poll::Ready(Ok(stream)),
            Poll::Ready(Some(Err(source))) => {
                return Poll::Ready(Err(TunnelError::Http2 { source }));
            }
            Poll::Ready(None) => return Poll::Ready(Err(TunnelError::Closed)),
            Poll::Pending => {}
        }
        let batch = &self.batch;
        if self.keepalive.poll(cx, || batch.received()).is_ready() {
            return Poll::Ready(Err(TunnelError::Silent {
                timeout: self.timeout,
            }));
        }
        batch.flush(cx);
        Poll::Pending
    }

    /// The next CONNECT stream with a valid target; others are answered here.
    pub(crate) fn poll_connect(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<IncomingConnect, TunnelError>> {
        loop {
            let (request, respond) = match self.poll_stream(cx) {
                Poll::Ready(Ok(stream)) => stream,
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Pending => return Poll::Pending,
            };
            if let Some(incoming) = IncomingConnect::read(request, respond, self.proxy) {
                return Poll::Ready(Ok(incoming));
            }
        }
    }

    /// Tells the peer to open no more streams (GOAWAY); those open go on. After the last of them
    /// the link ends as [`TunnelError::Closed`].
    pub(crate) fn finish(&mut self) {
        self.connection.graceful_shutdown();
    }
}

impl<T> std::fmt::Debug for ServerLink<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerLink").finish_non_exhaustive()
    }
}

/// A CONNECT stream that waits for its answer. Dropped without one, it is reset.
#[derive(Debug)]
pub struct IncomingConnect {
    target: Target,
    respond: SendResponse<Bytes>,
    recv: RecvStream,
    proxy: &'static str,
}

impl IncomingConnect {
    /// What is to be dialled.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Answers 200: the target is connected.
    ///
    /// # Errors
    ///
    /// When the peer has given up or is gone.
    pub fn accept(mut self) -> io::Result<TunnelStream> {
        let send = self
            .respond
            .send_response(Response::new(()), false)
            .map_err(|error| io::Error::new(io::ErrorKind::ConnectionReset, error))?;
        Ok(TunnelStream::new(send, self.recv, None))
    }

    /// Answers with the reason why the target is not connected.
    pub fn refuse(mut self, error: &DialError) {
        let mut headers = HeaderMap::new();
        error.write_to(self.proxy, &mut headers);
        answer(&mut self.respond, error.status(), headers);
    }

    /// Returns when the peer no longer waits for the answer: it cancelled the dial, or is gone.
    pub async fn abandoned(&mut self) {
        let _ = poll_fn(|cx| self.respond.poll_reset(cx)).await;
    }

    fn read(
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        proxy: &'static str,
    ) -> Option<Self> {
        if request.method() != Method::CONNECT {
            let mut headers = HeaderMap::new();
            headers.insert(
                http::header::ALLOW,
                http::HeaderValue::from_static("CONNECT"),
            );
            answer(&mut respond, StatusCode::METHOD_NOT_ALLOWED, headers);
            return None;
        }
        let authority = request
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str());
        match authority.parse() {
            Ok(target) => Some(Self {
                target,
                respond,
                recv: request.into_body(),
                proxy,
            }),
            Err(error) => {
                let error = DialError::Invalid {
                    details: format!("target: {error}"),
                };
                let mut headers = HeaderMap::new();
                error.write_to(proxy, &mut headers);
                answer(&mut respond, error.status(), headers);
                None
            }
        }
    }
}

/// Ends the exchange with a head alone. A peer that is gone needs no answer.
fn answer(respond: &mut SendResponse<Bytes>, status: StatusCode, headers: HeaderMap) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let _ = respond.send_response(response, true);
}
