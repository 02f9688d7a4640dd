//! One event per request, under the target `access`, and the request's counters.

use std::time::Instant;

use cluster_proxy_forward::{End, Report};
use cluster_proxy_identity::ServiceTarget;
use http::{Method, StatusCode, Uri};
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{As, ServiceProxyMetrics};

/// What is known of a request while it is answered. Whatever ends it, it is counted and told.
#[derive(Debug)]
pub(crate) struct Access {
    id: String,
    method: Method,
    /// Without the query, which may hold what somebody typed.
    path: String,
    begun: Instant,
    user: Option<String>,
    service: Option<String>,
    identity: As,
    status: Option<StatusCode>,
    bytes: u64,
    end: Option<End>,
    metrics: ServiceProxyMetrics,
    _active: Active,
}

impl Access {
    pub(crate) fn new(
        id: String,
        method: &Method,
        uri: &Uri,
        metrics: &ServiceProxyMetrics,
    ) -> Self {
        Self {
            id,
            method: method.clone(),
            path: uri.path().to_owned(),
            begun: Instant::now(),
            user: None,
            service: None,
            identity: As::Nobody,
            status: None,
            bytes: 0,
            end: None,
            metrics: metrics.clone(),
            _active: Active::new(metrics.active.clone()),
        }
    }

    /// The request is sent as `user`, or with its own token.
    pub(crate) fn sent_as(&mut self, user: Option<&str>) {
        self.identity = if user.is_some() {
            As::Impersonated
        } else {
            As::Token
        };
        self.user = user.map(str::to_owned);
    }

    /// The request is sent to this Service.
    pub(crate) fn sent_to_service(&mut self, service: &ServiceTarget) {
        self.identity = As::Client;
        self.service = Some(service.to_string());
    }

    pub(crate) const fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Report for Access {
    fn finished(mut self, bytes: u64, end: End) {
        self.bytes = bytes;
        self.end = Some(end);
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        // Without a status the client went away before there was an answer.
        if let Some(status) = self.status {
            self.metrics.answered(status, self.identity);
        }
        tracing::info!(
            target: "access",
            request_id = self.id,
            user = self.user,
            service = self.service,
            method = self.method.as_str(),
            path = self.path,
            code = self.status.map(|status| status.as_u16()),
            bytes_to_client = self.bytes,
            milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            end = self.end.unwrap_or(End::Abandoned).as_str(),
            "request"
        );
    }
}

/// Counts a request while it is answered.
#[derive(Debug)]
struct Active(Gauge);

impl Active {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}
