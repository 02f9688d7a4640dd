//! The proxy-server: its listeners, the table between them, and the order in which it ends.

use std::sync::{Arc, Mutex};

use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_tunnel::UnreadBudget;
use cluster_proxy_tunnel::lane::{AGENT_TOKENS, LANES, ServerHello};
use cluster_proxy_tunnel::throttle::Throttle;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent_port::{AgentPort, REFUSAL_LOG_INTERVAL};
use crate::agents::Agents;
use crate::config::Config;
use crate::frontend_port::FrontendPort;
use crate::listener;
use crate::metrics::Metrics;
use crate::ownership::Rule;
use crate::server_lease::ServerLease;
use crate::status::StatusSource;

/// The hub's end of the tunnel.
#[derive(Debug)]
pub struct ProxyServer {
    config: Config,
    metrics: Metrics,
    agents: Arc<Agents>,
    unread: UnreadBudget,
    ready: cluster_proxy_runtime::readiness::Condition,
}

impl ProxyServer {
    /// A server that serves once it [runs](Self::run). Its metrics go into `registry`, its
    /// condition into `readiness`: ready means that agents and users can connect, not that any
    /// agent has.
    #[must_use]
    pub fn new(config: Config, registry: &mut Registry, readiness: &Readiness) -> Self {
        let metrics = Metrics::default();
        metrics.register(registry);
        let agents = Agents::new(config.strategies.clone(), metrics.clone());
        let unread = UnreadBudget::new(config.unread_limit);
        unread.register("cluster_proxy_server", registry);
        Self {
            config,
            agents: Arc::new(agents),
            metrics,
            unread,
            ready: readiness.condition("proxy-server listening"),
        }
    }

    /// Tells which agents are connected, for as long as the server runs and longer.
    #[must_use]
    pub fn status(&self) -> StatusSource {
        StatusSource {
            server_id: self.config.server_id.clone(),
            agents: Arc::clone(&self.agents),
        }
    }

    /// Serves until `drain` is through.
    ///
    /// Started: agents are told to connect elsewhere. Closing: the listeners close, users get a
    /// GOAWAY, open tunnelled connections go on; lanes stay until the last of those is done.
    /// Ended: the rest is cut.
    pub async fn run(self, drain: Drain) {
        let Config {
            frontend,
            frontend_socket,
            agents: port,
            server_id,
            server_count,
            ..
        } = self.config;
        let agents = self.agents;
        let (open, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut capabilities = vec![LANES.to_owned()];
        if self.config.agent_tokens.is_some() {
            capabilities.push(AGENT_TOKENS.to_owned());
        }
        if let Some(lease) = self.config.server_lease {
            let metrics = self.metrics.konnectivity.leases.clone();
            let lease = ServerLease::new(lease, server_id.clone(), metrics);
            drain.spawn(lease.run(drain.clone()));
        }
        let agent_port = Arc::new(AgentPort {
            hello: ServerHello {
                server_id,
                server_count,
                capabilities,
            },
            rule: match self.config.agent_table {
                Some(table) => Rule::Table(table),
                None => Rule::Fixed(self.config.agent_identity),
            },
            tokens: self.config.agent_tokens,
            http2: self.config.http2.clone(),
            agents: Arc::clone(&agents),
            metrics: self.metrics.clone(),
            drain: drain.clone(),
            refusals: Throttle::new(REFUSAL_LOG_INTERVAL),
            blamed: Mutex::default(),
            stop: stop.clone(),
        });
        let frontend_port = Arc::new(FrontendPort {
            http2: self.config.http2,
            dial_limit: self.config.dial_limit,
            agents: Arc::clone(&agents),
            metrics: self.metrics.clone(),
            unread: self.unread,
            drain: drain.clone(),
            refusals: Throttle::new(REFUSAL_LOG_INTERVAL),
            open: open.clone(),
        });
        let mut accepting = vec![drain.spawn(listener::run(
            "agent",
            port,
            drain.clone(),
            self.metrics.clone(),
            move |accepted, peer| Arc::clone(&agent_port).serve(accepted, peer),
        ))];
        if let Some(frontend) = frontend {
            let frontend_port = Arc::clone(&frontend_port);
            accepting.push(drain.spawn(listener::run(
                "frontend",
                frontend,
                drain.clone(),
                self.metrics,
                move |accepted, peer| Arc::clone(&frontend_port).serve_tls(accepted, peer),
            )));
        }
        if let Some(socket) = frontend_socket {
            accepting.push(drain.spawn(listener::run_unix(
                "frontend socket",
                socket,
                drain.clone(),
                move |socket| Arc::clone(&frontend_port).serve_unix(socket),
            )));
        }
        self.ready.set(true);
        drain.started().await;
        agents.drain();
        for listener in accepting {
            // Fails only when the loop panicked; the others still have to end.
            let _ = listener.await;
        }
        self.ready.set(false);
        open.close();
        tokio::select! {
            () = open.wait() => {}
            () = drain.ended() => {}
        }
        stop.cancel();
    }
}
