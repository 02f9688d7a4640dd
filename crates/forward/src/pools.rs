//! A pool for each destination that was asked for lately.
//!
//! Who asks may make names up, so the number of pools is bounded, and those without connections go
//! first.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::connect::Connect;
use crate::pool::Pool;

/// Pools by what they lead to, each made when the first request for it comes, which dials nothing
/// yet.
pub struct Pools<K, C: Connect> {
    limit: usize,
    kept: Mutex<HashMap<K, Kept<C>>>,
}

struct Kept<C: Connect> {
    pool: Pool<C>,
    asked_for: Instant,
}

/// Every pool is busy, and there may be no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("requests for {limit} destinations are under way")]
pub struct TooManyPools {
    /// The bound.
    pub limit: usize,
}

impl<K: Eq + Hash + Clone, C: Connect> Pools<K, C> {
    /// At most `limit` pools.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::default(),
        }
    }

    /// The pool of `key`; `make` makes it if there is none.
    ///
    /// # Errors
    /// [`TooManyPools`].
    pub fn get(&self, key: &K, make: impl FnOnce() -> Pool<C>) -> Result<Pool<C>, TooManyPools> {
        let mut all = self.lock();
        let now = Instant::now();
        if let Some(kept) = all.get_mut(key) {
            kept.asked_for = now;
            return Ok(kept.pool.clone());
        }
        if all.len() >= self.limit && !make_room(&mut all, self.limit) {
            return Err(TooManyPools { limit: self.limit });
        }
        let pool = make();
        let kept = Kept {
            pool: pool.clone(),
            asked_for: now,
        };
        all.insert(key.clone(), kept);
        Ok(pool)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets go of pools that have had no connection for a while, for ever. (Idle connections close
    /// by themselves.)
    pub async fn keep_tidy(&self) {
        let mut ticks = interval(TIDY_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.lock().retain(|_, kept| {
                !kept.pool.is_unused() || kept.asked_for.elapsed() < TIDY_INTERVAL
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Kept<C>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, C: Connect> fmt::Debug for Pools<K, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pools")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Lets go of the pools without a connection, or else of the one that has been idle longest.
fn make_room<K: Eq + Hash + Clone, C: Connect>(
    all: &mut HashMap<K, Kept<C>>,
    limit: usize,
) -> bool {
    all.retain(|_, kept| !kept.pool.is_unused());
    if all.len() < limit {
        return true;
    }
    let idle = all
        .iter()
        .filter_map(|(key, kept)| Some((kept.pool.idle_since()?, key)))
        .min_by_key(|(since, _)| *since)
        .map(|(_, key)| key.clone());
    idle.and_then(|key| all.remove(&key)).is_some()
}

/// How often unused pools are looked for, and how long they are kept.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;
    use crate::connect::{Dialled, Offer};
    use crate::pool::{Origin, PoolMetrics, PoolSettings};

    /// Leads nowhere.
    struct Nowhere;

    impl Connect for Nowhere {
        type Io = tokio::io::DuplexStream;
        type Error = io::Error;

        async fn connect(&self, _: Offer) -> io::Result<Dialled<Self::Io>> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    fn pool(metrics: &PoolMetrics) -> Pool<Nowhere> {
        let origin = Origin::https("nowhere.test").expect("an authority");
        Pool::new(Nowhere, origin, PoolSettings::default(), metrics.clone())
    }

    #[tokio::test]
    async fn names_that_nobody_has_do_not_fill_the_memory() {
        let (pools, metrics) = (Pools::new(10), PoolMetrics::default());
        for number in 0..20 {
            pools.get(&number, || pool(&metrics)).expect("room");
            assert!(pools.len() <= 10);
        }
        assert_eq!(metrics.dialled.get(), 0, "a pool dials nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn unused_pools_go_after_a_while() {
        let (pools, metrics) = (Arc::new(Pools::new(10)), PoolMetrics::default());
        let upkeep = Arc::clone(&pools);
        let upkeep = tokio::spawn(async move { upkeep.keep_tidy().await });
        pools.get(&1, || pool(&metrics)).expect("room");
        tokio::time::sleep(TIDY_INTERVAL / 2).await;
        assert_eq!(pools.len(), 1);
        tokio::time::sleep(2 * TIDY_INTERVAL).await;
        assert!(pools.is_empty());
        upkeep.abort();
    }
}
