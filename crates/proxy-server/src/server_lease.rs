//! This server's Lease, by which agents count servers, and the end of those whose servers are gone.
//!
//! Names and times are konnectivity's (`cmd/server/app`, `pkg/server/leases` of
//! apiserver-network-proxy v0.36), so that Go's agents count this server and ours count Go's. One
//! thing differs: the Lease goes when the drain starts, not at its end, so that agents which are
//! told to connect elsewhere do not look for this server any more.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_proxy_kube_client::Connection;
use cluster_proxy_kube_client::calls::{CallError, within};
use cluster_proxy_kube_client::lease::ends_at;
use cluster_proxy_runtime::drain::Drain;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use tokio::time::{Instant, sleep};

use crate::lease_metrics::LeaseMetrics;

/// Where servers keep their Leases.
#[derive(Debug)]
pub struct ServerLeaseConfig {
    /// The cluster; its user needs to get, list, create, update and delete Leases in the namespace.
    pub hub: Connection,
    /// The namespace.
    pub namespace: String,
    /// The labels that a server's Lease has: agents look for them, and so do servers for Leases
    /// that have run out.
    pub labels: BTreeMap<String, String>,
}

/// Keeps the Lease of one server.
#[derive(Debug)]
pub(crate) struct ServerLease {
    api: Api<Lease>,
    server_id: String,
    labels: BTreeMap<String, String>,
    metrics: LeaseMetrics,
    /// What was logged last, so that it is logged once.
    trouble: Option<String>,
}

impl ServerLease {
    pub(crate) fn new(config: ServerLeaseConfig, server_id: String, metrics: LeaseMetrics) -> Self {
        let ServerLeaseConfig {
            hub,
            namespace,
            labels,
        } = config;
        Self {
            api: Api::namespaced(hub.client(), &namespace),
            server_id,
            labels,
            metrics,
            trouble: None,
        }
    }

    /// Renews until the drain starts; the Lease is deleted then.
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
        let (name, parameters) = (self.name(), DeleteParams::default());
        match within(CALL_LIMIT, "delete", self.api.delete(&name, &parameters)).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::warn!(
                lease = self.name(),
                "agents count this server until its Lease has run out: {error}"
            ),
        }
    }

    /// One renewal, and a look at the others; how long to wait for the next.
    async fn beat(&mut self) -> Duration {
        let outcome = match self.renew().await {
            // Somebody else wrote in between, or made or deleted it: once more with what is there.
            Err(error) if error.is_race() => self.renew().await,
            other => other,
        };
        self.delete_expired().await;
        match outcome {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::info!(lease = self.name(), "this server's Lease is renewed again");
                }
                RENEW_INTERVAL
            }
            Err(error) => {
                let text = error.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    tracing::warn!(
                        lease = self.name(),
                        "this server's Lease is not renewed, so that agents will not count it: {text}"
                    );
                    self.trouble = Some(text);
                }
                RETRY_INTERVAL
            }
        }
    }

    async fn renew(&self) -> Result<(), CallError> {
        let name = self.name();
        let parameters = PostParams::default();
        let Some(mut lease) = within(CALL_LIMIT, "get", self.api.get_opt(&name)).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name),
                    labels: Some(self.labels.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec()),
            };
            within(CALL_LIMIT, "create", self.api.create(&parameters, &lease)).await?;
            return Ok(());
        };
        lease.metadata.labels = Some(self.labels.clone());
        lease.spec = Some(LeaseSpec {
            acquire_time: lease.spec.take().and_then(|spec| spec.acquire_time),
            ..self.spec()
        });
        within(
            CALL_LIMIT,
            "update",
            self.api.replace(&name, &parameters, &lease),
        )
        .await?;
        Ok(())
    }

    /// Deletes Leases of servers that are gone without a word. Every server does; what fails now is
    /// done the next time.
    async fn delete_expired(&self) {
        let selector: Vec<_> = self
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let parameters = ListParams::default().labels(&selector.join(","));
        let begun = Instant::now();
        let listed = within(CALL_LIMIT, "list", self.api.list(&parameters)).await;
        self.metrics.listed(answer(&listed), begun.elapsed());
        let Ok(listed) = listed else {
            return;
        };
        for lease in listed.items {
            let Some(name) = lease.metadata.name.as_deref() else {
                continue;
            };
            if ends_at(&lease).is_some_and(|end| end > Timestamp::now()) {
                continue;
            }
            // If it was renewed since, it stays.
            let unchanged = Preconditions {
                resource_version: lease.metadata.resource_version.clone(),
                uid: None,
            };
            let parameters = DeleteParams::default().preconditions(unchanged);
            let begun = Instant::now();
            let deleted = within(CALL_LIMIT, "delete", self.api.delete(name, &parameters)).await;
            self.metrics.deleted(answer(&deleted), begun.elapsed());
            if deleted.is_ok() {
                tracing::info!(
                    lease = name,
                    "the Lease of a server that is gone is deleted"
                );
            }
        }
    }

    fn name(&self) -> String {
        format!("{LEASE_PREFIX}{}", self.server_id)
    }

    fn spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.server_id.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }
    }
}

/// Code and reason of an answer, as konnectivity's metrics have them; `None` where none came.
fn answer<T>(outcome: &Result<T, CallError>) -> Option<(u16, String)> {
    match outcome {
        Ok(_) => Some((200, String::new())),
        Err(error) => {
            let status = error.status()?;
            Some((status.code, status.reason.clone()))
        }
    }
}

/// Before the server's id.
const LEASE_PREFIX: &str = "konnectivity-proxy-server-";

/// A server that was not heard of for so long is gone.
const LEASE_SECONDS: i32 = 30;

/// Twice within its duration.
const RENEW_INTERVAL: Duration = Duration::from_secs(15);

/// A Lease that could not be renewed is tried again before it has run out.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// One small object; and the server's end waits for its deletion.
const CALL_LIMIT: Duration = Duration::from_secs(5);
