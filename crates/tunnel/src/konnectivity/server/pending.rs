//! An agent that calls, until it is let in.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_identity::{Token, TokenError};
use cluster_proxy_konnectivity_wire::flow::FlowSettings;
use cluster_proxy_konnectivity_wire::headers::{AGENT_ID, CONNECT_PATH, SERVER_COUNT, SERVER_ID};
use cluster_proxy_konnectivity_wire::server_table::ServerLimits;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderValue, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::link::Link;
use super::{AgentStream, AgentStreamDriver, towards_go};
use crate::error::TunnelError;
use crate::http2::Http2Settings;
use crate::http2::server::ServerLink;
use crate::konnectivity::grpc::{self, Status, violation};
use crate::lane::{AgentHello, ServerHello};

/// An agent that has introduced itself and waits to be let in.
pub struct PendingAgent<T> {
    http2: ServerLink<T>,
    hello: AgentHello,
    token: Result<Option<Token>, TokenError>,
    respond: SendResponse<Bytes>,
    recv: RecvStream,
}

impl<T> PendingAgent<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Starts HTTP/2 over `io`, whose TLS handshake with [`crate::konnectivity::KONNECTIVITY_ALPN`] is done, and
    /// waits for the agent's call. Pings go out no faster than Go's peers allow, whatever
    /// `settings` say.
    ///
    /// # Errors
    ///
    /// When the agent does not call within the handshake time-out, or calls something else.
    pub async fn open_over(io: T, settings: &Http2Settings) -> Result<Self, TunnelError> {
        let settings = towards_go(settings);
        let limit = settings.handshake_timeout;
        let mut http2 = ServerLink::start(io, "proxy-server", MAX_RESETS, &settings).await?;
        let (request, mut respond) = timeout(limit, poll_fn(|cx| http2.poll_stream(cx)))
            .await
            .map_err(|_| TunnelError::TimedOut {
            step: "the agent's call",
            limit,
        })??;
        if !grpc::is_call(&request, CONNECT_PATH) {
            grpc::refuse(&mut respond, Status::Unimplemented, "agents only");
            // What was answered leaves; whatever comes instead does not matter.
            let _ = timeout(FAREWELL_TIME, poll_fn(|cx| http2.poll_stream(cx))).await;
            let details = "the first stream is no call of AgentService.Connect";
            return Err(violation(details));
        }
        let (hello, token) = introduction(&request)?;
        Ok(Self {
            http2,
            hello,
            token,
            respond,
            recv: request.into_body(),
        })
    }

    /// How the agent introduced itself. It proves nothing; its version is not known.
    #[must_use]
    pub fn hello(&self) -> &AgentHello {
        &self.hello
    }

    /// The token that the agent showed, if any. It is kept until it is asked for.
    ///
    /// # Errors
    ///
    /// When what it showed is none.
    pub fn take_token(&mut self) -> Result<Option<Token>, TokenError> {
        std::mem::replace(&mut self.token, Ok(None))
    }

    /// Lets the agent in. Everything after moves only while the driver is polled.
    ///
    /// # Errors
    ///
    /// When the agent is gone, or `hello` cannot be put into headers.
    pub fn accept(
        mut self,
        hello: &ServerHello,
    ) -> Result<(AgentStream, AgentStreamDriver<T>), TunnelError> {
        let mut response = grpc::response();
        let id = HeaderValue::from_str(&hello.server_id)
            .map_err(|_| violation("the server's id fits no header"))?;
        response.headers_mut().insert(SERVER_ID, id);
        response
            .headers_mut()
            .insert(SERVER_COUNT, HeaderValue::from(hello.server_count));
        let send = self
            .respond
            .send_response(response, false)
            .map_err(|source| TunnelError::Http2 { source })?;
        let handle = AgentStream::new(self.hello, self.http2.round_trip());
        let common = Arc::clone(&handle.shared);
        let link = Link::new(
            common,
            send,
            ServerLimits::default(),
            FlowSettings::default(),
        );
        let driver = AgentStreamDriver::new(self.http2, self.recv, link);
        Ok((handle, driver))
    }

    /// Tells the agent that it is not taken, and why, and lets it go. Best effort.
    pub async fn refuse(self, reason: &str) {
        self.end(Status::PermissionDenied, reason).await;
    }

    /// Tells the agent that it cannot be taken at the moment, and why, and lets it go. Best effort.
    pub async fn put_off(self, reason: &str) {
        self.end(Status::Unavailable, reason).await;
    }

    async fn end(mut self, status: Status, reason: &str) {
        grpc::refuse(&mut self.respond, status, reason);
        self.http2.finish();
        let gone = async { while poll_fn(|cx| self.http2.poll_stream(cx)).await.is_ok() {} };
        let _ = timeout(FAREWELL_TIME, gone).await;
    }
}

impl<T> std::fmt::Debug for PendingAgent<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingAgent")
            .field("hello", &self.hello)
            .finish_non_exhaustive()
    }
}

fn introduction(
    request: &Request<RecvStream>,
) -> Result<(AgentHello, Result<Option<Token>, TokenError>), TunnelError> {
    let headers = request.headers();
    // As Go's server has it: two ids are none.
    if headers.get_all(AGENT_ID).iter().count() != 1 {
        return Err(violation("an agent has exactly one agentID"));
    }
    let token = Token::from_headers(headers);
    Ok((AgentHello::read_from(headers)?, token))
}

/// An agent opens one stream for each connection.
const MAX_RESETS: usize = 16;

/// A round trip, to tell an agent that it is not taken.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
