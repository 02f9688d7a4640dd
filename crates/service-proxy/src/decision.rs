//! With which identity a request leaves.

use std::sync::Arc;

use cluster_proxy_authentication::{
    AccessReviewer, CachedReviewer, Denial, IdTokenAnswer, Oidc, OidcFailure, OidcTrust, Review,
    ReviewError, TokenReviewer,
};
use cluster_proxy_identity::{Token, User};
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::error::with_sources;
use http::HeaderMap;
use tokio::sync::watch;

use crate::acting_as::{self, ActingError};
use crate::config::{Config, Impersonation, OidcCa, OidcConfig};
use crate::impersonation::{Impersonated, Refusal};
use crate::metrics::{Asked, ServiceProxyMetrics, Verdict};
use crate::oidc_ca_config_map::OidcCaConfigMap;
use crate::reply::Refused;

/// Finds out who sent a request.
#[derive(Debug)]
pub(crate) struct Authenticator {
    managed: CachedReviewer,
    hub: Option<CachedReviewer>,
    oidc: Option<Oidc>,
    bounds: Impersonation,
    access: AccessReviewer,
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
    /// What works in the background for it ends with `drain`.
    pub(crate) fn new(config: &Config, metrics: ServiceProxyMetrics, drain: &Drain) -> Self {
        let reviewer = |connection: &Connection| {
            CachedReviewer::new(
                TokenReviewer::new(connection.client()),
                config.review_cache_ttl,
            )
        };
        Self {
            managed: reviewer(&config.managed),
            hub: config.hub.as_ref().map(reviewer),
            oidc: config
                .oidc
                .as_ref()
                .map(|oidc| start_oidc(oidc, config, drain)),
            bounds: config.impersonation.clone(),
            access: AccessReviewer::new(config.managed.client(), config.review_cache_ttl),
            metrics,
        }
    }

    /// The identity of a request whose user the user-server states.
    pub(crate) fn of_stated_user(&self, user: &User) -> Result<Identity, Refused> {
        self.impersonate(user)
    }

    /// The identity of a request whose user the user-server states, and who wants to act as the
    /// one that the headers name.
    pub(crate) async fn of_acting_user(
        &self,
        user: &User,
        headers: &HeaderMap,
    ) -> Result<Identity, Refused> {
        let refuse = |refusal: Refusal| -> Refused {
            tracing::info!(user = user.name, %refusal, "a hub user does not act as another");
            refused(&refusal).into()
        };
        let acting = Impersonated::map(user, &self.bounds)
            .map_err(refuse)?
            .as_seen();
        let wanted = acting_as::wanted(headers).map_err(|error| may_not_act(&acting, &error))?;
        let identity = Impersonated::wanted(&wanted, &self.bounds).map_err(refuse)?;
        acting_as::authorize(&self.access, &acting, &wanted)
            .await
            .map_err(|error| may_not_act(&acting, &error))?;
        tracing::info!(
            user = acting.name,
            wanted = wanted.name,
            "a hub user acts as another"
        );
        Ok(Identity::Impersonated(identity))
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
        // The kube-apiserver decides about those who impersonate; and where nobody is impersonated
        // there is nothing that a review could change.
        let reviews = self.bounds.enabled || self.oidc.is_some();
        if impersonates || !reviews {
            return Ok(Identity::Token);
        }
        let managed = self.review(Asked::Managed, &self.managed, &token).await?;
        if managed.is_some() {
            return Ok(Identity::Token);
        }
        if let Some(hub) = self.hub.as_ref().filter(|_| self.bounds.enabled)
            && let Some(user) = self.review(Asked::Hub, hub, &token).await?
        {
            return self.impersonate(&user);
        }
        match &self.oidc {
            Some(oidc) => self.of_id_token(oidc, &token).await,
            None => Err(StatusReply::token_not_accepted().into()),
        }
    }

    /// The identity that the OIDC issuer states. Why a token is not accepted is told to nobody
    /// but the log: whose token it is, is not known then.
    async fn of_id_token(&self, oidc: &Oidc, token: &Token) -> Result<Identity, Refused> {
        let answer = oidc.authenticate(token).await;
        self.metrics.id_token(&answer);
        match answer {
            IdTokenAnswer::User(user) => Impersonated::of_id_token(&user, &self.bounds)
                .map(Identity::Impersonated)
                .map_err(|refusal| {
                    tracing::info!(user = user.name, %refusal, "an ID token is refused");
                    refused(&refusal).into()
                }),
            IdTokenAnswer::NotOurs => Err(StatusReply::token_not_accepted().into()),
            IdTokenAnswer::Denied(Denial::ReservedName { name }) => {
                let refusal = Refusal::ReservedByOidc { name };
                tracing::info!(%refusal, "an ID token is refused");
                Err(refused(&refusal).into())
            }
            IdTokenAnswer::Denied(denial) => {
                tracing::info!(reason = denial.reason(), %denial, "an ID token is not accepted");
                Err(StatusReply::token_not_accepted().into())
            }
            IdTokenAnswer::Failed(failure) => Err(id_token_failed(oidc, &failure).into()),
        }
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
        | Refusal::ReservedByOidc { .. }
        | Refusal::ReservedGroup { .. }
        | Refusal::ReservedForNobody { .. }
        | Refusal::BeyondUs { .. }
        | Refusal::Extra { .. } => StatusReply::forbidden(refusal.to_string()),
    }
}

fn may_not_act(user: &User, error: &ActingError) -> Refused {
    let cause = with_sources(error);
    tracing::info!(user = user.name, %cause, "a hub user does not act as another");
    match error {
        ActingError::Unreadable { .. } | ActingError::TooMuch | ActingError::Denied { .. } => {
            StatusReply::forbidden(error.to_string()).into()
        }
        ActingError::Failed { source } => StatusReply::service_unavailable(
            format!("{error} ({})", source.reason()),
            Some(RETRY_AFTER_SECONDS),
        )
        .into(),
    }
}

fn start_oidc(oidc: &OidcConfig, config: &Config, drain: &Drain) -> Oidc {
    let mut trust = match &oidc.ca {
        OidcCa::Roots(tls) => watch::channel(OidcTrust::Roots(tls.clone())).1,
        OidcCa::ConfigMap(name) => {
            let (map, trust) = OidcCaConfigMap::new(name.clone());
            drain.spawn_until_ended(map.keep_fresh(config.managed.clone()));
            trust
        }
    };
    let authenticator = Oidc::new(oidc.settings.clone(), config.review_cache_ttl, &mut trust);
    drain.spawn_until_ended(authenticator.clone().run(trust));
    authenticator
}

fn id_token_failed(oidc: &Oidc, failure: &OidcFailure) -> StatusReply {
    tracing::warn!(
        issuer = oidc.issuer(),
        reason = failure.reason(),
        cause = %with_sources(failure),
        "an ID token could not be verified"
    );
    StatusReply::service_unavailable(
        "the service-proxy could not verify the ID token: it lacks the OIDC issuer's keys",
        Some(RETRY_AFTER_SECONDS),
    )
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
