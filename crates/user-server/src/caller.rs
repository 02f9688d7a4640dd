//! Who asks: found out before anything else, so that no answer tells a caller without a token
//! which clusters exist.

use std::sync::Arc;

use cluster_proxy_authentication::{HubAnswer, HubAuthenticator, HubFailure};
use cluster_proxy_identity::{Token, TokenError, User};
use cluster_proxy_kube_api::status::StatusReply;
use http::HeaderMap;

/// Where tokens are looked at.
#[derive(Debug)]
pub(crate) enum Gate {
    /// On the hub.
    Hub(HubAuthenticator),
    /// Not here.
    Managed,
}

/// Whose request it is.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A user of the hub. The token stays here.
    HubUser(Arc<User>),
    /// Whoever the managed cluster takes its token for; the token travels on.
    Stranger,
}

/// Why a request gets no further than the gate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error("no bearer token")]
    NoToken,
    #[error("no usable bearer token")]
    Token {
        #[source]
        source: TokenError,
    },
    #[error("the hub signed the token and does not accept it")]
    RefusedByHub,
    #[error("the hub could not say whose token it is")]
    HubFailed {
        #[source]
        source: HubFailure,
    },
}

impl Gate {
    /// Who sends a request with these headers. Bounded by the deadlines of [`HubAuthenticator`].
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Caller, GateError> {
        let token = match Token::from_headers(headers) {
            Ok(Some(token)) => token,
            Ok(None) => return Err(GateError::NoToken),
            Err(source) => return Err(GateError::Token { source }),
        };
        let hub = match self {
            Self::Hub(hub) => hub,
            Self::Managed => return Ok(Caller::Stranger),
        };
        match hub.authenticate(&token).await {
            HubAnswer::User(user) => Ok(Caller::HubUser(user)),
            HubAnswer::NotOurs => Ok(Caller::Stranger),
            HubAnswer::HubTokenRefused => Err(GateError::RefusedByHub),
            HubAnswer::Failed(source) => Err(GateError::HubFailed { source }),
        }
    }
}

impl GateError {
    /// A short fixed word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Token { .. } => "malformed",
            Self::RefusedByHub => "refused",
            Self::HubFailed { .. } => "failed",
        }
    }

    /// What the client reads: nothing here depends on the cluster it asked for.
    pub(crate) fn reply(&self) -> StatusReply {
        match self {
            Self::NoToken => StatusReply::token_missing(),
            Self::Token {
                source: source @ TokenError::TooLong,
            } => StatusReply::headers_too_large(source.to_string()),
            Self::Token { source } => StatusReply::unauthorized(source.to_string()),
            Self::RefusedByHub => StatusReply::unauthorized(REFUSED_BY_HUB),
            Self::HubFailed { source } => StatusReply::service_unavailable(
                format!(
                    "the hub's kube-apiserver could not say whose bearer token this is ({})",
                    source.reason()
                ),
                Some(RETRY_AFTER_SECONDS),
            ),
        }
    }
}

impl Caller {
    /// A short fixed word for metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::HubUser(_) => "hub_user",
            Self::Stranger => "not_the_hubs",
        }
    }
}

const REFUSED_BY_HUB: &str = "the hub signed this bearer token and does not accept it: it has \
     expired, is meant for another audience, or its account is gone";

/// A kube-apiserver that restarts is back in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;
