//! Reviews remembered for a few seconds, and one review for all who ask the same at once.
//!
//! A yes and a no are kept under the token's SHA-256; a failure never is. Memory is bounded, each
//! kind by itself: whoever floods with wrong tokens displaces only other refusals.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cluster_proxy_identity::{Token, User};
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::flights::Flights;
use crate::jws;
use crate::review::{Review, TokenReviewer};
use crate::shelf::{Fingerprint, Shelf};

/// A [`TokenReviewer`] with a memory. Clones share it.
#[derive(Clone)]
pub struct CachedReviewer(Arc<Inner>);

struct Inner {
    reviewer: TokenReviewer,
    ttl: Duration,
    state: Mutex<State>,
    flights: Flights<Review>,
}

struct State {
    accepted: Shelf<Arc<User>>,
    refused: Shelf<()>,
}

impl CachedReviewer {
    /// Remembers answers for `ttl`; zero keeps none, and still shares equal reviews in flight.
    #[must_use]
    pub fn new(reviewer: TokenReviewer, ttl: Duration) -> Self {
        let state = State {
            accepted: Shelf::new(MAX_ACCEPTED),
            refused: Shelf::new(MAX_REFUSED),
        };
        Self(Arc::new(Inner {
            reviewer,
            ttl,
            state: Mutex::new(state),
            flights: Flights::new(),
        }))
    }

    /// Who the token is, from memory if it is known. A revoked token is refused after `ttl` at the
    /// latest, an expired one at once if its `exp` can be read.
    ///
    /// A caller that goes away harms no other who waits for the same review.
    pub async fn review(&self, token: &Token) -> Review {
        let key = token.fingerprint();
        let known = self.0.lock().known(&key);
        if let Some(known) = known {
            return known;
        }
        let (inner, token) = (Arc::clone(&self.0), token.clone());
        let ask = move || {
            async move {
                let review = inner.reviewer.review(&token).await;
                inner.remember(key, &review, &token);
                review
            }
            .boxed()
        };
        self.0.flights.share(key, ask).await
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: Fingerprint, review: &Review, token: &Token) {
        let ttl = match jws::expiry(token) {
            Some(expiry) => self
                .ttl
                .min(expiry.duration_since(SystemTime::now()).unwrap_or_default()),
            None => self.ttl,
        };
        let now = Instant::now();
        match review {
            Review::Authenticated(user) if !ttl.is_zero() => {
                self.lock()
                    .accepted
                    .put(key, Arc::clone(user), now + ttl, now);
            }
            // A token that has expired stays refused.
            Review::Denied if !self.ttl.is_zero() => {
                self.lock().refused.put(key, (), now + self.ttl, now);
            }
            Review::Authenticated(_) | Review::Denied | Review::Failed(_) => {}
        }
    }
}

impl State {
    fn known(&self, key: &Fingerprint) -> Option<Review> {
        let now = Instant::now();
        if let Some(user) = self.accepted.get(key, now) {
            return Some(Review::Authenticated(user));
        }
        self.refused.get(key, now).map(|()| Review::Denied)
    }
}

impl fmt::Debug for CachedReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedReviewer")
            .field("reviewer", &self.0.reviewer)
            .field("ttl", &self.0.ttl)
            .finish_non_exhaustive()
    }
}

/// How long answers are kept unless a flag says otherwise.
pub const DEFAULT_CACHE_TTL: Duration = Duration::from_secs(10);

/// Users of ten seconds. Some kilobytes each, since groups come with them.
const MAX_ACCEPTED: usize = 10_000;

/// Refusals of ten seconds, about 100 bytes each.
const MAX_REFUSED: usize = 10_000;

#[cfg(test)]
mod tests;
