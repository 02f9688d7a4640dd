//! One manager works at a time: who holds the Lease, as client-go's leader election understands
//! it, so that a Go manager and this one never lead together.
//!
//! Clocks are not compared: whether another's hold has run out is judged by how long its record
//! has been seen unchanged from here.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::time::{Instant, sleep, timeout};

use crate::config::{FIELD_MANAGER, ManagerConfig};
use crate::failure::{RequestFailure, describe};

/// How long a hold lasts and how often it is renewed; client-go's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Others wait for this long after they saw the last renewal.
    pub lease: Duration,
    /// Who could not renew for this long stops to lead. Shorter than `lease`: what is left of it
    /// is the time to stop in.
    pub renew_deadline: Duration,
    /// Between two tries to acquire or renew.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A candidate for leadership.
pub struct Candidate {
    api: Api<Lease>,
    lease: &'static str,
    identity: String,
    timing: Timing,
    observed: Option<Observed>,
}

/// Somebody's record, and since when it has been seen unchanged.
#[derive(Debug, Clone)]
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

/// Why a manager does not lead any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another one took the Lease.
    #[error("the Lease is held by {holder:?}")]
    Taken {
        /// Its identity.
        holder: String,
    },
    /// The Lease could not be renewed in time.
    #[error("the Lease could not be renewed for {} s: {cause}", since.as_secs())]
    NotRenewed {
        /// Since the last renewal.
        since: Duration,
        /// What befell the last try.
        cause: String,
    },
}

#[derive(Debug)]
enum Attempt {
    Held,
    HeldBy(String),
    Failed(String),
}

impl Candidate {
    /// A candidate for the Lease of the manager's duty.
    #[must_use]
    pub fn new(client: kube::Client, config: &ManagerConfig) -> Self {
        Self::with_timing(client, config, Timing::default())
    }

    /// The same with other times.
    #[must_use]
    pub fn with_timing(client: kube::Client, config: &ManagerConfig, timing: Timing) -> Self {
        Self {
            api: Api::namespaced(client, &config.namespace),
            lease: config.duty.lease(),
            identity: config.identity.clone(),
            timing,
            observed: None,
        }
    }

    /// Waits until this candidate leads.
    pub async fn acquire(&mut self) {
        let mut told = String::new();
        loop {
            let now = match self.attempt().await {
                Attempt::Held => {
                    tracing::info!(lease = self.lease, identity = self.identity, "leading");
                    return;
                }
                Attempt::HeldBy(holder) => format!("the Lease is held by {holder:?}"),
                Attempt::Failed(cause) => cause,
            };
            if now != told {
                tracing::info!(lease = self.lease, "waiting to lead: {now}");
                told = now;
            }
            sleep(self.jittered(self.timing.retry)).await;
        }
    }

    /// Renews the hold until it is lost. To be called as soon as [`Self::acquire`] has returned.
    pub async fn hold(&mut self) -> Lost {
        let mut renewed = Instant::now();
        loop {
            sleep(self.timing.retry).await;
            let begun = Instant::now();
            let cause = match self.attempt().await {
                Attempt::Held => {
                    renewed = begun;
                    continue;
                }
                Attempt::HeldBy(holder) => return Lost::Taken { holder },
                Attempt::Failed(cause) => cause,
            };
            tracing::warn!(lease = self.lease, "renewal failed: {cause}");
            // The next try would end after the deadline.
            let since = renewed.elapsed();
            if since + self.timing.retry >= self.timing.renew_deadline {
                return Lost::NotRenewed { since, cause };
            }
        }
    }

    /// Gives the Lease back, so that another candidate need not wait for it to run out.
    pub async fn release(&mut self) {
        let releasing = async {
            let mut lease = self.api.get(self.lease).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            // As client-go leaves it: a Lease of no length is nobody's.
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            spec.acquire_time = spec.renew_time.clone();
            self.api.replace(self.lease, &params(), &lease).await?;
            Ok::<_, kube::Error>(())
        };
        match timeout(self.timing.retry, releasing).await {
            Ok(Ok(())) => tracing::info!(lease = self.lease, "leadership given back"),
            Ok(Err(error)) => {
                tracing::warn!(
                    lease = self.lease,
                    "not given back, it will run out: {}",
                    describe(&error)
                );
            }
            Err(_) => tracing::warn!(
                lease = self.lease,
                "not given back in time, it will run out"
            ),
        }
        self.observed = None;
    }

    /// One try to acquire or renew, never longer than a pause between two.
    async fn attempt(&mut self) -> Attempt {
        let limit = self.timing.retry;
        match timeout(limit, self.try_once()).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(error)) if error.is_conflict() || error.is_already_exists() => {
                Attempt::Failed("another candidate was faster".to_owned())
            }
            Ok(Err(error)) => Attempt::Failed(error.to_string()),
            Err(_) => Attempt::Failed("the hub did not answer in time".to_owned()),
        }
    }

    async fn try_once(&mut self) -> Result<Attempt, RequestFailure> {
        let read = self.api.get_opt(self.lease).await;
        let Some(lease) = read.map_err(self.failed("read"))? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.lease.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.claim(None)),
            };
            let created = self.api.create(&params(), &lease).await;
            self.observe(created.map_err(self.failed("create"))?);
            return Ok(Attempt::Held);
        };
        let spec = self.observe(lease.clone());
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let ours = holder == self.identity;
        if !holder.is_empty() && !ours && !self.has_run_out() {
            return Ok(Attempt::HeldBy(holder));
        }
        // The resource version goes along, so that of two candidates one is refused.
        let lease = Lease {
            spec: Some(self.claim(Some(&spec))),
            ..lease
        };
        let replaced = self.api.replace(self.lease, &params(), &lease).await;
        self.observe(replaced.map_err(self.failed("update"))?);
        Ok(Attempt::Held)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(kube::Error) -> RequestFailure + use<> {
        RequestFailure::of(action, format!("Lease {}", self.lease))
    }

    /// Our record in the place of `before`.
    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let ours =
            before.filter(|before| before.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.map_or(0, |before| {
            before.lease_transitions.unwrap_or_default() + i32::from(ours.is_none())
        });
        let seconds = self.timing.lease.as_secs().max(1);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            acquire_time: ours.map_or_else(|| now.clone(), |ours| ours.acquire_time.clone()),
            renew_time: now,
            lease_transitions: Some(transitions),
            ..before.cloned().unwrap_or_default()
        }
    }

    fn observe(&mut self, lease: Lease) -> LeaseSpec {
        let spec = lease.spec.unwrap_or_default();
        match &self.observed {
            Some(observed) if observed.spec == spec => {}
            _ => {
                self.observed = Some(Observed {
                    spec: spec.clone(),
                    since: Instant::now(),
                });
            }
        }
        spec
    }

    fn has_run_out(&self) -> bool {
        self.observed.as_ref().is_none_or(|observed| {
            let seconds = observed.spec.lease_duration_seconds.unwrap_or_default();
            let length = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            observed.since.elapsed() > length
        })
    }

    /// Candidates that started together do not ask together for ever.
    fn jittered(&self, wait: Duration) -> Duration {
        wait.mul_f64(1.0 + JITTER * rand::random::<f64>())
    }
}

/// Makes the Lease of the manager's duty belong to `owner`, so that it goes with it: once Helm has
/// taken its rights away, a manager can delete nothing any more. Those who lead, Go programs too,
/// keep what stands beside their record.
///
/// # Errors
/// When the hub refuses, in its words.
pub async fn adopt(
    client: &kube::Client,
    config: &ManagerConfig,
    owner: &OwnerReference,
) -> Result<(), RequestFailure> {
    let name = config.duty.lease();
    let object = || format!("Lease {}/{name}", config.namespace);
    let api: Api<Lease> = Api::namespaced(client.clone(), &config.namespace);
    let read = api.get_opt(name).await;
    let Some(lease) = read.map_err(RequestFailure::of("read", object()))? else {
        return Ok(());
    };
    let owners = lease.metadata.owner_references.unwrap_or_default();
    if owners.iter().any(|known| known.uid == owner.uid) {
        return Ok(());
    }
    let owner = OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..owner.clone()
    };
    let patch = serde_json::json!({"metadata": {
        "resourceVersion": lease.metadata.resource_version,
        "ownerReferences": [owner],
    }});
    let params = PatchParams::default();
    let patched = api.patch(name, &params, &Patch::Merge(patch)).await;
    match patched.map_err(RequestFailure::of("patch", object())) {
        // A renewal was faster; the next look finds it as it is.
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("lease", &self.lease)
            .field("identity", &self.identity)
            .field("timing", &self.timing)
            .field("observed", &self.observed)
            .finish_non_exhaustive()
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The share of a pause by which it may be longer (client-go's factor).
const JITTER: f64 = 1.2;

#[cfg(test)]
mod tests;
