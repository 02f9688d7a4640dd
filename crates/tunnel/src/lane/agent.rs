//! The agent's end of a lane: answers the streams that the hub opens.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use cluster_proxy_identity::Token;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::control::{Control, ControlReceiver, ControlSender};
use super::hello::write_token;
use super::{AgentHello, CONTROL_PATH, PROTOCOL, ServerHello};
use crate::error::TunnelError;
use crate::http2::server::ServerLink;
use crate::http2::{Http2Settings, IncomingConnect};

/// A lane to one proxy-server. Everything on it moves only while [`next`](Self::next) is polled;
/// dropped, the lane is over and every stream on it errors.
#[derive(Debug)]
pub struct AgentLane<T> {
    link: ServerLink<T>,
    server: ServerHello,
    sender: ControlSender,
    /// `None` once the server has ended its half.
    receiver: Option<ControlReceiver>,
}

/// What happens on a lane, as the agent sees it.
#[derive(Debug)]
pub enum LaneEvent {
    /// The hub wants a tunnelled connection.
    Connect(IncomingConnect),
    /// The server ends soon: connect to another one.
    ServerDrains,
    /// There are this many servers now.
    ServerCount(u32),
    /// The server would like to have this many lanes from this agent.
    Lanes(u32),
    /// The server opens no more streams: close the lane when those open are done.
    ServerCloses,
}

impl<T> AgentLane<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Opens the lane over `io`, whose TLS handshake with [`super::LANE_ALPN`] is done: waits for
    /// the server's introduction and, if `is_wanted`, answers it with `hello`. A server that
    /// reviews agents' tokens is shown `token`, and its word is awaited; no other sees it.
    ///
    /// # Errors
    ///
    /// When the server does not introduce itself within the handshake time-out, or not as one, or
    /// is not wanted, or refuses this agent.
    pub async fn open_over(
        io: T,
        hello: &AgentHello,
        token: Option<&Token>,
        settings: &Http2Settings,
        is_wanted: impl FnOnce(&ServerHello) -> bool,
    ) -> Result<Self, TunnelError> {
        let limit = settings.handshake_timeout;
        let mut link = ServerLink::start(io, "proxy-agent", MAX_RESETS, settings).await?;
        let (request, mut respond) = timeout(limit, poll_fn(|cx| link.poll_stream(cx)))
            .await
            .map_err(|_| TunnelError::TimedOut {
                step: "the server's introduction",
                limit,
            })??;
        if request.method() != Method::POST || request.uri().path() != CONTROL_PATH {
            let details = format!(
                "the first stream is {} and no control stream",
                request.method()
            );
            return Err(TunnelError::Protocol {
                protocol: PROTOCOL,
                details,
            });
        }
        let server = ServerHello::read_from(request.headers())?;
        let mut response = Response::new(());
        let wanted = is_wanted(&server);
        if wanted {
            hello.write_to(response.headers_mut())?;
            if let Some(token) = token.filter(|_| server.reviews_tokens()) {
                write_token(token, response.headers_mut())?;
            }
        } else {
            *response.status_mut() = StatusCode::CONFLICT;
        }
        let send = respond
            .send_response(response, !wanted)
            .map_err(|source| TunnelError::Http2 { source })?;
        if !wanted {
            // The server ends the connection when it has read that.
            let _ = timeout(FAREWELL_TIME, poll_fn(|cx| link.poll_stream(cx))).await;
            return Err(TunnelError::Unwanted {
                server_id: server.server_id,
            });
        }
        let mut receiver = ControlReceiver::new(request.into_body());
        if server.reviews_tokens() {
            let verdict = poll_fn(|cx| poll_verdict(cx, &mut link, &mut receiver));
            timeout(limit, verdict)
                .await
                .map_err(|_| TunnelError::TimedOut {
                    step: "the server's review of this agent's token",
                    limit,
                })??;
        }
        Ok(Self {
            link,
            server,
            sender: ControlSender::new(send),
            receiver: Some(receiver),
        })
    }

    /// How the server introduced itself.
    #[must_use]
    pub fn server(&self) -> &ServerHello {
        &self.server
    }

    /// What happens next. Nothing is lost when the future is dropped and asked for again.
    ///
    /// # Errors
    ///
    /// What ended the lane: [`TunnelError::Closed`] when it was in order.
    pub async fn next(&mut self) -> Result<LaneEvent, TunnelError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Tells the server that this agent ends soon: it opens new streams elsewhere if it can.
    pub fn drain(&mut self) {
        self.sender.send(Control::Drain);
    }

    /// Takes no more streams (GOAWAY); those open go on, and none that was under way is lost.
    pub fn finish(&mut self) {
        self.link.finish();
    }

    /// Ends the lane in order, once the streams on it are done: [`next`](Self::next) then says
    /// [`TunnelError::Closed`] when everything sent has left.
    pub fn close(&mut self) {
        self.finish();
        self.sender.finish();
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<LaneEvent, TunnelError>> {
        if let Poll::Ready(incoming) = self.link.poll_connect(cx) {
            return Poll::Ready(incoming.map(LaneEvent::Connect));
        }
        let Some(receiver) = &mut self.receiver else {
            return Poll::Pending;
        };
        match receiver.poll_next(cx) {
            Poll::Ready(Ok(Some(Control::Drain))) => Poll::Ready(Ok(LaneEvent::ServerDrains)),
            Poll::Ready(Ok(Some(Control::ServerCount(count)))) => {
                Poll::Ready(Ok(LaneEvent::ServerCount(count)))
            }
            Poll::Ready(Ok(Some(Control::Lanes(count)))) => {
                Poll::Ready(Ok(LaneEvent::Lanes(count)))
            }
            Poll::Ready(Ok(Some(Control::Refused(reason)))) => {
                Poll::Ready(Err(TunnelError::Refused { reason }))
            }
            // Said twice, it says nothing more.
            Poll::Ready(Ok(Some(Control::Admitted))) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Ok(None)) => {
                self.receiver = None;
                Poll::Ready(Ok(LaneEvent::ServerCloses))
            }
            Poll::Ready(Err(end)) => Poll::Ready(Err(end)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The server's word about this agent's token, before which it opens nothing.
fn poll_verdict<T>(
    cx: &mut Context<'_>,
    link: &mut ServerLink<T>,
    receiver: &mut ControlReceiver,
) -> Poll<Result<(), TunnelError>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let violation = |details: &str| {
        let details = details.to_owned();
        Poll::Ready(Err(TunnelError::Protocol {
            protocol: PROTOCOL,
            details,
        }))
    };
    let stream = link.poll_stream(cx);
    // What was said before the connection ended counts.
    match receiver.poll_next(cx) {
        Poll::Ready(Ok(Some(Control::Admitted))) => Poll::Ready(Ok(())),
        Poll::Ready(Ok(Some(Control::Refused(reason)))) => {
            Poll::Ready(Err(TunnelError::Refused { reason }))
        }
        Poll::Ready(Ok(Some(Control::Drain | Control::ServerCount(_) | Control::Lanes(_)))) => {
            violation("another message came before the word about the token")
        }
        Poll::Ready(Ok(None)) => violation("the server ended the control stream without a word"),
        Poll::Ready(Err(_)) | Poll::Pending => match stream {
            Poll::Ready(Ok(_)) => violation("a stream came before the word about the token"),
            Poll::Ready(Err(end)) => Poll::Ready(Err(end)),
            Poll::Pending => Poll::Pending,
        },
    }
}

/// Streams the hub may reset before they are seen here. It hands on what all its users do, each
/// of whom is held to a small number at the frontend: a lane must not end for one that hurries.
/// Each takes less than 1 KiB, and a turn of the task reads no more than this many.
const MAX_RESETS: usize = 16_384;

/// A round trip, to tell a server that it is not wanted.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
