//! What pools count. One set of counters serves all pools of a role: a destination is no label.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of one or many [`Pool`](crate::Pool)s; clones share them.
#[derive(Clone, Debug, Default)]
pub struct PoolMetrics {
    /// Connections dialled. Flat under load: nothing is dialled per request.
    pub dialled: Counter,
    /// Dials that failed or took too long.
    pub dial_failures: Counter,
    /// Requests sent, each counted once however often it was tried.
    pub requests: Counter,
    /// Further tries of requests that no peer had seen.
    pub retries: Counter,
    /// Connections dialled for upgrades (exec, port-forward, WebSocket).
    pub upgrades: Counter,
    /// Requests that found no free stream in time.
    pub no_slot: Counter,
    /// Connections open now, those of upgrades not counted.
    pub open: Gauge,
}

impl PoolMetrics {
    /// Adds the counters to `registry`; the caller gives it the role's prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_connections_dialled",
            "Connections dialled towards destinations",
            self.dialled.clone(),
        );
        registry.register(
            "upstream_dial_failures",
            "Dials towards destinations that failed or took too long",
            self.dial_failures.clone(),
        );
        registry.register(
            "upstream_requests",
            "Requests sent over pooled connections",
            self.requests.clone(),
        );
        registry.register(
            "upstream_retries",
            "Further tries of requests that no destination had seen",
            self.retries.clone(),
        );
        registry.register(
            "upstream_upgrades",
            "Connections dialled for upgrades such as exec and port-forward",
            self.upgrades.clone(),
        );
        registry.register(
            "upstream_no_slot",
            "Requests that found no free stream in time",
            self.no_slot.clone(),
        );
        registry.register(
            "upstream_connections_open",
            "Pooled connections open now",
            self.open.clone(),
        );
    }
}
