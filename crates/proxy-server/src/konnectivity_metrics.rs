//! The metrics of konnectivity's proxy-server, by its names (`pkg/server/metrics` of
//! apiserver-network-proxy v0.36), so that dashboards and alerts made for it go on working. They
//! count lanes and konnectivity alike. Those without a true value here are listed in
//! docs/konnectivity.md.

use std::time::Duration;

use cluster_proxy_runtime::metrics_text::PlainCounter;
use cluster_proxy_tunnel::konnectivity::PacketCounts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::config::ProxyStrategy;
use crate::lease_metrics::LeaseMetrics;
use crate::metrics::ReasonLabel;

/// Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct KonnectivityMetrics {
    dial_duration: Histogram,
    grpc_connections: Family<MethodLabel, Gauge>,
    http_connections: Gauge,
    ready_backend_connections: Gauge,
    ready_backends: Family<StrategyLabel, Gauge>,
    pending_backend_dials: Gauge,
    established_connections: Gauge,
    dial_failures: Family<ReasonLabel, PlainCounter>,
    pub(crate) leases: LeaseMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    service_method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StrategyLabel {
    proxy_strategy: &'static str,
}

impl Default for KonnectivityMetrics {
    fn default() -> Self {
        Self {
            dial_duration: Histogram::new(LATENCY_BUCKETS),
            grpc_connections: Family::default(),
            http_connections: Gauge::default(),
            ready_backend_connections: Gauge::default(),
            ready_backends: Family::default(),
            pending_backend_dials: Gauge::default(),
            established_connections: Gauge::default(),
            dial_failures: Family::default(),
            leases: LeaseMetrics::default(),
        }
    }
}

impl KonnectivityMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("konnectivity_network_proxy_server");
        registry.register_collector(Box::new(PacketCounts));
        registry.register(
            "dial_duration_seconds",
            "Time until an agent has connected a target",
            self.dial_duration.clone(),
        );
        registry.register(
            "grpc_connections",
            "gRPC streams open now: of agents (Connect) and of clients (Proxy)",
            self.grpc_connections.clone(),
        );
        registry.register(
            "http_connections",
            "CONNECT requests open now, over HTTP/1.1 and HTTP/2",
            self.http_connections.clone(),
        );
        registry.register(
            "ready_backend_connections",
            "Agents connected, by their ids",
            self.ready_backend_connections.clone(),
        );
        registry.register(
            "ready_backends",
            "What each of --proxy-strategies chooses from: agents, or for destHost the names they are found under",
            self.ready_backends.clone(),
        );
        registry.register(
            "pending_backend_dials",
            "Targets being dialled now",
            self.pending_backend_dials.clone(),
        );
        registry.register(
            "established_connections",
            "Tunnelled connections open now",
            self.established_connections.clone(),
        );
        registry.register(
            "dial_failure_count",
            "Targets not connected, by reason",
            self.dial_failures.clone(),
        );
        self.leases.register(registry);
    }

    /// How many agents there are, by id, and konnectivity streams of theirs.
    pub(crate) fn connected(&self, agents: usize, streams: usize) {
        self.ready_backend_connections.set(gauge(agents));
        self.grpc("Connect").set(gauge(streams));
    }

    /// How many a strategy chooses from.
    pub(crate) fn backends(&self, strategy: ProxyStrategy, count: usize) {
        let label = StrategyLabel {
            proxy_strategy: strategy.name(),
        };
        self.ready_backends
            .get_or_create_owned(&label)
            .set(gauge(count));
    }

    /// The gauge of requests of this kind: konnectivity's gRPC, or CONNECT.
    pub(crate) fn requests(&self, is_grpc: bool) -> Gauge {
        if is_grpc {
            self.grpc("Proxy")
        } else {
            self.http_connections.clone()
        }
    }

    pub(crate) fn pending_dials(&self) -> Gauge {
        self.pending_backend_dials.clone()
    }

    pub(crate) fn established(&self) -> Gauge {
        self.established_connections.clone()
    }

    pub(crate) fn dialled(&self, took: Duration) {
        self.dial_duration.observe(took.as_secs_f64());
    }

    /// A target was not connected, for a `reason` of ours.
    pub(crate) fn not_dialled(&self, reason: &str) {
        let reason = match reason {
            "no_agent" => "no_agent",
            "abandoned" => "frontend_close",
            "timed_out" => "backend_dial_timeout",
            "agent_lost" | "overloaded" => "backend_close",
            _ => "error_response",
        };
        self.dial_failures
            .get_or_create_owned(&ReasonLabel { reason })
            .inc();
    }

    fn grpc(&self, service_method: &'static str) -> Gauge {
        self.grpc_connections
            .get_or_create_owned(&MethodLabel { service_method })
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Konnectivity's, in seconds.
const LATENCY_BUCKETS: [f64; 9] = [
    0.000_001, 0.000_01, 0.000_1, 0.005, 0.025, 0.1, 0.5, 2.5, 12.5,
];
