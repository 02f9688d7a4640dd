//! The port and the Unix socket that users of the tunnel dial: each CONNECT, and each stream of a
//! konnectivity client, is joined with a stream through an agent.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_tunnel::frontend::FrontendConnection;
use cluster_proxy_tunnel::relay::StreamRelay;
use cluster_proxy_tunnel::throttle::Throttle;
use cluster_proxy_tunnel::tls::Accepted;
use cluster_proxy_tunnel::{
    ClientSocket, DialError, Http2Settings, IncomingConnect, Target, TunnelStream, UnreadBudget,
};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::agents::Agents;
use crate::frontend_client::FrontendClient;
use crate::metrics::Metrics;

/// What every frontend connection of this server shares.
#[derive(Debug)]
pub(crate) struct FrontendPort {
    pub(crate) http2: Http2Settings,
    pub(crate) dial_limit: Duration,
    pub(crate) agents: Arc<Agents>,
    pub(crate) metrics: Metrics,
    pub(crate) unread: UnreadBudget,
    pub(crate) drain: Drain,
    pub(crate) refusals: Throttle,
    /// Counts connections, and tunnelled connections on them, to know when all are done.
    pub(crate) open: TaskTracker,
}

impl FrontendPort {
    /// Serves one connection over TLS to its end.
    pub(crate) async fn serve_tls(self: Arc<Self>, accepted: Accepted, peer: SocketAddr) {
        let Accepted {
            stream,
            alpn,
            identity,
        } = accepted;
        let socket = ClientSocket::Tls(Box::new(stream));
        let client = FrontendClient::Certificate { identity, peer };
        self.serve(socket, alpn.as_deref(), client).await;
    }

    /// Serves one connection on the Unix socket to its end.
    pub(crate) async fn serve_unix(self: Arc<Self>, socket: UnixStream) {
        let client = FrontendClient::of_unix(&socket);
        self.serve(ClientSocket::Unix(socket), None, client).await;
    }

    async fn serve(
        self: Arc<Self>,
        socket: ClientSocket,
        alpn: Option<&[u8]>,
        client: FrontendClient,
    ) {
        let _open = self.open.token();
        // Its room is needed for a moment only.
        let opening = Box::pin(FrontendConnection::open(socket, alpn, &self.http2));
        let mut connection = match opening.await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::info!(peer = %client, "a frontend connection did not begin: {}", error.in_full());
                return;
            }
        };
        let name = client.name();
        if !client.may_open_tunnels() {
            if let Some(left_out) = self.refusals.pass() {
                tracing::warn!(peer = %client, client = name, left_out, "refused on the frontend port: {FORBIDDEN}");
            }
            return self.refuse_all(connection).await;
        }
        let protocol = connection.protocol();
        tracing::debug!(peer = %client, client = name, protocol, "frontend connected");
        // A child's token of its own: this is polled with every frame.
        let stages = self.drain.child();
        let mut closing = pin!(stages.closing());
        let mut finished = false;
        let dials = Arc::new(Semaphore::new(MAX_DIALS));
        let end = loop {
            tokio::select! {
                biased;
                () = &mut closing, if !finished => {
                    finished = true;
                    connection.finish();
                }
                incoming = connection.next() => match incoming {
                    Ok(incoming) => {
                        let tunnel = Arc::clone(&self).tunnel(incoming, name.clone(), Arc::clone(&dials));
                        let token = self.open.token();
                        self.drain.spawn(async move {
                            tunnel.await;
                            drop(token);
                        });
                    }
                    Err(end) => break end,
                },
            }
        };
        tracing::debug!(peer = %client, client = name, protocol, reason = end.reason(), "frontend disconnected: {}", end.in_full());
    }

    /// One tunnelled connection from its request to its end. It ends by itself when either the
    /// frontend connection or the agent's does.
    async fn tunnel(
        self: Arc<Self>,
        mut incoming: IncomingConnect,
        client: String,
        dials: Arc<Semaphore>,
    ) {
        let mut access = Access::new(client, &incoming, self.metrics.clone());
        let target = incoming.target().clone();
        // A request and its reset often come together: the second is read before an agent is asked.
        tokio::task::yield_now().await;
        let opening = async {
            let _turn = dials.acquire().await;
            self.open_through_agent(&target, &mut access).await
        };
        let opened = tokio::select! {
            biased;
            () = incoming.abandoned() => None,
            opened = opening => Some(opened),
        };
        let Some(opened) = opened else {
            return access.abandoned();
        };
        let far = match opened {
            Ok(far) => far,
            Err(error) => {
                access.failed(&error);
                return incoming.refuse(&error).await;
            }
        };
        access.opened();
        let Ok(near) = incoming.accept() else {
            return access.abandoned();
        };
        let _active = self.metrics.active();
        let mut relay = StreamRelay::new(near, far).within(&self.unread);
        let end = access.metered(&mut relay).await;
        access.ended(&end, relay.moved());
    }

    /// As [`try_agents`](Self::try_agents), and again a few times when all of them are full: dials
    /// that others give up make room within moments.
    async fn open_through_agent(
        &self,
        target: &Target,
        access: &mut Access,
    ) -> Result<TunnelStream, DialError> {
        for pause in OVERLOAD_PAUSES {
            match self.try_agents(target, access).await {
                Err(DialError::Overloaded { .. }) => tokio::time::sleep(pause).await,
                opened => return opened,
            }
        }
        self.try_agents(target, access).await
    }

    /// Tries the agents that serve the target until one answers.
    async fn try_agents(
        &self,
        target: &Target,
        access: &mut Access,
    ) -> Result<TunnelStream, DialError> {
        let mut last = DialError::NoAgent {
            details: target.to_string(),
        };
        for agent in self.agents.find(target).into_iter().take(MAX_AGENTS_TRIED) {
            access.through(&agent);
            match agent.link.open(target, self.dial_limit).await {
                Ok(stream) => return Ok(stream),
                Err(error @ (DialError::AgentLost { .. } | DialError::Overloaded { .. })) => {
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Answers every request with 403 until the client goes, or for a moment.
    async fn refuse_all(&self, mut connection: FrontendConnection) {
        let refusing = async {
            while let Ok(incoming) = connection.next().await {
                let details = FORBIDDEN.to_owned();
                incoming.refuse(&DialError::Forbidden { details }).await;
                connection.finish();
            }
        };
        let _ = tokio::time::timeout(REFUSAL_TIME, refusing).await;
    }
}

const FORBIDDEN: &str = "this certificate may not open tunnels (an agent's, or none)";

/// Long enough to tell a client why it is refused.
const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// Dials of one frontend connection that agents have not answered yet; more wait. Who opens and
/// resets without pause (CVE-2023-44487) fills neither a lane nor a target's backlog with them.
const MAX_DIALS: usize = 256;

/// Half a second in all: who is full for longer is.
const OVERLOAD_PAUSES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
];

/// Agents that are lost or full at the same time; more would only take time.
const MAX_AGENTS_TRIED: usize = 3;
