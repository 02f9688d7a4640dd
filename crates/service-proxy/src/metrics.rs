//! What a service-proxy counts.

use cluster_proxy_authentication::{IdTokenAnswer, Review};
use cluster_proxy_forward::server::ServerMetrics;
use cluster_proxy_forward::{CodeClass, PoolMetrics};
use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters of one service-proxy; clones share them.
#[derive(Debug, Clone, Default)]
pub struct ServiceProxyMetrics {
    /// Connections of clients.
    pub server: ServerMetrics,
    /// Connections to the kube-apiserver.
    pub apiserver: PoolMetrics,
    /// Connections to Services, of all of them together.
    pub services: PoolMetrics,
    /// Requests whose answer is not over yet.
    pub active: Gauge,
    requests: Family<RequestLabels, Counter>,
    reviews: Family<ReviewLabels, Counter>,
    id_tokens: Family<IdTokenLabels, Counter>,
}

impl ServiceProxyMetrics {
    /// Adds the counters to `registry`, each name beginning with `cluster_proxy_service_proxy_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cluster_proxy_service_proxy");
        self.server.register(registry);
        self.apiserver.register(registry);
        self.services
            .register(registry.sub_registry_with_prefix("services"));
        registry.register(
            "requests_active",
            "Requests being answered",
            self.active.clone(),
        );
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register(
            "token_reviews",
            "Bearer tokens looked up",
            self.reviews.clone(),
        );
        registry.register(
            "id_tokens",
            "Bearer tokens looked at as ID tokens of the OIDC issuer, and what became of them",
            self.id_tokens.clone(),
        );
    }

    pub(crate) fn answered(&self, status: StatusCode, identity: As) {
        let labels = RequestLabels {
            code: CodeClass::of(status),
            identity,
        };
        self.requests.get_or_create_owned(&labels).inc();
    }

    pub(crate) fn reviewed(&self, cluster: Asked, verdict: Verdict) {
        self.reviews
            .get_or_create_owned(&ReviewLabels { cluster, verdict })
            .inc();
    }
}

impl ServiceProxyMetrics {
    pub(crate) fn id_token(&self, answer: &IdTokenAnswer) {
        let (verdict, reason) = match answer {
            IdTokenAnswer::User(_) => (Verdict::Authenticated, "accepted"),
            IdTokenAnswer::NotOurs => (Verdict::Denied, "another-issuer"),
            IdTokenAnswer::Denied(denial) => (Verdict::Denied, denial.reason()),
            IdTokenAnswer::Failed(failure) => (Verdict::Failed, failure.reason()),
        };
        let labels = IdTokenLabels { verdict, reason };
        self.id_tokens.get_or_create_owned(&labels).inc();
    }
}

/// As whom a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum As {
    /// By us, as somebody else.
    Impersonated,
    /// With its own token.
    Token,
    /// To a Service, as it came.
    Client,
    /// Not sent.
    Nobody,
}

/// Which cluster was asked about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Asked {
    Managed,
    Hub,
}

/// What became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Verdict {
    Authenticated,
    Denied,
    Failed,
}

impl Verdict {
    pub(crate) const fn of(review: &Review) -> Self {
        match review {
            Review::Authenticated(_) => Self::Authenticated,
            Review::Denied => Self::Denied,
            Review::Failed(_) => Self::Failed,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: CodeClass,
    identity: As,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    cluster: Asked,
    verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IdTokenLabels {
    verdict: Verdict,
    /// One of a fixed list.
    reason: &'static str,
}
