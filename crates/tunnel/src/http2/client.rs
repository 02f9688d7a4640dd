//! The end that opens CONNECT streams: the hub on a lane, the user-server towards the
//! proxy-server.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{Method, Request, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Http2Settings;
use super::batch::{BatchHandle, BatchedIo};
use super::keepalive::{Keepalive, RoundTrip};
use crate::dial_error::DialError;
use crate::error::TunnelError;
use crate::stream::{StreamCount, TunnelStream};
use crate::target::Target;

/// Opens streams on one connection. Clones share it; when all are dropped and no stream is open,
/// the connection ends.
#[derive(Debug, Clone)]
pub(crate) struct ClientLink {
    requests: SendRequest<Bytes>,
    streams: StreamCount,
    max_streams: usize,
    round_trip: RoundTrip,
    doubtful: Arc<AtomicBool>,
}

impl ClientLink {
    /// Starts HTTP/2 on `io`, whose TLS handshake is done. Nothing moves unless the driver is
    /// polled.
    ///
    /// # Errors
    ///
    /// When the first bytes cannot be written within the handshake time-out.
    pub(crate) async fn start<T>(
        io: T,
        settings: &Http2Settings,
    ) -> Result<(Self, ClientDriver<T>), TunnelError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = settings.handshake_timeout;
        let io = BatchedIo::new(io);
        let batch = io.handle();
        let (requests, mut connection) = timeout(limit, settings.client().handshake(io))
            .await
            .map_err(|_| TunnelError::TimedOut {
                step: "the HTTP/2 preface",
                limit,
            })?
            .map_err(|source| TunnelError::Http2 { source })?;
        let ping = connection.ping_pong().expect("taken once, here");
        let keepalive = Keepalive::new(ping, settings);
        let link = Self {
            requests,
            streams: StreamCount::default(),
            max_streams: settings.max_streams(),
            round_trip: keepalive.round_trip(),
            doubtful: Arc::default(),
        };
        let driver = ClientDriver {
            connection,
            batch,
            keepalive,
            timeout: settings.ping_timeout,
        };
        Ok((link, driver))
    }

    /// Opens a CONNECT stream to `target` and waits at most `limit` for the answer.
    ///
    /// # Errors
    ///
    /// [`ConnectFailure`] says whether the far side answered.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        limit: Duration,
    ) -> Result<TunnelStream, ConnectFailure> {
        let max = self.max();
        let counted = self.streams.add(max).ok_or(ConnectFailure::Full { max })?;
        let (response, send) = self
            .answer(target, limit)
            .await
            .ok_or(ConnectFailure::Unanswered { limit })?
            .map_err(|source| ConnectFailure::Lost { source })?;
        let (head, recv) = response.into_parts();
        if head.status == StatusCode::OK {
            return Ok(TunnelStream::new(send, recv, Some(counted)));
        }
        Err(ConnectFailure::Answered {
            error: DialError::read_from(head.status, &head.headers),
        })
    }

    /// What a CONNECT is answered; `None` when nothing was within `limit`.
    async fn answer(&self, target: &Target, limit: Duration) -> Option<Result<Answer, h2::Error>> {
        let mut answer = pin!(self.exchange(connect_request(target)));
        let answer = match timeout(limit.min(SLOW_ANSWER), answer.as_mut()).await {
            Ok(answer) => Some(answer),
            Err(_) => {
                self.doubtful.store(true, Ordering::Relaxed);
                timeout(limit.saturating_sub(SLOW_ANSWER), answer)
                    .await
                    .ok()
            }
        };
        if let Some(Ok(_)) = &answer {
            self.doubtful.store(false, Ordering::Relaxed);
        }
        answer
    }

    /// Sends any request whose body follows, and waits for the head of its answer.
    pub(crate) async fn exchange(&self, request: Request<()>) -> Result<Answer, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, send) = requests.send_request(request, false)?;
        Ok((response.await?, send))
    }

    /// Whether new streams may be opened: not after the peer's GOAWAY or the connection's end.
    pub(crate) fn is_usable(&self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        !matches!(
            self.requests.clone().poll_ready(&mut context),
            Poll::Ready(Err(_))
        )
    }

    /// Whether one more stream fits.
    pub(crate) fn has_room(&self) -> bool {
        self.open_streams() < self.max()
    }

    /// How many streams are open.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.get()
    }

    /// How many of them moved bytes lately, or wait for room to send.
    pub(crate) fn busy_streams(&self) -> usize {
        self.streams.busy()
    }

    fn max(&self) -> usize {
        self.max_streams
            .min(self.requests.current_max_send_streams())
    }

    /// Whether a stream was not answered soon and none was since: its target may be slow, or the
    /// peer be gone without a word. Take another connection where there is one.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    /// The last measured round trip.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get()
    }
}

/// The head of an answer with the body that follows, and where the request's goes.
type Answer = (http::Response<h2::RecvStream>, h2::SendStream<Bytes>);

/// A dial and two hops' round trips take less on nearly every way, and a dead peer is found by its
/// silence much later only.
pub(crate) const SLOW_ANSWER: Duration = Duration::from_secs(1);

/// Why a CONNECT stream was not opened.
#[derive(Debug)]
pub(crate) enum ConnectFailure {
    /// The far side said no.
    Answered {
        /// What it said.
        error: DialError,
    },
    /// Nothing was answered in time.
    Unanswered {
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke or was ended, or the stream was reset before the answer.
    Lost {
        /// What h2 says.
        source: h2::Error,
    },
    /// As many streams are open as the connection may carry.
    Full {
        /// How many.
        max: usize,
    },
}

/// Drives one connection: everything moves only while this is polled. Ends when the connection
/// does.
pub(crate) struct ClientDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    connection: Connection<BatchedIo<T>, Bytes>,
    batch: BatchHandle<T>,
    keepalive: Keepalive,
    timeout: Duration,
}

impl<T> ClientDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Asks the peer for signs of life no more often than this.
    pub(crate) fn ping_at_most_every(&mut self, interval: Duration) {
        let interval = interval.max(self.keepalive.interval());
        self.keepalive.set_interval(interval);
    }
}

impl<T> Future for ClientDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Output = TunnelError;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TunnelError> {
        if let Poll::Ready(end) = Pin::new(&mut self.connection).poll(cx) {
            return Poll::Ready(end.into());
        }
        let Self {
            batch, keepalive, ..
        } = &mut *self;
        if keepalive.poll(cx, || batch.received()).is_ready() {
            return Poll::Ready(TunnelError::Silent {
                timeout: self.timeout,
            });
        }
        batch.flush(cx);
        Poll::Pending
    }
}

impl<T> std::fmt::Debug for ClientDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientDriver").finish_non_exhaustive()
    }
}

fn connect_request(target: &Target) -> Request<()> {
    let uri = Uri::builder()
        .authority(target.to_string())
        .build()
        .expect("a target is a valid authority");
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = uri;
    request
}

/// Whether the connection was lost, and not the one stream refused. A CONNECT stream carries
/// nothing before its answer, so it may then be tried again on another connection.
pub(crate) fn is_loss_of_link(error: &h2::Error) -> bool {
    error.is_go_away() || error.is_io() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}
