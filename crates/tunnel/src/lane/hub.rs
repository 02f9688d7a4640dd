//! The hub's end of a lane: opens a stream for each tunnelled connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use cluster_proxy_identity::{Token, TokenError};
use http::{Method, Request, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::control::{Control, ControlReceiver, ControlSender};
use super::hello::printable;
use super::{AgentHello, CONTROL_PATH, PROTOCOL, ServerHello};
use crate::dial_error::DialError;
use crate::error::TunnelError;
use crate::http2::Http2Settings;
use crate::http2::client::{ClientDriver, ClientLink, ConnectFailure};
use crate::stream::TunnelStream;
use crate::target::Target;

/// A lane to one agent. Clones share it.
#[derive(Debug, Clone)]
pub struct HubLane {
    link: ClientLink,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    agent: AgentHello,
    control: Mutex<ControlSender>,
    agent_drains: AtomicBool,
    closed: CancellationToken,
}

impl HubLane {
    /// Opens the lane over `io`, whose TLS handshake with [`super::LANE_ALPN`] is done: sends
    /// `hello` and waits for the agent's. Everything after moves only while the driver is polled.
    ///
    /// # Errors
    ///
    /// When the agent does not answer within the handshake time-out, or not as an agent.
    pub async fn open_over<T>(
        io: T,
        hello: &ServerHello,
        settings: &Http2Settings,
    ) -> Result<(Self, HubLaneDriver<T>), TunnelError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (link, mut driver) = ClientLink::start(io, settings).await?;
        let limit = settings.handshake_timeout;
        let request = control_request(hello)?;
        let introduced = timeout(limit, async {
            tokio::select! {
                answer = link.exchange(request) => answer.map_err(|source| TunnelError::Http2 { source }),
                end = &mut driver => Err(end),
            }
        });
        let (answer, send) = introduced.await.map_err(|_| TunnelError::TimedOut {
            step: "the agent's introduction",
            limit,
        })??;
        if answer.status() == StatusCode::CONFLICT {
            return Err(TunnelError::Unwanted {
                server_id: hello.server_id.clone(),
            });
        }
        if answer.status() != StatusCode::OK {
            let details = format!("the control stream was answered {}", answer.status());
            return Err(TunnelError::Protocol {
                protocol: PROTOCOL,
                details,
            });
        }
        let agent = AgentHello::read_from(answer.headers())?;
        let token = Token::from_headers(answer.headers());
        if let Some(interval) = agent.ping_interval() {
            driver.ping_at_most_every(interval);
        }
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        let shared = Arc::new(Shared {
            agent,
            control: Mutex::new(ControlSender::new(send)),
            agent_drains: AtomicBool::new(false),
            closed,
        });
        let driver = HubLaneDriver {
            driver,
            control: Some(ControlReceiver::new(answer.into_body())),
            token,
            shared: Arc::clone(&shared),
            _closes: guard,
        };
        Ok((Self { link, shared }, driver))
    }

    /// Tells the agent at the other end of `io` that it is not taken, and why, and lets it go.
    /// Best effort within the handshake time-out.
    pub async fn refuse_over<T>(io: T, reason: &str, settings: &Http2Settings)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Ok((link, mut driver)) = ClientLink::start(io, settings).await else {
            return;
        };
        let mut request = request_on_control_path();
        ServerHello::write_refusal(reason, request.headers_mut());
        // The agent answers nothing: it closes the connection once it has read this.
        let told = async {
            tokio::select! {
                _ = link.exchange(request) => {}
                _ = &mut driver => {}
            }
        };
        let _ = timeout(settings.handshake_timeout, told).await;
    }

    /// Opens a tunnelled connection to `target` and waits at most `limit` for the agent's answer.
    ///
    /// # Errors
    ///
    /// The agent's own error, or [`DialError::AgentLost`], [`DialError::TimedOut`] and
    /// [`DialError::Overloaded`] for what happens on the lane.
    pub async fn open(&self, target: &Target, limit: Duration) -> Result<TunnelStream, DialError> {
        self.link
            .connect(target, limit)
            .await
            .map_err(|failure| match failure {
                ConnectFailure::Answered { error } => error,
                ConnectFailure::Unanswered { limit } => DialError::TimedOut {
                    details: format!("the agent did not answer within {} s", limit.as_secs()),
                },
                ConnectFailure::Lost { source } => DialError::AgentLost {
                    details: source.to_string(),
                },
                ConnectFailure::Full { max } => DialError::Overloaded {
                    details: format!("{max} connections on the lane"),
                },
            })
    }

    /// How the agent introduced itself. It proves nothing: the certificate does.
    #[must_use]
    pub fn agent(&self) -> &AgentHello {
        &self.shared.agent
    }

    /// Whether new tunnelled connections may be opened: the lane is up and the agent takes them.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.shared.closed.is_cancelled() && self.link.is_usable()
    }

    /// Whether the agent said that it ends soon: take it only where there is no other.
    #[must_use]
    pub fn agent_drains(&self) -> bool {
        self.shared.agent_drains.load(Ordering::Relaxed)
    }

    /// How many tunnelled connections are open on the lane.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.link.open_streams()
    }

    /// How many of them moved bytes in the last second or two, or wait for room to send: those
    /// that another one on this lane might have to wait for.
    #[must_use]
    pub fn busy_streams(&self) -> usize {
        self.link.busy_streams()
    }

    /// Whether the agent left a connection unanswered for a while and answered none since: it may
    /// be gone without a word. Take another lane where there is one.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.link.is_doubtful()
    }

    /// The last measured round trip; `None` until the first was measured.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.link.round_trip()
    }

    /// Tells the agent that this server ends soon, so that it connects elsewhere.
    pub fn drain(&self) {
        self.tell(Control::Drain);
    }

    /// Tells the agent that its token is accepted, as [`super::AGENT_TOKENS`] promises.
    pub fn admit(&self) {
        self.tell(Control::Admitted);
    }

    /// Tells the agent that it is not taken after all, and why, and lets it go. Best effort within
    /// a round trip's time.
    pub async fn refuse<T>(self, mut driver: HubLaneDriver<T>, reason: &str)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        self.tell(Control::Refused(printable(reason)));
        self.shared.control().finish();
        let _ = timeout(FAREWELL_TIME, driver.run()).await;
    }

    /// Tells the agent how many servers there are now.
    pub fn set_server_count(&self, count: u32) {
        self.tell(Control::ServerCount(count));
    }

    /// Asks the agent to have `count` lanes to this server. One without [`super::LANES`] among its
    /// capabilities keeps the one it has.
    pub fn ask_for_lanes(&self, count: u32) {
        self.tell(Control::Lanes(count));
    }

    /// Opens no more streams here: the agent ends the lane when those open are done, and then the
    /// driver ends.
    pub fn close(&self) {
        self.shared.control().finish();
    }

    /// Returns when the lane has ended.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    fn tell(&self, control: Control) {
        self.shared.control().send(control);
    }
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, ControlSender> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives a [`HubLane`]: nothing moves unless it is polled; the lane is over when it ends or is
/// dropped.
#[must_use = "the lane moves only while its driver is polled"]
#[derive(Debug)]
pub struct HubLaneDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    driver: ClientDriver<T>,
    /// `None` once the agent has ended its half: it closes the lane when its streams are done.
    control: Option<ControlReceiver>,
    token: Result<Option<Token>, TokenError>,
    shared: Arc<Shared>,
    _closes: DropGuard,
}

impl<T> HubLaneDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// The token that the agent showed, if any. It is kept until it is asked for.
    ///
    /// # Errors
    ///
    /// When what it showed is none.
    pub fn take_token(&mut self) -> Result<Option<Token>, TokenError> {
        std::mem::replace(&mut self.token, Ok(None))
    }

    /// Drives the lane to its end and says what ended it.
    pub async fn run(&mut self) -> TunnelError {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        if let Poll::Ready(end) = Pin::new(&mut self.driver).poll(cx) {
            return Poll::Ready(end);
        }
        while let Some(control) = &mut self.control {
            match control.poll_next(cx) {
                Poll::Ready(Ok(Some(Control::Drain))) => {
                    self.shared.agent_drains.store(true, Ordering::Relaxed);
                }
                // An agent has no say in this.
                Poll::Ready(Ok(Some(
                    Control::ServerCount(_)
                    | Control::Lanes(_)
                    | Control::Admitted
                    | Control::Refused(_),
                ))) => {}
                Poll::Ready(Ok(None)) => {
                    self.shared.agent_drains.store(true, Ordering::Relaxed);
                    self.shared.control().finish();
                    self.control = None;
                }
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}

/// What was said leaves; an agent that is not taken has nothing to add.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

fn control_request(hello: &ServerHello) -> Result<Request<()>, TunnelError> {
    let mut request = request_on_control_path();
    hello.write_to(request.headers_mut())?;
    Ok(request)
}

fn request_on_control_path() -> Request<()> {
    let uri = Uri::builder()
        .scheme("https")
        .authority("lane")
        .path_and_query(CONTROL_PATH)
        .build()
        .expect("a constant that is valid");
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    request
}
