//! The end that answers CONNECT streams: the agent on a lane, the proxy-server on its frontend.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Http2Settings;
use super::batch::{BatchHandle, BatchedIo};
use super::keepalive::{Keepalive, RoundTrip};
use crate::dial_error::DialError;
use crate::error::TunnelError;
use crate::frontend::HeadError;
use crate::incoming::{IncomingConnect, answer, answer_with};

/// A stream that the peer opened, and where its answer goes.
pub(crate) type ServerStream = (Request<RecvStream>, SendResponse<Bytes>);

/// Accepts streams on one connection and drives it: nothing moves unless this is polled.
pub(crate) struct ServerLink<T> {
    connection: Connection<BatchedIo<T>, Bytes>,
    batch: BatchHandle<T>,
    keepalive: Keepalive,
    timeout: Duration,
    proxy: &'static str,
    resets: Resets,
}

impl<T> ServerLink<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Starts HTTP/2 on `io`, whose TLS handshake is done; `proxy` names this end in the
    /// `Proxy-Status` of its answers. The peer may reset `resets_before_accept` streams in a
    /// second before they are seen here, or the connection ends (CVE-2023-44487).
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
            resets: Resets::new(resets_before_accept),
        })
    }

    /// The next stream of any kind, or why there will be none.
    pub(crate) fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ServerStream, TunnelError>> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, mut respond)))) => {
                    if !matches!(respond.poll_reset(cx), Poll::Ready(Ok(_))) {
                        return Poll::Ready(Ok((request, respond)));
                    }
                    // Nobody waits for it. h2 counts those of one turn, and a turn is short.
                    if self.resets.is_one_too_many() {
                        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    }
                }
                Poll::Ready(Some(Err(source))) => {
                    return Poll::Ready(Err(TunnelError::Http2 { source }));
                }
                Poll::Ready(None) => return Poll::Ready(Err(TunnelError::Closed)),
                Poll::Pending => break,
            }
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
            if let Some(incoming) = read_connect(request, respond, self.proxy) {
                return Poll::Ready(Ok(incoming));
            }
        }
    }

    pub(crate) fn round_trip(&self) -> RoundTrip {
        self.keepalive.round_trip()
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

/// Streams that the peer gave up before they were seen here.
#[derive(Debug)]
struct Resets {
    allowed: usize,
    counted: usize,
    since: Instant,
}

impl Resets {
    fn new(allowed: usize) -> Self {
        Self {
            allowed,
            counted: 0,
            since: Instant::now(),
        }
    }

    fn is_one_too_many(&mut self) -> bool {
        if self.since.elapsed() > RESETS_PERIOD {
            self.since = Instant::now();
            self.counted = 0;
        }
        self.counted += 1;
        self.counted > self.allowed
    }
}

const RESETS_PERIOD: Duration = Duration::from_secs(1);

/// The CONNECT stream, when it is one with a valid target; answered here otherwise.
pub(crate) fn read_connect(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    proxy: &'static str,
) -> Option<IncomingConnect> {
    if request.method() != Method::CONNECT {
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::ALLOW,
            http::HeaderValue::from_static("CONNECT"),
        );
        answer_with(
            &mut respond,
            StatusCode::METHOD_NOT_ALLOWED,
            headers,
            &HeadError::Method.to_string(),
        );
        return None;
    }
    let authority = request
        .uri()
        .authority()
        .map_or("", |authority| authority.as_str());
    match authority.parse() {
        Ok(target) => {
            let recv = request.into_body();
            Some(IncomingConnect::of_http2(target, respond, recv, proxy))
        }
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
