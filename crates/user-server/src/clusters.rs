//! The kept connections to every cluster's service-proxy: one pool per cluster, made when the
//! first request for it comes, which dials nothing yet.
//!
//! Any name of the right form gets a pool, since only the tunnel knows which clusters are there;
//! so the number of pools is bounded, and those without connections go first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_proxy_forward::{Origin, Pool, PoolMetrics, PoolSettings};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_identity::{ClusterName, SERVICE_PROXY_PORT, TunnelHost};
use cluster_proxy_tunnel::Dialer;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::connector::Connector;

/// A pool for each cluster that was asked for lately.
#[derive(Debug)]
pub(crate) struct Clusters {
    dialer: Arc<dyn Dialer>,
    tls: ClientTls,
    settings: PoolSettings,
    metrics: PoolMetrics,
    pools: Mutex<HashMap<ClusterName, Kept>>,
}

#[derive(Debug)]
struct Kept {
    pool: Pool<Connector>,
    asked_for: Instant,
}

/// Every one of [`MAX_POOLS`] pools is busy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests for {MAX_POOLS} clusters are under way")]
pub(crate) struct TooManyClusters;

impl Clusters {
    pub(crate) fn new(
        dialer: Arc<dyn Dialer>,
        tls: ClientTls,
        settings: PoolSettings,
        metrics: PoolMetrics,
    ) -> Self {
        Self {
            dialer,
            tls,
            settings,
            metrics,
            pools: Mutex::default(),
        }
    }

    /// The cluster's pool.
    pub(crate) fn pool(&self, cluster: &ClusterName) -> Result<Pool<Connector>, TooManyClusters> {
        let mut pools = self.pools();
        let now = Instant::now();
        if let Some(kept) = pools.get_mut(cluster) {
            kept.asked_for = now;
            return Ok(kept.pool.clone());
        }
        if pools.len() >= MAX_POOLS {
            make_room(&mut pools)?;
        }
        let pool = self.make(cluster);
        let kept = Kept {
            pool: pool.clone(),
            asked_for: now,
        };
        pools.insert(cluster.clone(), kept);
        Ok(pool)
    }

    /// Lets go of pools that have had no connection for a while, for ever. (Idle connections close
    /// by themselves.)
    pub(crate) async fn keep_tidy(&self) {
        let mut ticks = interval(TIDY_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.pools().retain(|_, kept| {
                !kept.pool.is_unused() || kept.asked_for.elapsed() < TIDY_INTERVAL
            });
        }
    }

    fn make(&self, cluster: &ClusterName) -> Pool<Connector> {
        let authority = format!("{}:{SERVICE_PROXY_PORT}", TunnelHost::of(cluster));
        let origin = Origin::https(&authority).expect("a DNS name and a port are an authority");
        let connector = Connector::new(Arc::clone(&self.dialer), self.tls.clone(), cluster);
        Pool::new(
            connector,
            origin,
            self.settings.clone(),
            self.metrics.clone(),
        )
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<ClusterName, Kept>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of the pools without a connection, or else of the one that has been idle longest.
fn make_room(pools: &mut HashMap<ClusterName, Kept>) -> Result<(), TooManyClusters> {
    pools.retain(|_, kept| !kept.pool.is_unused());
    if pools.len() < MAX_POOLS {
        return Ok(());
    }
    let idle = pools
        .iter()
        .filter_map(|(cluster, kept)| Some((kept.pool.idle_since()?, cluster)))
        .min_by_key(|(since, _)| *since)
        .map(|(_, cluster)| cluster.clone());
    idle.and_then(|cluster| pools.remove(&cluster))
        .map(drop)
        .ok_or(TooManyClusters)
}

/// Some times the largest fleets; an unused pool is about a kilobyte.
const MAX_POOLS: usize = 10_000;

/// How often unused pools are looked for, and how long they are kept.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ca::CertificateAuthority;
    use cluster_proxy_tunnel::dialer::Dialling;
    use cluster_proxy_tunnel::{DialError, Target};

    use super::*;

    /// A tunnel without agents.
    #[derive(Debug)]
    struct Nowhere;

    impl Dialer for Nowhere {
        fn dial<'a>(&'a self, target: &'a Target) -> Dialling<'a> {
            Box::pin(async move {
                Err(DialError::NoAgent {
                    details: target.to_string(),
                })
            })
        }
    }

    fn clusters() -> Arc<Clusters> {
        let ca = CertificateAuthority::generate().expect("a CA");
        let tls = ClientTls::from_pem(ca.cert_pem().as_bytes(), None, Vec::new()).expect("TLS");
        Arc::new(Clusters::new(
            Arc::new(Nowhere),
            tls,
            PoolSettings::default(),
            PoolMetrics::default(),
        ))
    }

    fn name(number: usize) -> ClusterName {
        format!("cluster{number}").parse().expect("a name")
    }

    #[tokio::test]
    async fn names_that_nobody_has_do_not_fill_the_memory() {
        let clusters = clusters();
        for number in 0..2 * MAX_POOLS {
            clusters.pool(&name(number)).expect("room");
            assert!(clusters.pools().len() <= MAX_POOLS);
        }
        assert_eq!(clusters.metrics.dialled.get(), 0, "a pool dials nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn unused_pools_go_after_a_while() {
        let clusters = clusters();
        let upkeep = Arc::clone(&clusters);
        let upkeep = tokio::spawn(async move { upkeep.keep_tidy().await });
        clusters.pool(&name(1)).expect("room");
        tokio::time::sleep(TIDY_INTERVAL / 2).await;
        assert_eq!(clusters.pools().len(), 1);
        tokio::time::sleep(2 * TIDY_INTERVAL).await;
        assert_eq!(clusters.pools().len(), 0);
        upkeep.abort();
    }
}
