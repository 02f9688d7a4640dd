//! The kept connections to every cluster's service-proxy: made when the first request for it comes,
//! which dials nothing yet. Any name of the right form gets a pool, since only the tunnel knows
//! which clusters are there.

use std::sync::Arc;

use cluster_proxy_forward::{Origin, Pool, PoolMetrics, PoolSettings, Pools, TooManyPools};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_identity::{ClusterName, SERVICE_PROXY_PORT, TunnelHost};
use cluster_proxy_tunnel::Dialer;

use crate::connector::Connector;

/// A pool for each cluster that was asked for lately.
#[derive(Debug)]
pub(crate) struct Clusters {
    dialer: Arc<dyn Dialer>,
    tls: ClientTls,
    settings: PoolSettings,
    metrics: PoolMetrics,
    pools: Pools<(ClusterName, Towards), Connector>,
}

/// What is behind a service-proxy. Streams to Services (events, downloads) stand in nobody's way to
/// the kube-apiserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Towards {
    KubeApiserver,
    Services,
}

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
            pools: Pools::new(MAX_POOLS),
        }
    }

    /// The cluster's pool.
    pub(crate) fn pool(
        &self,
        cluster: &ClusterName,
        towards: Towards,
    ) -> Result<Pool<Connector>, TooManyPools> {
        self.pools
            .get(&(cluster.clone(), towards), || self.make(cluster))
    }

    /// Lets go of pools that nobody uses, for ever.
    pub(crate) async fn keep_tidy(&self) {
        self.pools.keep_tidy().await;
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
}

/// Some times the largest fleets; an unused pool is about a kilobyte.
const MAX_POOLS: usize = 20_000;
