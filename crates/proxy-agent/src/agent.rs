//! The proxy-agent: connects to the servers, and connects again for as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_tunnel::throttle::Throttle;
use cluster_proxy_tunnel::{TunnelError, UnreadBudget};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::connect::{ConnectError, Connector, Lane};
use crate::lane;
use crate::metrics::Metrics;
use crate::serve::Targets;
use crate::servers::Servers;

/// The managed cluster's end of the tunnel.
#[derive(Debug)]
pub struct ProxyAgent {
    connector: Connector,
    targets: Arc<Targets>,
    servers: Arc<Servers>,
    metrics: Metrics,
    backoff: Backoff,
    last_connected: Option<Instant>,
    sync_interval: Duration,
    sync_forever: bool,
    server: String,
    trouble: Throttle,
}

impl ProxyAgent {
    /// An agent that connects once it [runs](Self::run). Its metrics go into `registry`, its
    /// condition into `readiness`: ready means connected to at least one server.
    ///
    /// # Errors
    ///
    /// [`ConnectError::ServerName`].
    pub fn new(
        config: Config,
        registry: &mut Registry,
        readiness: &Readiness,
    ) -> Result<Self, ConnectError> {
        let metrics = Metrics::default();
        metrics.register(registry);
        let unread = UnreadBudget::new(config.unread_limit);
        unread.register("cluster_proxy_agent", registry);
        let ready = readiness.condition("connected to a proxy-server");
        Ok(Self {
            targets: Arc::new(Targets::new(&config, metrics.clone(), unread)),
            servers: Arc::new(Servers::new(ready, metrics.clone())),
            metrics,
            backoff: Backoff::new(config.sync_interval, config.sync_interval_cap),
            last_connected: None,
            sync_interval: config.sync_interval,
            sync_forever: config.sync_forever,
            server: config.server.to_string(),
            trouble: Throttle::new(TROUBLE_LOG_INTERVAL),
            connector: Connector::new(config)?,
        })
    }

    /// Connects and serves until `drain` closes; lanes then go on until their streams are done or
    /// the drain ends.
    pub async fn run(mut self, drain: Drain) {
        loop {
            tokio::select! {
                () = drain.closing() => return,
                () = self.connect_once(&drain) => {}
            }
        }
    }

    /// One attempt where one is due, and the wait after it.
    async fn connect_once(&mut self, drain: &Drain) {
        if self.servers.are_all_connected() && !self.sync_forever {
            return self.servers.changed().await;
        }
        // A server that takes lanes and drops them at once is not asked at its own pace.
        if self
            .last_connected
            .is_some_and(|last| last.elapsed() < self.sync_interval)
        {
            sleep(self.backoff.next()).await;
        }
        let servers = Arc::clone(&self.servers);
        let pause = match self.connector.connect(|server| servers.wants(server)).await {
            Ok(lane) => self.connected(lane, drain),
            Err(ConnectError::Lane {
                cause: TunnelError::Unwanted { server_id },
            }) => {
                self.metrics.connect("duplicate");
                tracing::debug!(server = server_id, "connected to this server already");
                self.backoff.next()
            }
            Err(error) => {
                self.metrics.connect("failed");
                self.note_trouble(&error);
                self.backoff.next()
            }
        };
        // A lane lost meanwhile is made up for at once.
        tokio::select! {
            () = sleep(pause) => {}
            () = self.servers.changed() => {}
        }
    }

    /// Keeps a lane to a server that there was none to; how long to wait before the next attempt.
    fn connected(&mut self, lane: Lane, drain: &Drain) -> Duration {
        self.trouble.reset();
        let server = lane.server().clone();
        self.servers.connect(&server.server_id);
        self.metrics.connect("connected");
        if self
            .last_connected
            .is_none_or(|last| last.elapsed() > FLAPPING)
        {
            self.backoff.reset();
        }
        self.last_connected = Some(Instant::now());
        let (connected, count) = self.servers.counts();
        tracing::info!(
            server = server.server_id,
            address = self.server,
            connected,
            count,
            "connected to a proxy-server"
        );
        let (targets, servers) = (Arc::clone(&self.targets), Arc::clone(&self.servers));
        let (task_drain, address) = (drain.clone(), self.server.clone());
        drain.spawn(async move {
            let end = lane::run(lane, targets, &servers, &task_drain).await;
            servers.disconnect(&server.server_id);
            let (reason, end) = (end.reason(), end.in_full());
            if task_drain.is_started() {
                tracing::info!(server = server.server_id, address, reason, "left: {end}");
            } else {
                tracing::warn!(
                    server = server.server_id,
                    address,
                    reason,
                    "disconnected: {end}"
                );
            }
        });
        if self.servers.are_all_connected() && !self.sync_forever {
            Duration::ZERO
        } else {
            self.sync_interval
        }
    }

    fn note_trouble(&self, error: &ConnectError) {
        if let Some(left_out) = self.trouble.pass() {
            tracing::warn!(
                address = self.server,
                attempts_not_logged = left_out,
                "no connection to a proxy-server: {error} ({})",
                error.advice()
            );
        }
    }
}

/// An hour of outage is sixty lines.
const TROUBLE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Lanes that follow each other faster than this keep the back-off where it is.
const FLAPPING: Duration = Duration::from_secs(10);
