//! The metrics of konnectivity's lease controller, by its names.

use std::time::Duration;

use cluster_proxy_runtime::metrics_text::PlainCounter;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct LeaseMetrics {
    culled: PlainCounter,
    deletes: Family<CodeReasonLabel, Counter>,
    delete_latency: Family<CodeLabel, Histogram, LatencyBuckets>,
    lists: Family<CodeReasonLabel, Counter>,
    list_latency: Family<CodeLabel, Histogram, LatencyBuckets>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeReasonLabel {
    http_status_code: u16,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    http_status_code: u16,
}

/// Makes histograms with [`LATENCY_BUCKETS`].
#[derive(Debug, Clone)]
struct LatencyBuckets;

impl MetricConstructor<Histogram> for LatencyBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BUCKETS)
    }
}

impl Default for LeaseMetrics {
    fn default() -> Self {
        Self {
            culled: PlainCounter::default(),
            deletes: Family::default(),
            delete_latency: Family::new_with_constructor(LatencyBuckets),
            lists: Family::default(),
            list_latency: Family::new_with_constructor(LatencyBuckets),
        }
    }
}

impl LeaseMetrics {
    /// Under konnectivity's prefix, which `registry` has.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "culled_leases_count",
            "Leases of servers that were gone, deleted",
            self.culled.clone(),
        );
        registry.register(
            "lease_delete",
            "Leases of servers asked to be deleted, by the answer's code and reason",
            self.deletes.clone(),
        );
        registry.register(
            "lease_delete_latency_seconds",
            "Time of those deletions, by the answer's code",
            self.delete_latency.clone(),
        );
        registry.register(
            "lease_list",
            "Lists of the servers' Leases asked for, by the answer's code and reason",
            self.lists.clone(),
        );
        registry.register(
            "lease_list_latency_seconds",
            "Time of those lists, by the answer's code",
            self.list_latency.clone(),
        );
    }

    /// A list was answered so, after so long. Without an answer there is nothing to count.
    pub(crate) fn listed(&self, answer: Option<(u16, String)>, took: Duration) {
        note(&self.lists, &self.list_latency, answer, took);
    }

    /// A deletion was answered so.
    pub(crate) fn deleted(&self, answer: Option<(u16, String)>, took: Duration) {
        if answer.as_ref().is_some_and(|(code, _)| *code == 200) {
            self.culled.inc();
        }
        note(&self.deletes, &self.delete_latency, answer, took);
    }
}

fn note(
    calls: &Family<CodeReasonLabel, Counter>,
    latency: &Family<CodeLabel, Histogram, LatencyBuckets>,
    answer: Option<(u16, String)>,
    took: Duration,
) {
    let Some((http_status_code, reason)) = answer else {
        return;
    };
    let label = CodeReasonLabel {
        http_status_code,
        reason,
    };
    calls.get_or_create_owned(&label).inc();
    latency
        .get_or_create_owned(&CodeLabel { http_status_code })
        .observe(took.as_secs_f64());
}

/// Those of Prometheus' Go client, in seconds.
const LATENCY_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
