//! Answers remembered for seconds, under the token's SHA-256; each kind has its own bound, so that
//! a flood of bad tokens displaces only other bad ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::User;
use tokio::time::Instant;

use super::claims::Denial;
use crate::shelf::{Fingerprint, Shelf};

pub(super) struct Memory(Mutex<Shelves>);

struct Shelves {
    accepted: Shelf<Arc<User>>,
    denied: Shelf<Denial>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Shelves {
            accepted: Shelf::new(MAX_ACCEPTED),
            denied: Shelf::new(MAX_DENIED),
        }))
    }

    pub(super) fn get(&self, key: &Fingerprint, now: Instant) -> Option<Result<Arc<User>, Denial>> {
        let shelves = self.lock();
        let accepted = shelves.accepted.get(key, now).map(Ok);
        accepted.or_else(|| shelves.denied.get(key, now).map(Err))
    }

    pub(super) fn accepted(&self, key: Fingerprint, user: &Arc<User>, ttl: Duration) {
        if !ttl.is_zero() {
            let now = Instant::now();
            let user = Arc::clone(user);
            self.lock().accepted.put(key, user, now + ttl, now);
        }
    }

    pub(super) fn denied(&self, key: Fingerprint, denial: &Denial, ttl: Duration) {
        if !ttl.is_zero() {
            let now = Instant::now();
            self.lock().denied.put(key, denial.clone(), now + ttl, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Users of ten seconds. Some kilobytes each, since groups come with them.
const MAX_ACCEPTED: usize = 10_000;

/// Refusals of ten seconds, about 100 bytes each.
const MAX_DENIED: usize = 10_000;
