//! With which identity a request leaves.

use std::sync::Arc;

use cluster_proxy_authentication::{CachedReviewer, Review, ReviewError, TokenReviewer};
use cluster_proxy_identity::{Token, User};
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::error::with_sources;
use http::HeaderMap;

use crate::config::{Config, Impersonation};
use crate::impersonation::{Impersonated, Refusal};
use crate::metrics::{Asked, ServiceProxyMetrics, Verdict};
use crate::reply::Refused;

/// Finds out who sent a request.
#[derive(Debug)]
pub(crate) struct Authenticator {
    managed: CachedReviewer,
    hub: Option<CachedReviewer>,
    bounds: Impersonation,
    metrics: ServiceProxyMetrics,
}

/// As whom a request is sent.
#[derive(Debug)]
pub(crate) enum Identity {
    /// As this user, by us.
    Impersonated(Impersonated),
    /// As whoever its own token says, in this cluster's eyes.
    Token,
}

impl Authenticator {
    pub(crate) fn new(config: &Config, metrics: ServiceProxyMetrics) -> Self {
        let reviewer = |connection: &Connection| {
            CachedReviewer::new(
                TokenReviewer::new(connection.client()),
                config.review_cache_ttl,
            )
        };
        Self {
            managed: reviewer(&config.managed),
            hub: config.hub.as_ref().map(reviewer),
            bounds: config.impersonation.clone(),
            metrics,
        }
    }

    /// The identity of a request whose user the user-server states.
    pub(crate) fn of_stated_user(&self, user: &User) -> Result<Identity, Refused> {
        self.impersonate(user)
    }

    /// The identity of a request that comes with nothing but its own headers.
    ///
    /// A review that failed ends the request: it is never read as a "no", after which the token
    /// would be shown to somebody else.
    pub(crate) async fn of_token(
        &self,
        headers: &HeaderMap,
        impersonates: bool,
    ) -> Result<Identity, Refused> {
        let token = match Token::from_headers(headers) {
            Ok(Some(token)) => token,
            Ok(None) => return Err(StatusReply::token_missing().into()),
            Err(error) => return Err(StatusReply::unauthorized(error.to_string()).into()),
        };
        // The kube-apiserver decides about those who impersonate; and with impersonation switched
        // off there is nothing that a review could change.
        if impersonates || !self.bounds.enabled {
            return Ok(Identity::Token);
        }
        let managed = self.review(Asked::Managed, &self.managed, &token).await?;
        if managed.is_some() {
            return Ok(Identity::Token);
        }
        if let Some(hub) = &self.hub
            && let Some(user) = self.review(Asked::Hub, hub, &token).await?
        {
            return self.impersonate(&user);
        }
        Err(StatusReply::token_not_accepted().into())
    }

    fn impersonate(&self, user: &User) -> Result<Identity, Refused> {
        Impersonated::map(user, &self.bounds)
            .map(Identity::Impersonated)
            .map_err(|refusal| {
                tracing::info!(user = user.name, %refusal, "a hub user is not impersonated");
                refused(&refusal).into()
            })
    }

    async fn review(
        &self,
        asked: Asked,
        reviewer: &CachedReviewer,
        token: &Token,
    ) -> Result<Option<Arc<User>>, Refused> {
        let review = reviewer.review(token).await;
        self.metrics.reviewed(asked, Verdict::of(&review));
        match review {
            Review::Authenticated(user) => Ok(Some(user)),
            Review::Denied => Ok(None),
            Review::Failed(error) => Err(failed(asked, &error).into()),
        }
    }
}

/// The answer to a request whose user may not be impersonated.
pub(crate) fn refused(refusal: &Refusal) -> StatusReply {
    match refusal {
        Refusal::Unspeakable { .. } => StatusReply::bad_request(refusal.to_string()),
        Refusal::SwitchedOff
        | Refusal::ReservedUser { .. }
        | Refusal::ReservedGroup { .. }
        | Refusal::Extra { .. } => StatusReply::forbidden(refusal.to_string()),
    }
}

fn failed(asked: Asked, error: &ReviewError) -> StatusReply {
    let cluster = match asked {
        Asked::Managed => "the managed cluster",
        Asked::Hub => "the hub",
    };
    tracing::warn!(
        cluster,
        reason = error.reason(),
        cause = %with_sources(error),
        "a token could not be reviewed"
    );
    StatusReply::service_unavailable(
        format!("the service-proxy could not have the bearer token reviewed by {cluster}"),
        Some(RETRY_AFTER_SECONDS),
    )
}

/// A kube-apiserver that restarts is back in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;
