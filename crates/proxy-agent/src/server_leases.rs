//! Counting servers by their Leases (`--count-server-leases`), as konnectivity's agent does
//! (`pkg/agent/lease_counter.go` of apiserver-network-proxy v0.36).
//!
//! Leases that cannot be read are no Leases that are not there: the last count stays until the
//! watch works again, and before the first one the servers' own word counts.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_kube_client::Connection;
use cluster_proxy_kube_client::lease::ends_at;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::Metrics;
use crate::servers::Servers;

/// Where the servers' Leases are.
#[derive(Debug, Clone)]
pub struct ServerLeasesConfig {
    /// The cluster; its user needs to list and watch Leases in the namespace.
    pub hub: Connection,
    /// The namespace.
    pub namespace: String,
    /// Which Leases there are servers': a label selector.
    pub selector: String,
    /// How their count and the servers' word go together.
    pub source: ServerCountSource,
}

/// Which count of servers holds, where Leases are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerCountSource {
    /// That of the Leases.
    #[default]
    Default,
    /// The larger of that and what the servers say.
    Max,
}

/// Watches the Leases for as long as the agent runs.
pub(crate) struct ServerLeases {
    api: Api<Lease>,
    selector: String,
    namespace: String,
    servers: Arc<Servers>,
    metrics: Metrics,
    /// When each Lease ends.
    ends: HashMap<String, Timestamp>,
    /// Those of a list that is still being read.
    listing: HashMap<String, Timestamp>,
    /// Whether `ends` is what the kube-apiserver has.
    current: bool,
    /// Whether it was said that there are none.
    warned: bool,
}

impl ServerLeases {
    pub(crate) fn new(
        config: &ServerLeasesConfig,
        servers: Arc<Servers>,
        metrics: Metrics,
    ) -> Self {
        Self {
            api: Api::namespaced(config.hub.watch_client(), &config.namespace),
            selector: config.selector.clone(),
            namespace: config.namespace.clone(),
            servers,
            metrics,
            ends: HashMap::new(),
            listing: HashMap::new(),
            current: false,
            warned: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let wanted = watcher::Config::default().labels(&self.selector);
        let mut events = pin!(watcher(self.api.clone(), wanted).default_backoff());
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => self.take(event),
                    Ok(None) => return,
                    Err(error) => self.fail(&error),
                },
                _ = look.tick() => {}
            }
            self.count();
        }
    }

    fn take(&mut self, event: watcher::Event<Lease>) {
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(lease) => note(&mut self.listing, &lease),
            watcher::Event::InitDone => {
                self.ends = std::mem::take(&mut self.listing);
                self.current = true;
                self.metrics.konnectivity.leases_listed(200, String::new());
            }
            watcher::Event::Apply(lease) => {
                self.current = true;
                note(&mut self.ends, &lease);
            }
            watcher::Event::Delete(lease) => {
                self.current = true;
                self.ends
                    .remove(lease.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }

    fn fail(&mut self, error: &watcher::Error) {
        self.current = false;
        match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status)) => self
                .metrics
                .konnectivity
                .leases_listed(status.code, status.reason.clone()),
            watcher::Error::WatchStartFailed(kube::Error::Api(status)) => self
                .metrics
                .konnectivity
                .leases_watched(status.code, status.reason.clone()),
            _ => {}
        }
        tracing::warn!(
            namespace = self.namespace,
            selector = self.selector,
            "the servers' Leases cannot be watched, the last count of servers stays: {error}"
        );
    }

    /// Says how many servers there are, where that is known.
    fn count(&mut self) {
        if !self.current {
            return;
        }
        let now = Timestamp::now();
        let valid = self.ends.values().filter(|end| **end > now).count();
        if valid == 0 && !self.warned {
            tracing::warn!(
                namespace = self.namespace,
                selector = self.selector,
                "no server has a Lease that holds: one server is assumed"
            );
        }
        self.warned = valid == 0;
        self.servers.set_leased(valid.max(1));
    }
}

fn note(ends: &mut HashMap<String, Timestamp>, lease: &Lease) {
    let Some(name) = &lease.metadata.name else {
        return;
    };
    match ends_at(lease) {
        Some(end) => drop(ends.insert(name.clone(), end)),
        None => drop(ends.remove(name)),
    }
}

/// A Lease that is not renewed any more brings no event; konnectivity's last 30 s.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

impl std::fmt::Debug for ServerLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerLeases")
            .field("namespace", &self.namespace)
            .field("selector", &self.selector)
            .finish_non_exhaustive()
    }
}
