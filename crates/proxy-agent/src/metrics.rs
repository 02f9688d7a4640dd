//! What a proxy-agent counts.

use cluster_proxy_tunnel::relay::Moved;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::konnectivity_metrics::KonnectivityMetrics;

/// Metrics of a proxy-agent; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    lanes: Gauge,
    connects: Family<ResultLabel, Counter>,
    dials: Family<ResultLabel, Counter>,
    active: Gauge,
    bytes: Family<DirectionLabel, Counter>,
    pub(crate) konnectivity: KonnectivityMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Which way it goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DirectionLabel {
    pub(crate) direction: &'static str,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.konnectivity.register(registry);
        registry.register(
            "cluster_proxy_agent_lanes",
            "Open lanes to proxy-servers",
            self.lanes.clone(),
        );
        registry.register(
            "cluster_proxy_agent_connects",
            "Attempts to connect to a proxy-server, by result",
            self.connects.clone(),
        );
        registry.register(
            "cluster_proxy_agent_dials",
            "Targets dialled, by result",
            self.dials.clone(),
        );
        registry.register(
            "cluster_proxy_agent_active_tunnels",
            "Tunnelled connections open now",
            self.active.clone(),
        );
        registry.register(
            "cluster_proxy_agent_tunnelled_bytes",
            "Bytes of tunnelled connections, open ones included, by direction",
            self.bytes.clone(),
        );
    }

    pub(crate) fn lanes(&self, lanes: usize) {
        self.lanes.set(i64::try_from(lanes).unwrap_or(i64::MAX));
    }

    pub(crate) fn connect(&self, result: &'static str) {
        self.connects
            .get_or_create_owned(&ResultLabel { result })
            .inc();
    }

    pub(crate) fn dial(&self, result: &'static str) {
        self.dials
            .get_or_create_owned(&ResultLabel { result })
            .inc();
    }

    /// Counts an open tunnelled connection until the result is dropped.
    pub(crate) fn active(&self) -> ActiveTunnel {
        let gauges = [self.active.clone(), self.konnectivity.endpoints()];
        for gauge in &gauges {
            gauge.inc();
        }
        ActiveTunnel(gauges)
    }

    /// Counts the bytes of one tunnelled connection as they move.
    pub(crate) fn meter(&self) -> Meter {
        let counter = |direction| {
            self.bytes
                .get_or_create_owned(&DirectionLabel { direction })
        };
        Meter {
            to_target: counter("to_target"),
            to_client: counter("to_client"),
            counted: Moved::default(),
        }
    }
}

/// See [`Metrics::meter`].
#[derive(Debug)]
pub(crate) struct Meter {
    to_target: Counter,
    to_client: Counter,
    counted: Moved,
}

impl Meter {
    /// The connection has moved so much in all.
    pub(crate) fn note(&mut self, moved: Moved) {
        if moved != self.counted {
            self.to_target.inc_by(moved.to_far - self.counted.to_far);
            self.to_client.inc_by(moved.to_near - self.counted.to_near);
            self.counted = moved;
        }
    }
}

/// One open tunnelled connection.
#[derive(Debug)]
pub(crate) struct ActiveTunnel([Gauge; 2]);

impl Drop for ActiveTunnel {
    fn drop(&mut self) {
        for gauge in &self.0 {
            gauge.dec();
        }
    }
}
