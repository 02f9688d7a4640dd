//! The user-server: its listener, what it waits for before it is ready, and its upkeep.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_authentication::{
    AccessReviewer, CachedReviewer, HubAuthenticator, HubKeys, TokenReviewer,
};
use cluster_proxy_forward::server::serve;
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::{Condition, Readiness};
use prometheus_client::registry::Registry;

use crate::caller::Gate;
use crate::clusters::Clusters;
use crate::config::{Config, ServicesConfig, TokenReview};
use crate::exposed_services_config_map::WatchedExposedServices;
use crate::front::HubFront;
use crate::limits::Limiter;
use crate::metrics::Metrics;
use crate::services::Services;

/// The hub's HTTPS front.
#[derive(Debug)]
pub struct UserServer {
    config: Config,
    metrics: Metrics,
    listening: Condition,
    /// Absent when tokens are not reviewed on the hub.
    hub_keys: Option<Condition>,
}

impl UserServer {
    /// A server that serves once it [runs](Self::run). Its metrics go into `registry`, what it
    /// waits for into `readiness`: ready means that users can connect and that their tokens can be
    /// told from others, not that any cluster is connected.
    #[must_use]
    pub fn new(config: Config, registry: &mut Registry, readiness: &Readiness) -> Self {
        let metrics = Metrics::default();
        metrics.register(registry);
        let hub_keys = match config.token_review {
            TokenReview::Hub { .. } => Some(readiness.condition("the hub's signing keys")),
            TokenReview::Managed => None,
        };
        Self {
            config,
            metrics,
            listening: readiness.condition("user-server listening"),
            hub_keys,
        }
    }

    /// Serves until `drain` closes. Connections are tasks of `drain`: they finish their requests,
    /// and what is left is cut when it ends.
    pub async fn run(self, drain: Drain) {
        let Self {
            config,
            metrics,
            listening,
            hub_keys,
        } = self;
        let Config {
            listener,
            tls,
            token_review,
            dialer,
            service_proxy_tls,
            services,
            confine_cookies,
            limits,
            head_timeout,
            pool,
            server,
        } = config;
        let (gate, access) = match token_review {
            TokenReview::Hub {
                hub,
                cache_ttl,
                authorize,
            } => {
                let keys = HubKeys::start(hub.client(), &drain);
                if let Some(condition) = hub_keys {
                    let keys = keys.clone();
                    drain.spawn_until_ended(async move {
                        keys.loaded().await;
                        condition.set(true);
                    });
                }
                let access = authorize.then(|| AccessReviewer::new(hub.client(), cache_ttl));
                (Gate::Hub(authenticator(&hub, cache_ttl, keys)), access)
            }
            TokenReview::Managed => (Gate::Managed, None),
        };
        let clusters = Arc::new(Clusters::new(
            dialer,
            service_proxy_tls,
            pool,
            metrics.service_proxies.clone(),
        ));
        let upkeep = Arc::clone(&clusters);
        drain.spawn_until_ended(async move { upkeep.keep_tidy().await });
        let services = start_services(services, &metrics, &drain);
        let front = Arc::new(HubFront {
            tls,
            gate,
            access,
            clusters,
            services,
            confine_cookies,
            limiter: Limiter::new(limits),
            head_timeout,
            metrics: metrics.clone(),
            drain: drain.clone(),
        });
        listening.set(true);
        serve(listener, front, server, metrics.server, drain).await;
        listening.set(false);
    }
}

fn start_services(config: ServicesConfig, metrics: &Metrics, drain: &Drain) -> Services {
    let ServicesConfig {
        exposed,
        anonymous,
        pass_authorization,
    } = config;
    let exposed = match exposed {
        None => WatchedExposedServices::none(),
        Some(source) => {
            let watched = WatchedExposedServices::of(&source.map);
            drain.spawn_until_ended(watched.clone().keep_fresh(source, metrics.clone()));
            watched
        }
    };
    Services {
        exposed,
        anonymous,
        pass_authorization,
    }
}

fn authenticator(hub: &Connection, cache_ttl: Duration, keys: HubKeys) -> HubAuthenticator {
    let reviewer = CachedReviewer::new(TokenReviewer::new(hub.client()), cache_ttl);
    HubAuthenticator::new(reviewer, keys)
}
