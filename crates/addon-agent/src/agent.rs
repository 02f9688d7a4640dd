//! The addon-agent: its two parts and how they end.

use std::sync::Arc;

use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::entrypoint::Entrypoint;
use crate::lease::LeaseKeeper;
use crate::metrics::Metrics;

/// Keeps the addon's Lease, and the PortForward entrypoint where there is one.
#[derive(Debug)]
pub struct AddonAgent {
    lease: LeaseKeeper,
    entrypoint: Option<Arc<Entrypoint>>,
}

impl AddonAgent {
    /// An agent that works once it [runs](Self::run). Its metrics go into `registry`, its
    /// condition into `readiness`: ready means that the Lease was renewed when that was tried
    /// last.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, where the Kubernetes client's worker lives.
    #[must_use]
    pub fn new(config: Config, registry: &mut Registry, readiness: &Readiness) -> Self {
        let metrics = Metrics::default();
        metrics.register(registry);
        let renewed = readiness.condition("a renewed Lease");
        let Config {
            lease,
            port_forward,
        } = config;
        Self {
            lease: LeaseKeeper::new(lease, metrics.clone(), renewed),
            entrypoint: port_forward
                .map(|config| Arc::new(Entrypoint::new(config, metrics.clone()))),
        }
    }

    /// Works until `drain` is through.
    ///
    /// Started: the Lease is not renewed any more. Closing: no new connections are taken; those
    /// that are open go on until their proxy-agent or proxy-server ends them. Ended: the rest is
    /// cut.
    pub async fn run(self, drain: Drain) {
        let Self { lease, entrypoint } = self;
        if let Some(entrypoint) = entrypoint {
            drain.spawn(entrypoint.run(drain.clone()));
        }
        lease.run(drain).await;
    }
}
