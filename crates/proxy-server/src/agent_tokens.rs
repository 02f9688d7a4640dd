//! Tokens of the agents' service account: the way konnectivity's agents prove themselves where
//! they have no certificate.
//!
//! A token says that its bearer is an agent, and nothing about its cluster: what an agent may be
//! found under is the [`Rule`](crate::ownership::Rule)'s business all the same.

use cluster_proxy_authentication::{
    CachedReviewer, DEFAULT_CACHE_TTL, Review, ReviewError, TokenReviewer,
};
use cluster_proxy_identity::{Token, TokenError};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::error::with_sources;

/// Which token an agent has to show. Clones share the reviews.
#[derive(Clone)]
pub struct AgentTokens {
    reviewer: CachedReviewer,
    /// The user's name that the token has to be of.
    account: String,
}

impl AgentTokens {
    /// Tokens for `audience` of the account `service_account` in `namespace`, reviewed by the
    /// kube-apiserver behind `hub`, whose user needs to create TokenReviews. As many are in flight
    /// at once, and each for as long, as [`TokenReviewer`] has it; an agent's lanes share one.
    #[must_use]
    pub fn new(hub: &Connection, namespace: &str, service_account: &str, audience: String) -> Self {
        let reviewer = TokenReviewer::new(hub.client()).with_audiences(vec![audience]);
        Self {
            reviewer: CachedReviewer::new(reviewer, DEFAULT_CACHE_TTL),
            account: format!("system:serviceaccount:{namespace}:{service_account}"),
        }
    }

    /// Whether an agent that showed this may come in. Takes no longer than
    /// [`cluster_proxy_authentication::REVIEW_DEADLINE`].
    pub(crate) async fn check(
        &self,
        shown: Result<Option<Token>, TokenError>,
    ) -> Result<(), TokenRefusal> {
        let token = shown
            .map_err(|cause| TokenRefusal::Malformed { cause })?
            .ok_or(TokenRefusal::Missing)?;
        match self.reviewer.review(&token).await {
            Review::Authenticated(user) if user.name == self.account => Ok(()),
            Review::Authenticated(user) => Err(TokenRefusal::OtherUser {
                user: user.name.escape_debug().take(MAX_USER).collect(),
                account: self.account.clone(),
            }),
            Review::Denied => Err(TokenRefusal::Denied),
            Review::Failed(cause) => Err(TokenRefusal::NotReviewed { cause }),
        }
    }
}

impl std::fmt::Debug for AgentTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentTokens")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Why an agent is not let in by its token. The text is also what the agent is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenRefusal {
    /// It showed none.
    #[error(
        "it showed no token, and this server takes only agents of its service account: set \
         --service-account-token-path at the agent"
    )]
    Missing,
    /// What it showed is none.
    #[error("what it showed is no token: {cause}")]
    Malformed { cause: TokenError },
    /// The kube-apiserver knows no such token.
    #[error(
        "the hub does not accept its token: it has expired, is of another cluster, or is not for \
         the audience of --authentication-audience"
    )]
    Denied,
    /// Somebody else's.
    #[error("its token is of {user}, and this server takes {account} only")]
    OtherUser { user: String, account: String },
    /// Nobody knows.
    #[error(
        "its token could not be reviewed ({}), which says nothing about the token: it may try again",
        cause.reason()
    )]
    NotReviewed { cause: ReviewError },
}

impl TokenRefusal {
    /// A word for metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed { .. } => "malformed",
            Self::Denied => "denied",
            Self::OtherUser { .. } => "other_user",
            Self::NotReviewed { .. } => "not_reviewed",
        }
    }

    /// Whether the same agent may be let in a moment later.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::NotReviewed { .. })
    }

    /// What only this server's log tells.
    pub(crate) fn cause(&self) -> Option<String> {
        match self {
            Self::NotReviewed { cause } => Some(with_sources(cause)),
            _ => None,
        }
    }
}

/// Of a user's name that a log repeats. Kubernetes' own are shorter.
const MAX_USER: usize = 256;
