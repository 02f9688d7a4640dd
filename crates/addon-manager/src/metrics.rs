//! What a manager counts.

use std::time::{Duration, SystemTime};

use cluster_proxy_tunnel::DialerMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Metrics of a manager; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: Family<ReconcileLabels, Counter>,
    duration: Family<ControllerLabel, Histogram>,
    watch_failures: Family<ControllerLabel, Counter>,
    leading: Gauge,
    certificate_expiry: Family<CertificateLabel, Gauge>,
    probes: Family<ProbeLabel, Counter>,
    round_trip: Histogram,
    reachable: Family<ClusterLabel, Gauge>,
    dialer: DialerMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    certificate: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabel {
    result: &'static str,
}

/// There are as many as the fleet has clusters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

impl ClusterLabel {
    fn of(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            watch_failures: Family::default(),
            leading: Gauge::default(),
            certificate_expiry: Family::default(),
            probes: Family::default(),
            round_trip: Histogram::new(ROUND_TRIP_BUCKETS),
            reachable: Family::default(),
            dialer: DialerMetrics::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to `registry`, each name beginning with `cluster_proxy_manager_`.
    /// Those of its connections to the proxy-server are named as every tunnel client's are.
    pub fn register(&self, registry: &mut Registry) {
        self.dialer.register(registry);
        let registry = registry.sub_registry_with_prefix("cluster_proxy_manager");
        registry.register(
            "reconciles",
            "Objects looked at, by controller and by what became of it",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "How long it takes to look at one object",
            self.duration.clone(),
        );
        registry.register(
            "watch_failures",
            "Watches that broke off and were begun again",
            self.watch_failures.clone(),
        );
        registry.register(
            "leading",
            "1 while this manager leads",
            self.leading.clone(),
        );
        registry.register(
            "certificate_expiry_seconds",
            "When a certificate expires, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
        registry.register(
            "tunnel_probes",
            "Requests through the tunnel to clusters, by what became of them",
            self.probes.clone(),
        );
        registry.register(
            "tunnel_round_trip_seconds",
            "How long a cluster's answer took through the tunnel",
            self.round_trip.clone(),
        );
        registry.register(
            "tunnel_reachable",
            "1 for a cluster that answered last, 0 for one that did not",
            self.reachable.clone(),
        );
    }

    /// Counters of the connections to the proxy-server.
    pub(crate) fn dialer(&self) -> DialerMetrics {
        self.dialer.clone()
    }

    /// Counts one request through the tunnel.
    pub(crate) fn probed(&self, result: &'static str, round_trip: Option<Duration>) {
        self.probes
            .get_or_create_owned(&ProbeLabel { result })
            .inc();
        if let Some(round_trip) = round_trip {
            self.round_trip.observe(round_trip.as_secs_f64());
        }
    }

    pub(crate) fn set_reachable(&self, cluster: &str, reachable: bool) {
        self.reachable
            .get_or_create_owned(&ClusterLabel::of(cluster))
            .set(i64::from(reachable));
    }

    pub(crate) fn no_longer_reachable(&self, cluster: &str) {
        self.reachable.remove(&ClusterLabel::of(cluster));
    }

    pub(crate) fn forget_reachable(&self) {
        self.reachable.clear();
    }

    /// Counts one object looked at. A failed one is tried again later.
    pub(crate) fn reconciled(&self, controller: &'static str, failed: bool, took: Duration) {
        let result = if failed { "error" } else { "ok" };
        let labels = ReconcileLabels { controller, result };
        self.reconciles.get_or_create_owned(&labels).inc();
        let label = ControllerLabel { controller };
        self.duration
            .get_or_create_owned(&label)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn watch_failed(&self, controller: &'static str) {
        let label = ControllerLabel { controller };
        self.watch_failures.get_or_create_owned(&label).inc();
    }

    pub(crate) fn set_leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }

    #[cfg(test)]
    pub(crate) fn is_leading(&self) -> bool {
        self.leading.get() == 1
    }

    /// How many objects were looked at, successfully.
    #[cfg(test)]
    pub(crate) fn reconciles(&self, controller: &'static str) -> u64 {
        let result = "ok";
        let labels = ReconcileLabels { controller, result };
        self.reconciles.get_or_create_owned(&labels).get()
    }

    /// What failed of a controller: objects and watches.
    #[cfg(test)]
    pub(crate) fn failures(&self, controller: &'static str) -> u64 {
        let result = "error";
        let labels = ReconcileLabels { controller, result };
        let label = ControllerLabel { controller };
        self.reconciles.get_or_create_owned(&labels).get()
            + self.watch_failures.get_or_create_owned(&label).get()
    }

    /// States when a certificate expires, under a name out of a fixed set.
    pub(crate) fn certificate_expires(&self, certificate: &'static str, at: SystemTime) {
        let seconds = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.certificate_expiry
            .get_or_create_owned(&CertificateLabel { certificate })
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}

/// From one request to a kube-apiserver up to a time-out of one.
const DURATION_BUCKETS: [f64; 7] = [0.01, 0.05, 0.2, 1.0, 5.0, 15.0, 60.0];

/// From one local network to the limit of a request.
const ROUND_TRIP_BUCKETS: [f64; 9] = [0.002, 0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 4.0, 12.0];
