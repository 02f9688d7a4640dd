//! The Lease by which OCM knows that the addon lives: a registration agent reads its renewal time
//! and writes the addon's condition `Available` on the hub.
//!
//! See `pkg/lease` of open-cluster-management.io/addon-framework for the convention: the addon's
//! name, in the agent's namespace on the managed cluster.

use std::time::Duration;

use cluster_proxy_kube_api::names::SERVICE_ACCOUNT_USER_PREFIX;
use cluster_proxy_kube_client::calls::{CallError, within};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Condition;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::config::LeaseConfig;
use crate::metrics::Metrics;
use crate::probe::{NotReady, ReadyProbe};

/// Renews the Lease while the proxy-agent is ready.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    api: Api<Lease>,
    namespace: String,
    probe: Option<ReadyProbe>,
    metrics: Metrics,
    renewed: Condition,
    backoff: Backoff,
    /// What was logged last, so that it is logged once.
    trouble: Option<String>,
}

impl LeaseKeeper {
    pub(crate) fn new(config: LeaseConfig, metrics: Metrics, renewed: Condition) -> Self {
        let LeaseConfig {
            managed,
            namespace,
            proxy_agent,
        } = config;
        Self {
            api: Api::namespaced(managed.client(), &namespace),
            namespace,
            probe: proxy_agent.map(ReadyProbe::new),
            metrics,
            renewed,
            backoff: Backoff::new(),
            trouble: None,
        }
    }

    /// Renews until the process is asked to end: whoever is ending no longer vouches.
    pub(crate) async fn run(mut self, drain: Drain) {
        let beating = async {
            loop {
                sleep(self.beat().await).await;
            }
        };
        tokio::select! {
            () = drain.started() => {}
            () = beating => {}
        }
    }

    /// One renewal where one is due; how long to wait for the next.
    async fn beat(&mut self) -> Duration {
        let outcome = self.renew_if_ready().await;
        self.renewed.set(outcome.is_ok());
        self.metrics.renewal(outcome.as_ref().err());
        let Err(error) = outcome else {
            self.backoff.reset();
            if self.trouble.take().is_some() {
                tracing::info!(namespace = self.namespace, "the Lease is renewed again");
            }
            return RENEW_INTERVAL;
        };
        let pause = match &error {
            LeaseError::NotReady { .. } => NOT_READY_INTERVAL,
            LeaseError::Call(_) => self.backoff.next(),
        };
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(
                namespace = self.namespace,
                lease = LEASE_NAME,
                "the Lease is not renewed, so that the addon will count as unavailable: {text}"
            );
            self.trouble = Some(text);
        }
        pause
    }

    async fn renew_if_ready(&self) -> Result<(), LeaseError> {
        if let Some(probe) = &self.probe {
            probe
                .check()
                .await
                .map_err(|cause| LeaseError::NotReady { cause })?;
        }
        match self.renew().await {
            // Somebody else wrote in between, or made or deleted it: once more with what is there
            // now.
            Err(LeaseError::Call(error)) if error.is_race() => self.renew().await,
            other => other,
        }
    }

    async fn renew(&self) -> Result<(), LeaseError> {
        let found = within(CALL_LIMIT, "get", self.api.get_opt(LEASE_NAME)).await?;
        let parameters = PostParams::default();
        let Some(mut lease) = found else {
            let mut lease = self.new_lease();
            lease.metadata.owner_references = self.owner().await.map(|owner| vec![owner]);
            within(CALL_LIMIT, "create", self.api.create(&parameters, &lease)).await?;
            tracing::info!(namespace = self.namespace, lease = LEASE_NAME, "Lease made");
            return Ok(());
        };
        if lease.metadata.owner_references.is_none() {
            lease.metadata.owner_references = self.owner().await.map(|owner| vec![owner]);
        }
        lease.spec.get_or_insert_with(|| self.new_spec()).renew_time = Some(now());
        within(
            CALL_LIMIT,
            "update",
            self.api.replace(LEASE_NAME, &parameters, &lease),
        )
        .await?;
        Ok(())
    }

    /// The account of this program. The Lease goes with it, and so with the addon: nothing else
    /// would ever delete it. `None` where the kube-apiserver does not say who asks (before
    /// Kubernetes 1.28).
    async fn owner(&self) -> Option<OwnerReference> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.api.clone().into_client());
        let parameters = PostParams::default();
        let review = SelfSubjectReview::default();
        let asked = within(CALL_LIMIT, "own", reviews.create(&parameters, &review)).await;
        account(asked.ok()?.status?.user_info?, &self.namespace)
    }

    fn new_lease(&self) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.new_spec()),
        }
    }

    fn new_spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(LEASE_NAME.to_owned()),
            lease_duration_seconds: i32::try_from(RENEW_INTERVAL.as_secs()).ok(),
            renew_time: Some(now()),
            ..LeaseSpec::default()
        }
    }
}

/// Why the Lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The proxy-agent is not ready, so that nothing would be true about a renewed Lease.
    #[error("{cause}")]
    NotReady {
        /// How that is known.
        cause: NotReady,
    },
    /// The kube-apiserver did not do what it was asked for.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A service account of `namespace` as an owner, if the user is one.
fn account(user: UserInfo, namespace: &str) -> Option<OwnerReference> {
    let username = user.username?;
    let (its_namespace, name) = username
        .strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)?
        .split_once(':')?;
    (its_namespace == namespace).then_some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        uid: user.uid?,
        ..OwnerReference::default()
    })
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

/// The addon's name: OCM looks for exactly this Lease.
const LEASE_NAME: &str = "cluster-proxy";

/// As OCM's addon-framework does it; OCM gives up after five of them.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);

/// How soon a proxy-agent that has become ready is noticed.
const NOT_READY_INTERVAL: Duration = Duration::from_secs(2);

/// One small object: what takes longer is tried again later.
const CALL_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
