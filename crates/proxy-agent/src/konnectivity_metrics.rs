//! The metrics of konnectivity's agent, by its names (`pkg/agent/metrics` of
//! apiserver-network-proxy v0.36), so that dashboards and alerts made for it go on working. They
//! count lanes and konnectivity alike. Those without a true value here are listed in
//! docs/konnectivity.md.

use std::time::Duration;

use cluster_proxy_runtime::metrics_text::PlainCounter;
use cluster_proxy_tunnel::konnectivity::PacketCounts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::metrics::DirectionLabel;

/// Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct KonnectivityMetrics {
    dial_duration: Histogram,
    server_failures: Family<DirectionLabel, PlainCounter>,
    dial_failures: Family<ReasonLabel, Counter>,
    open_server_connections: Gauge,
    known_server_count: Gauge,
    open_endpoint_connections: Gauge,
    lease_lists: Family<CodeReasonLabel, Counter>,
    lease_watches: Family<CodeReasonLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeReasonLabel {
    http_response_code: u16,
    reason: String,
}

impl Default for KonnectivityMetrics {
    fn default() -> Self {
        Self {
            dial_duration: Histogram::new(LATENCY_BUCKETS),
            server_failures: Family::default(),
            dial_failures: Family::default(),
            open_server_connections: Gauge::default(),
            known_server_count: Gauge::default(),
            open_endpoint_connections: Gauge::default(),
            lease_lists: Family::default(),
            lease_watches: Family::default(),
        }
    }
}

impl KonnectivityMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("konnectivity_network_proxy_agent");
        registry.register_collector(Box::new(PacketCounts));
        registry.register(
            "dial_duration_seconds",
            "Time until a target was connected",
            self.dial_duration.clone(),
        );
        registry.register(
            "server_connection_failure_count",
            "Connections to proxy-servers that broke",
            self.server_failures.clone(),
        );
        registry.register(
            "endpoint_dial_failure",
            "Targets not connected, by reason",
            self.dial_failures.clone(),
        );
        registry.register(
            "open_server_connections",
            "Proxy-servers connected now",
            self.open_server_connections.clone(),
        );
        registry.register(
            "known_server_count",
            "Proxy-servers that there should be connections to",
            self.known_server_count.clone(),
        );
        registry.register(
            "open_endpoint_connections",
            "Connections to targets open now",
            self.open_endpoint_connections.clone(),
        );
        registry.register(
            "lease_lists",
            "Lists of the servers' Leases asked for, by the answer's code and reason",
            self.lease_lists.clone(),
        );
        registry.register(
            "lease_watches",
            "Watches of the servers' Leases that were refused, by the answer's code and reason",
            self.lease_watches.clone(),
        );
    }

    pub(crate) fn servers(&self, connected: usize, known: usize) {
        self.open_server_connections.set(gauge(connected));
        self.known_server_count.set(gauge(known));
    }

    pub(crate) fn server_lost(&self) {
        let direction = "from_server";
        self.server_failures
            .get_or_create_owned(&DirectionLabel { direction })
            .inc();
    }

    pub(crate) fn dialled(&self, took: Duration) {
        self.dial_duration.observe(took.as_secs_f64());
    }

    /// A target was not connected, for a `reason` of ours.
    pub(crate) fn not_dialled(&self, reason: &str) {
        let reason = match reason {
            "timed_out" => "timeout",
            _ => "unknown",
        };
        self.dial_failures
            .get_or_create_owned(&ReasonLabel { reason })
            .inc();
    }

    pub(crate) fn endpoints(&self) -> Gauge {
        self.open_endpoint_connections.clone()
    }

    /// A list of Leases was answered so.
    pub(crate) fn leases_listed(&self, http_response_code: u16, reason: String) {
        let label = CodeReasonLabel {
            http_response_code,
            reason,
        };
        self.lease_lists.get_or_create_owned(&label).inc();
    }

    /// A watch of Leases was refused so.
    pub(crate) fn leases_watched(&self, http_response_code: u16, reason: String) {
        let label = CodeReasonLabel {
            http_response_code,
            reason,
        };
        self.lease_watches.get_or_create_owned(&label).inc();
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Konnectivity's, in seconds.
const LATENCY_BUCKETS: [f64; 7] = [0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0];
