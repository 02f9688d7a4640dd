//! What a proxy-server counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::konnectivity_metrics::KonnectivityMetrics;

/// Metrics of a proxy-server; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    agents: Gauge,
    lanes: Gauge,
    konnectivity_streams: Gauge,
    stalled: Counter,
    tunnels: Family<ResultLabel, Counter>,
    active: Gauge,
    bytes: Family<DirectionLabel, Counter>,
    pub(crate) announcements_dropped: Counter,
    pub(crate) agents_refused: Counter,
    tokens_refused: Family<ReasonLabel, Counter>,
    pub(crate) handshakes_failed: Family<PortLabel, Counter>,
    pub(crate) konnectivity: KonnectivityMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// Why it came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// The listener something happened at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PortLabel {
    pub(crate) port: &'static str,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.konnectivity.register(registry);
        registry.register(
            "cluster_proxy_server_connected_agents",
            "Agents connected, each once however many lanes it has",
            self.agents.clone(),
        );
        registry.register(
            "cluster_proxy_server_lanes",
            "Open lanes of agents",
            self.lanes.clone(),
        );
        registry.register(
            "cluster_proxy_server_konnectivity_streams",
            "Open streams of agents that speak konnectivity",
            self.konnectivity_streams.clone(),
        );
        registry.register(
            "cluster_proxy_server_konnectivity_stalled",
            "Connections through konnectivity agents that were cut, since their users took nothing and the agent's others waited",
            self.stalled.clone(),
        );
        registry.register(
            "cluster_proxy_server_tunnels",
            "Tunnelled connections asked for, by result",
            self.tunnels.clone(),
        );
        registry.register(
            "cluster_proxy_server_active_tunnels",
            "Tunnelled connections open now",
            self.active.clone(),
        );
        registry.register(
            "cluster_proxy_server_tunnelled_bytes",
            "Bytes of tunnelled connections, open ones included, by direction",
            self.bytes.clone(),
        );
        registry.register(
            "cluster_proxy_server_announcements_dropped",
            "Identifiers that agents announced and that are not theirs",
            self.announcements_dropped.clone(),
        );
        registry.register(
            "cluster_proxy_server_agents_refused",
            "Connections of agents refused for what their certificate does not prove",
            self.agents_refused.clone(),
        );
        registry.register(
            "cluster_proxy_server_agent_tokens_refused",
            "Connections of agents refused for their service account's token, by reason; not_reviewed is no word about the token",
            self.tokens_refused.clone(),
        );
        registry.register(
            "cluster_proxy_server_handshakes_failed",
            "Connections that did not get through TLS, by port",
            self.handshakes_failed.clone(),
        );
    }

    pub(crate) fn connected(&self, agents: usize, lanes: usize, konnectivity_streams: usize) {
        for (gauge, count) in [
            (&self.agents, agents),
            (&self.lanes, lanes),
            (&self.konnectivity_streams, konnectivity_streams),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.konnectivity.connected(agents, konnectivity_streams);
    }

    pub(crate) fn token_refused(&self, reason: &'static str) {
        self.tokens_refused
            .get_or_create_owned(&ReasonLabel { reason })
            .inc();
    }

    pub(crate) fn stalled(&self, connections: u64) {
        self.stalled.inc_by(connections);
    }

    /// Counts a request that waits for its target until the result is dropped.
    pub(crate) fn pending_dial(&self) -> Counted {
        Counted::new(self.konnectivity.pending_dials())
    }

    /// Counts a request of this kind until the result is dropped.
    pub(crate) fn request(&self, is_grpc: bool) -> Counted {
        Counted::new(self.konnectivity.requests(is_grpc))
    }

    /// Counts a target that took so long to be connected.
    pub(crate) fn dialled(&self, took: Duration) {
        self.konnectivity.dialled(took);
        self.tunnel("opened");
    }

    /// Counts a target that was not connected, or whose client did not wait.
    pub(crate) fn not_dialled(&self, reason: &'static str) {
        self.konnectivity.not_dialled(reason);
        self.tunnel(reason);
    }

    fn tunnel(&self, result: &'static str) {
        self.tunnels
            .get_or_create_owned(&ResultLabel { result })
            .inc();
    }

    /// Counts an open tunnelled connection until the result is dropped.
    pub(crate) fn active(&self) -> (Counted, Counted) {
        let established = self.konnectivity.established();
        (Counted::new(self.active.clone()), Counted::new(established))
    }

    /// What the bytes of tunnelled connections are counted in.
    pub(crate) fn byte_counters(&self) -> ByteCounters {
        let counter = |direction| {
            self.bytes
                .get_or_create_owned(&DirectionLabel { direction })
        };
        ByteCounters {
            to_target: counter("to_target"),
            to_client: counter("to_client"),
        }
    }
}

/// One counter for each direction.
#[derive(Debug)]
pub(crate) struct ByteCounters {
    pub(crate) to_target: Counter,
    pub(crate) to_client: Counter,
}

/// One of what a gauge counts.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
