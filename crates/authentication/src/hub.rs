//! Whose token it is, in the eyes of the hub.

use std::sync::Arc;

use cluster_proxy_identity::{Token, User};

use crate::cache::CachedReviewer;
use crate::hub_keys::{HubKeys, HubKeysError, Signature};
use crate::review::{Review, ReviewError};

/// Decides what becomes of a token at the hub's front door. Clones share their memory.
#[derive(Debug, Clone)]
pub struct HubAuthenticator {
    reviewer: CachedReviewer,
    keys: HubKeys,
}

/// What the hub says of a token.
#[derive(Debug, Clone)]
pub enum HubAnswer {
    /// It is this hub user's. It stays on the hub.
    User(Arc<User>),
    /// The hub signed it and does not accept it: expired, for another audience, or its account is
    /// gone. 401, and it stays on the hub.
    HubTokenRefused,
    /// The hub knows nothing of it. It may travel on to the managed cluster.
    NotOurs,
    /// The hub could not say. The request fails, and the token stays on the hub.
    Failed(HubFailure),
}

/// Why the hub could not say.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HubFailure {
    /// The review failed.
    #[error("the hub could not review the token")]
    Review {
        /// Why.
        #[from]
        source: ReviewError,
    },
    /// The hub refuses the token, and whether it is its own could not be told.
    #[error("it is not known whether the hub signed the token")]
    Keys {
        /// Why.
        #[from]
        source: HubKeysError,
    },
}

impl HubFailure {
    /// A word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Review { source } => source.reason(),
            Self::Keys { source } => source.reason(),
        }
    }
}

impl HubAuthenticator {
    /// Asks `reviewer`, and `keys` about what it refuses. Both must be of the same hub.
    #[must_use]
    pub fn new(reviewer: CachedReviewer, keys: HubKeys) -> Self {
        Self { reviewer, keys }
    }

    /// Whose token it is. Bounded by the deadlines of a review and of a fetch of the keys, about
    /// ten seconds together at worst.
    pub async fn authenticate(&self, token: &Token) -> HubAnswer {
        match self.reviewer.review(token).await {
            Review::Authenticated(user) => HubAnswer::User(user),
            Review::Failed(error) => HubAnswer::Failed(error.into()),
            Review::Denied => match self.keys.signed_by_hub(token).await {
                Signature::Hub => HubAnswer::HubTokenRefused,
                Signature::NotHub => HubAnswer::NotOurs,
                Signature::Unknown(error) => HubAnswer::Failed(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests;
