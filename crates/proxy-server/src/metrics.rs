//! What a proxy-server counts.

use std::sync::atomic::AtomicU64;

use cluster_proxy_tunnel::relay::Moved;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of a proxy-server; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    agents: Gauge,
    lanes: Gauge,
    konnectivity_streams: Gauge,
    stalled: Counter,
    tunnels: Family<ResultLabel, Counter>,
    active: Gauge,
    bytes: Family<DirectionLabel, Counter<u64, AtomicU64>>,
    pub(crate) announcements_dropped: Counter,
    pub(crate) agents_refused: Counter,
    pub(crate) handshakes_failed: Family<PortLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// The listener something happened at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PortLabel {
    pub(crate) port: &'static str,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
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
            "Bytes of ended tunnelled connections, by direction",
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
    }

    pub(crate) fn stalled(&self, connections: u64) {
        self.stalled.inc_by(connections);
    }

    /// Counts a tunnelled connection asked for: `opened`, or the reason why not.
    pub(crate) fn tunnel(&self, result: &'static str) {
        self.tunnels
            .get_or_create_owned(&ResultLabel { result })
            .inc();
    }

    /// Counts an open tunnelled connection until the result is dropped.
    pub(crate) fn active(&self) -> ActiveTunnel {
        self.active.inc();
        ActiveTunnel(self.active.clone())
    }

    pub(crate) fn moved(&self, moved: Moved) {
        for (direction, bytes) in [("to_target", moved.to_far), ("to_client", moved.to_near)] {
            self.bytes
                .get_or_create_owned(&DirectionLabel { direction })
                .inc_by(bytes);
        }
    }
}

/// One open tunnelled connection.
#[derive(Debug)]
pub(crate) struct ActiveTunnel(Gauge);

impl Drop for ActiveTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}
