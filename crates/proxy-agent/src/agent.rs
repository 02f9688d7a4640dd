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
use crate::server_leases::ServerLeases;
use crate::servers::{Missing, Servers};

/// The managed cluster's end of the tunnel.
#[derive(Debug)]
pub struct ProxyAgent {
    connector: Connector,
    targets: Arc<Targets>,
    servers: Arc<Servers>,
    leases: Option<ServerLeases>,
    metrics: Metrics,
    backoff: Backoff,
    last_connected: Option<Instant>,
    /// Attempts in a row that brought no lane.
    fruitless: u32,
    lane_idle: Duration,
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
        let leases = config.server_leases.as_ref();
        let source = leases.map(|leases| leases.source).unwrap_or_default();
        let servers = Arc::new(Servers::new(config.lanes, ready, metrics.clone(), source));
        let leases =
            leases.map(|leases| ServerLeases::new(leases, Arc::clone(&servers), metrics.clone()));
        Ok(Self {
            targets: Arc::new(Targets::new(&config, metrics.clone(), unread)),
            servers,
            leases,
            metrics,
            backoff: Backoff::new(config.sync_interval, config.sync_interval_cap),
            last_connected: None,
            fruitless: 0,
            lane_idle: config.lane_idle,
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
        if let Some(leases) = self.leases.take() {
            let ended = drain.clone();
            drain.spawn(async move {
                tokio::select! {
                    () = leases.run() => {}
                    () = ended.closing() => {}
                }
            });
        }
        loop {
            tokio::select! {
                () = drain.closing() => return,
                () = self.connect_once(&drain) => {}
            }
        }
    }

    /// One attempt where one is due, and the wait after it.
    async fn connect_once(&mut self, drain: &Drain) {
        let missing = self.servers.missing();
        let due = self.sync_forever
            || match missing {
                Missing::Nothing => false,
                Missing::Lanes => self.fruitless < self.fruitless_limit(),
                Missing::Servers => true,
            };
        if !due {
            self.servers.changed().await;
            self.fruitless = 0;
            return;
        }
        if self.servers.take_upset() {
            let flapping = self
                .last_connected
                .is_some_and(|last| last.elapsed() < self.sync_interval);
            // A server that takes lanes and drops them at once is not asked at its own pace.
            let pause = if flapping {
                self.backoff.next()
            } else {
                self.note_stable();
                self.backoff.spread()
            };
            sleep(pause).await;
        }
        let servers = Arc::clone(&self.servers);
        let pause = match self.connector.connect(|server| servers.wants(server)).await {
            Ok(lane) => self.connected(lane, drain),
            Err(ConnectError::Lane {
                cause: TunnelError::Unwanted { server_id },
            }) => {
                self.metrics.connect("duplicate");
                tracing::debug!(server = server_id, "connected to this server already");
                self.fruitless += 1;
                self.backoff.next()
            }
            Err(error) => {
                self.metrics.connect("failed");
                self.note_trouble(&error);
                self.fruitless += 1;
                self.backoff.next()
            }
        };
        // A lane lost meanwhile is made up for at once.
        tokio::select! {
            () = sleep(pause) => {}
            () = self.servers.changed() => self.fruitless = 0,
        }
    }

    /// Keeps a lane that was wanted; how long to wait before the next attempt.
    fn connected(&mut self, lane: Lane, drain: &Drain) -> Duration {
        self.trouble.reset();
        let server = lane.server().server_id.clone();
        let mut place = self.servers.connect(lane.server());
        self.metrics.connect("connected");
        self.note_stable();
        self.fruitless = 0;
        self.last_connected = Some(Instant::now());
        let (connected, count) = self.servers.counts();
        tracing::info!(
            server,
            address = self.server,
            connected,
            count,
            "connected to a proxy-server"
        );
        let (targets, idle) = (Arc::clone(&self.targets), self.lane_idle);
        let metrics = self.metrics.clone();
        let (task_drain, address) = (drain.clone(), self.server.clone());
        drain.spawn(async move {
            let end = lane::run(lane, targets, &mut place, idle, &task_drain).await;
            let (reason, end) = (end.reason(), end.in_full());
            if place.is_retired() {
                tracing::debug!(server, address, reason, "an idle lane is closed: {end}");
            } else if task_drain.is_started() {
                tracing::info!(server, address, reason, "left: {end}");
            } else {
                metrics.konnectivity.server_lost();
                tracing::warn!(server, address, reason, "disconnected: {end}");
            }
        });
        match self.servers.missing() {
            Missing::Servers => self.sync_interval,
            Missing::Nothing if self.sync_forever => self.sync_interval,
            Missing::Nothing | Missing::Lanes => Duration::ZERO,
        }
    }

    /// See [`FRUITLESS_FOR_EACH`].
    fn fruitless_limit(&self) -> u32 {
        let (_, servers) = self.servers.counts();
        let servers = u32::try_from(servers).unwrap_or(u32::MAX);
        FRUITLESS_FOR_EACH
            .saturating_mul(servers)
            .min(MAX_FRUITLESS)
    }

    /// Begins the back-off anew, unless lanes follow each other too fast.
    fn note_stable(&mut self) {
        if self
            .last_connected
            .is_none_or(|last| last.elapsed() > FLAPPING)
        {
            self.backoff.reset();
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

/// Behind one address an attempt may land on any server. When only lanes are missing, and this many
/// attempts for each server brought none, those there are have to do until something changes.
/// Of n servers one is missed 8 n times in a row by chance in one of 3000 cases.
const FRUITLESS_FOR_EACH: u32 = 8;

/// However many servers there are.
const MAX_FRUITLESS: u32 = 64;
