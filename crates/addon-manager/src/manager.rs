//! The manager: waits to lead, runs every controller while it does, and gives leadership back.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::{Condition, Readiness};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::certificate_authority::CaHandle;
use crate::config::{Duty, ManagerConfig};
use crate::context::Context;
use crate::controller::until_ended;
use crate::events::Events;
use crate::failure::describe;
use crate::leader_election::Candidate;
use crate::metrics::Metrics;
use crate::{
    cluster_profile, configuration, crd, csr, deploy, management_addon, ownership, reachability,
    registration, shared_certificate,
};

/// A controller: runs until the context's drain.
type Controller = fn(Arc<Context>) -> BoxFuture<'static, ()>;

/// The controllers of the addon, by their names in metrics and logs.
const ADDON_CONTROLLERS: &[(&str, Controller)] = &[
    ("configuration", |context| {
        configuration::run(context).boxed()
    }),
    ("registration", |context| registration::run(context).boxed()),
    ("deploy", |context| deploy::run(context).boxed()),
    ("csr", |context| csr::run(context).boxed()),
    ("management-addon", |context| {
        management_addon::run(context).boxed()
    }),
    ("ownership", |context| ownership::run(context).boxed()),
    ("reachability", |context| reachability::run(context).boxed()),
    ("cluster-profile", |context| {
        cluster_profile::run(context).boxed()
    }),
];

/// The one beside a Go manager.
const SHARED_CERTIFICATE_CONTROLLERS: &[(&str, Controller)] =
    &[("shared-certificate", |context| {
        shared_certificate::run(context).boxed()
    })];

/// The addon's controllers and what they need.
#[derive(Debug)]
pub struct Manager {
    connection: Connection,
    config: ManagerConfig,
    metrics: Metrics,
    hub_answers: Condition,
}

impl Manager {
    /// A manager of the hub behind `connection`. Its metrics go to `registry`; it is ready, whether
    /// it leads or waits, once the hub has answered.
    #[must_use]
    pub fn new(
        connection: Connection,
        config: ManagerConfig,
        registry: &mut Registry,
        readiness: &Readiness,
    ) -> Self {
        let metrics = Metrics::default();
        metrics.register(registry);
        Self {
            connection,
            config,
            metrics,
            hub_answers: readiness.condition("an answer of the hub's kube-apiserver"),
        }
    }

    /// What this manager counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Works until the drain has started, the controllers have ended and leadership is given back.
    pub async fn run(self, drain: Drain) {
        let client = self.connection.client();
        let watch_client = self.connection.watch_client();
        tokio::select! {
            () = self.reach(&client) => {}
            () = drain.started() => return,
        }
        let ca = CaHandle::new();
        while !drain.is_started() {
            // A part of the process that ends with leadership, or with the process.
            let part = drain.child();
            let context = Arc::new(Context {
                client: client.clone(),
                watch_client: watch_client.clone(),
                config: self.config.clone(),
                ca: ca.clone(),
                events: Events::new(client.clone(), &self.config),
                metrics: self.metrics.clone(),
                drain: part.clone(),
            });
            if self.config.leader_election {
                self.lead_if_elected(context).await;
            } else {
                self.metrics.set_leading(true);
                work(context).await;
            }
            self.metrics.set_leading(false);
            part.end();
        }
    }

    async fn reach(&self, client: &kube::Client) {
        loop {
            match timeout(REACH_LIMIT, client.apiserver_version()).await {
                Ok(Ok(version)) => {
                    tracing::info!(version = version.git_version, "the hub answers");
                    self.hub_answers.set(true);
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!("the hub does not answer: {}", describe(&error));
                }
                Err(_) => tracing::warn!("the hub did not answer in time"),
            }
            sleep(RETRY).await;
        }
    }

    async fn lead_if_elected(&self, context: Arc<Context>) {
        let drain = context.drain.clone();
        let mut candidate = Candidate::new(context.client.clone(), &self.config);
        tokio::select! {
            () = candidate.acquire() => {}
            () = drain.started() => {
                // The hub may have said yes to a try that was just cut off.
                candidate.release().await;
                return;
            }
        }
        self.metrics.set_leading(true);
        let mut working = pin!(work(context));
        let lost = tokio::select! {
            lost = candidate.hold() => lost,
            () = &mut working => {
                candidate.release().await;
                return;
            }
        };
        tracing::warn!("leadership lost, the controllers stop: {lost}");
        drain.end();
        if timeout(STOP_LIMIT, working).await.is_err() {
            tracing::warn!("controllers were cut off");
        }
    }
}

/// Runs every controller of the duty until the context's drain.
async fn work(context: Arc<Context>) {
    let list = match context.config.duty {
        Duty::Addon => {
            define(&context).await;
            ADDON_CONTROLLERS
        }
        // The definition is the Go manager's.
        Duty::SharedCertificate { .. } => SHARED_CERTIFICATE_CONTROLLERS,
    };
    let mut controllers = JoinSet::new();
    for &(name, controller) in list {
        controllers.spawn(keep_running(name, controller, Arc::clone(&context)));
    }
    while controllers.join_next().await.is_some() {}
}

/// Brings the definition of the configuration up to date, as long as the drain lets it.
async fn define(context: &Context) {
    let drain = context.drain.clone();
    let defined = async {
        tokio::select! {
            _ = crd::ensure(context) => {}
            () = drain.started() => {}
        }
    };
    until_ended(&drain, defined).await;
}

/// A controller that ends by itself is a bug of ours; the others, and the tunnel, go on meanwhile.
async fn keep_running(name: &'static str, controller: Controller, context: Arc<Context>) {
    let drain = context.drain.clone();
    while !drain.is_started() {
        let running = AssertUnwindSafe(controller(Arc::clone(&context))).catch_unwind();
        let ran = tokio::select! {
            ran = running => ran,
            () = drain.ended() => return,
        };
        if drain.is_started() {
            return;
        }
        let panicked = ran.is_err();
        tracing::error!(
            controller = name,
            panicked,
            "a controller ended, beginning it again"
        );
        tokio::select! {
            () = sleep(RETRY) => {}
            () = drain.started() => {}
        }
    }
}

/// How long the hub may take to say its version.
const REACH_LIMIT: Duration = Duration::from_secs(10);

/// Between two tries of what should have worked.
const RETRY: Duration = Duration::from_secs(5);

/// Less than what is left of the Lease when its renewal has failed (15 s − 10 s).
const STOP_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
