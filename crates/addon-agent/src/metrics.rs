//! What an addon-agent counts.

use cluster_proxy_kube_client::calls::CallError;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::lease::LeaseError;

/// Metrics of an addon-agent; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    renewals: Family<ResultLabel, Counter>,
    renewed_at: Gauge,
    forwards: Family<ResultLabel, Counter>,
    active: Gauge,
    bytes: Family<DirectionLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "cluster_proxy_addon_agent_lease_renewals",
            "Renewals of the addon's Lease, by result",
            self.renewals.clone(),
        );
        registry.register(
            "cluster_proxy_addon_agent_lease_renewed_timestamp_seconds",
            "When the addon's Lease was renewed last, in seconds since 1970",
            self.renewed_at.clone(),
        );
        registry.register(
            "cluster_proxy_addon_agent_port_forwards",
            "Connections taken for the hub's proxy-servers, by how they ended",
            self.forwards.clone(),
        );
        registry.register(
            "cluster_proxy_addon_agent_active_port_forwards",
            "Connections carried to proxy-servers now",
            self.active.clone(),
        );
        registry.register(
            "cluster_proxy_addon_agent_port_forward_bytes",
            "Bytes carried, by direction",
            self.bytes.clone(),
        );
    }

    /// Counts a renewal, or why there was none.
    pub(crate) fn renewal(&self, error: Option<&LeaseError>) {
        let result = match error {
            None => "renewed",
            Some(LeaseError::NotReady { .. }) => "not_ready",
            Some(LeaseError::Call(CallError::Failed { .. })) => "failed",
            Some(LeaseError::Call(CallError::TimedOut { .. })) => "timed_out",
        };
        self.renewals
            .get_or_create_owned(&ResultLabel { result })
            .inc();
        if error.is_none() {
            self.renewed_at.set(Timestamp::now().as_second());
        }
    }

    /// Counts a connection by how it ended.
    pub(crate) fn forward(&self, result: &'static str) {
        self.forwards
            .get_or_create_owned(&ResultLabel { result })
            .inc();
    }

    /// Counts a carried connection until the result is dropped.
    pub(crate) fn active(&self) -> ActiveForward {
        self.active.inc();
        ActiveForward(self.active.clone())
    }

    pub(crate) fn bytes_to_pod(&self) -> Counter {
        self.direction("to_server")
    }

    pub(crate) fn bytes_from_pod(&self) -> Counter {
        self.direction("to_agent")
    }

    fn direction(&self, direction: &'static str) -> Counter {
        self.bytes
            .get_or_create_owned(&DirectionLabel { direction })
    }
}

/// One carried connection.
#[derive(Debug)]
pub(crate) struct ActiveForward(Gauge);

impl Drop for ActiveForward {
    fn drop(&mut self) {
        self.0.dec();
    }
}
