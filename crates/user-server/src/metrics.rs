//! What a user-server counts.

use cluster_proxy_forward::PoolMetrics;
use cluster_proxy_forward::server::ServerMetrics;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of a user-server; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// Connections of users.
    pub(crate) server: ServerMetrics,
    /// Connections to service-proxies, of all clusters together.
    pub(crate) service_proxies: PoolMetrics,
    requests: Family<CodeLabel, Counter>,
    active: Gauge,
    authentications: Family<ResultLabel, Counter>,
    services_refused: Family<ReasonLabel, Counter>,
    unauthorized: Family<ReasonLabel, Counter>,
    limited: Family<LimitLabel, Counter>,
    exposed_services_valid: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

impl Metrics {
    /// Adds the metrics to `registry`, each name beginning with `cluster_proxy_user_server_`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cluster_proxy_user_server");
        self.server.register(registry);
        self.service_proxies.register(registry);
        registry.register(
            "requests",
            "Requests answered, by class of code",
            self.requests.clone(),
        );
        registry.register(
            "requests_active",
            "Requests whose answer is not over yet",
            self.active.clone(),
        );
        registry.register(
            "authentications",
            "Requests by what became of their bearer token on the hub",
            self.authentications.clone(),
        );
        registry.register(
            "services_refused",
            "Requests for Services that may not be reached, by reason",
            self.services_refused.clone(),
        );
        registry.register(
            "authorizations_refused",
            "Requests for clusters that the hub did not let the user use, by reason",
            self.unauthorized.clone(),
        );
        registry.register(
            "requests_limited",
            "Requests refused because a user or a cluster had reached a limit, by limit",
            self.limited.clone(),
        );
        registry.register(
            "exposed_services_valid",
            "Whether the newest list of exposed Services could be read (1) or not (0)",
            self.exposed_services_valid.clone(),
        );
    }

    /// Counts an answer; `None` is a client that did not wait for it.
    pub(crate) fn answered(&self, code: Option<StatusCode>) {
        let code = match code.map(|code| code.as_u16()) {
            None => "none",
            Some(..200) => "1xx",
            Some(200..300) => "2xx",
            Some(300..400) => "3xx",
            Some(400..500) => "4xx",
            Some(500..) => "5xx",
        };
        self.requests.get_or_create_owned(&CodeLabel { code }).inc();
    }

    pub(crate) fn authenticated(&self, result: &'static str) {
        self.authentications
            .get_or_create_owned(&ResultLabel { result })
            .inc();
    }

    /// Counts a request for a Service that is refused.
    pub(crate) fn service_refused(&self, reason: &'static str) {
        self.services_refused
            .get_or_create_owned(&ReasonLabel { reason })
            .inc();
    }

    /// Counts a request for a cluster that the user may not use.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.unauthorized
            .get_or_create_owned(&ReasonLabel { reason })
            .inc();
    }

    /// Counts a request that would exceed a limit.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.limited
            .get_or_create_owned(&LimitLabel { limit })
            .inc();
    }

    /// Says whether the newest list of exposed Services could be read.
    pub(crate) fn exposed_services_valid(&self, valid: bool) {
        self.exposed_services_valid.set(i64::from(valid));
    }

    /// Counts a request as active until the result is dropped.
    pub(crate) fn active(&self) -> Active {
        self.active.inc();
        Active(self.active.clone())
    }
}

/// One request whose answer is not over.
#[derive(Debug)]
pub(crate) struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}
