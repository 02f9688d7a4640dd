//! The agent's end of its stream to one server (`AgentService.Connect`), with the face of an
//! [`AgentLane`](crate::lane::AgentLane).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use cluster_proxy_identity::Token;
use cluster_proxy_konnectivity_wire::agent_table::AgentLimits;
use cluster_proxy_konnectivity_wire::flow::FlowSettings;
use cluster_proxy_konnectivity_wire::headers::{
    AGENT_ID, AGENT_IDENTIFIERS, AUTHORIZATION, BEARER, CONNECT_PATH,
};
use http::{HeaderValue, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::clock::Clock;
use super::grpc::{self, violation};
use super::inbox::{Inbox, Received};
use super::packet_counts::Segment;
use super::server::towards_go;
use crate::error::TunnelError;
use crate::http2::Http2Settings;
use crate::http2::client::{ClientDriver, ClientLink};
use crate::lane::{AgentHello, LaneEvent, ServerHello};

mod link;

use link::Link;

/// A stream to one server. Everything on it moves only while [`next`](Self::next) is polled;
/// dropped, the stream is over and every connection on it errors.
pub struct ServerStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    server: ServerHello,
    /// Kept for as long as the connection is to live.
    _http2: ClientLink,
    driver: ClientDriver<T>,
    inbox: Inbox,
    link: Link,
    clock: Clock,
}

impl<T> ServerStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Opens the stream over `io`, whose TLS handshake with [`super::KONNECTIVITY_ALPN`] is done,
    /// to the server that is called `authority` (host, or host and port), and waits for its
    /// introduction. `token` is the service account's, for servers that ask for one. Pings go out
    /// no faster than Go's servers allow, whatever `settings` say.
    ///
    /// # Errors
    ///
    /// When the server does not introduce itself within the handshake time-out, or not as one, or
    /// refuses this agent, or is not wanted.
    pub async fn open_over(
        io: T,
        authority: &str,
        hello: &AgentHello,
        token: Option<&Token>,
        settings: &Http2Settings,
        is_wanted: impl FnOnce(&ServerHello) -> bool,
    ) -> Result<Self, TunnelError> {
        let settings = towards_go(settings);
        let limit = settings.handshake_timeout;
        let request = call(authority, hello, token)?;
        let (http2, mut driver) = ClientLink::start(io, &settings).await?;
        let introduced = timeout(limit, async {
            tokio::select! {
                answer = http2.exchange(request) => {
                    answer.map_err(|source| TunnelError::Http2 { source })
                }
                end = &mut driver => Err(end),
            }
        });
        let (answer, send) = introduced.await.map_err(|_| TunnelError::TimedOut {
            step: "the server's introduction",
            limit,
        })??;
        if answer.status() != StatusCode::OK {
            let details = format!("the call was answered {}", answer.status());
            return Err(violation(&details));
        }
        if answer.body().is_end_stream() {
            grpc::outcome(answer.headers())?;
            return Err(violation("the server ended the call at once"));
        }
        let server = ServerHello::read_from(answer.headers())?;
        if !is_wanted(&server) {
            return Err(TunnelError::Unwanted {
                server_id: server.server_id,
            });
        }
        Ok(Self {
            link: Link::new(send, AgentLimits::default(), FlowSettings::default()),
            server,
            _http2: http2,
            driver,
            inbox: Inbox::new(answer.into_body(), Segment::ToAgent),
            clock: Clock::new(),
        })
    }

    /// How the server introduced itself.
    #[must_use]
    pub fn server(&self) -> &ServerHello {
        &self.server
    }

    /// How many connections were closed for the others' sake, since their targets took nothing.
    #[must_use]
    pub fn stalled(&self) -> u64 {
        self.link.stalled()
    }

    /// What happens next: [`LaneEvent::Connect`] only, the protocol has nothing else. Nothing is
    /// lost when the future is dropped and asked for again.
    ///
    /// # Errors
    ///
    /// What ended the stream: [`TunnelError::Closed`] when it was in order.
    pub async fn next(&mut self) -> Result<LaneEvent, TunnelError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Tells the server that this agent ends soon: it dials through others if it can.
    pub fn drain(&mut self) {
        self.link.drain(self.clock.now());
    }

    /// Takes no more connections: each is refused. Those open go on.
    pub fn finish(&mut self) {
        self.link.refuse_dials();
    }

    /// Ends the stream in order, once the connections on it are done: [`next`](Self::next) then
    /// says [`TunnelError::Closed`] when everything sent has left.
    pub fn close(&mut self) {
        self.link.close();
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<LaneEvent, TunnelError>> {
        let polled = self.poll(cx);
        if let Poll::Ready(Err(_)) = polled {
            self.link.end(self.clock.now());
        }
        polled
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<LaneEvent, TunnelError>> {
        loop {
            let now = self.clock.now();
            self.link.take_news(cx, now);
            self.read(cx)?;
            if let Some(incoming) = self.link.next_dial() {
                // The rest is done when this is asked for again.
                return Poll::Ready(Ok(LaneEvent::Connect(incoming)));
            }
            let crowded = self.link.is_crowded();
            self.link.send(cx, self.clock.now())?;
            if crowded && !self.link.is_crowded() {
                cx.waker().wake_by_ref();
            }
            if let Poll::Ready(end) = Pin::new(&mut self.driver).poll(cx) {
                return Poll::Ready(Err(end));
            }
            let deadline = self.link.next_deadline();
            if self.clock.poll_over(cx, deadline).is_pending() {
                return Poll::Pending;
            }
            self.link.tick(self.clock.now());
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), TunnelError> {
        while self.link.reads() {
            match self.inbox.poll_next(cx)? {
                Poll::Ready(Received::Packet(packet)) => {
                    self.link.packet(self.clock.now(), packet);
                }
                Poll::Ready(Received::End(trailers)) => {
                    grpc::outcome(&trailers.unwrap_or_default())?;
                    return Err(TunnelError::Closed);
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

impl<T> Drop for ServerStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        self.link.end(self.clock.now());
    }
}

impl<T> std::fmt::Debug for ServerStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerStream")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

fn call(
    authority: &str,
    hello: &AgentHello,
    token: Option<&Token>,
) -> Result<Request<()>, TunnelError> {
    let value = |text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| violation("the agent's introduction fits no header"))
    };
    let mut request = grpc::request(authority, CONNECT_PATH)?;
    let headers = request.headers_mut();
    headers.insert(AGENT_ID, value(&hello.agent_id)?);
    headers.insert(AGENT_IDENTIFIERS, value(&hello.identifiers.to_string())?);
    if let Some(token) = token {
        let mut bearer = value(&format!("{BEARER}{}", token.expose()))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(request)
}
