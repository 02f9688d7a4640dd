//! How every controller is run: bounded concurrency, a backoff for each object, metrics, and an
//! end with the drain.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster_proxy_runtime::drain::Drain;
use futures_util::StreamExt;
use kube::Resource;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::failure::describe_watch;

/// Runs `controller` until the context's drain: from its start no object is begun any more, and
/// what runs has 5 s left; at its end what runs is dropped.
///
/// `name` stands in metrics and logs. An object whose `reconcile` fails is tried again after 1 s,
/// then after twice as long each time, up to five minutes; the others do not wait for it. Each
/// try is bounded by [`RECONCILE_TIMEOUT`].
pub async fn run<K, F, E>(
    context: Arc<Context>,
    name: &'static str,
    controller: Controller<K>,
    mut reconcile: impl FnMut(Arc<K>, Arc<Context>) -> F,
) where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash + Unpin + Send + Sync,
    F: Future<Output = Result<Action, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let drain = context.drain.clone();
    let backoffs = Arc::new(Backoffs::default());
    let started = drain.clone();
    let metrics = context.metrics.clone();
    let places = Arc::new(Semaphore::new(CONCURRENCY.into()));
    let timed = {
        let (metrics, backoffs) = (metrics.clone(), Arc::clone(&backoffs));
        let places = Arc::clone(&places);
        move |object: Arc<K>, context: Arc<Context>| {
            let key = Key::of(object.as_ref());
            let work = reconcile(object, context);
            let (metrics, backoffs) = (metrics.clone(), Arc::clone(&backoffs));
            let places = Arc::clone(&places);
            async move {
                let _place = places.acquire_owned().await;
                let begun = Instant::now();
                let outcome = match tokio::time::timeout(RECONCILE_TIMEOUT, work).await {
                    Ok(outcome) => outcome.map_err(Failure::Reconcile),
                    Err(_) => Err(Failure::TimedOut),
                };
                metrics.reconciled(name, outcome.is_err(), begun.elapsed());
                if outcome.is_ok() {
                    backoffs.forget(&key);
                }
                outcome
            }
        }
    };
    let error_policy = move |object: Arc<K>, error: &Failure<E>, _: Arc<Context>| {
        let key = Key::of(object.as_ref());
        let wait = backoffs.next(key.clone());
        tracing::warn!(
            controller = name,
            namespace = key.namespace,
            name = key.name,
            retry_seconds = wait.as_secs(),
            "{error}"
        );
        Action::requeue(wait)
    };
    let config = controller::Config::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    let outcomes = controller
        .with_config(config)
        .graceful_shutdown_on(async move { started.started().await })
        .run(timed, error_policy, context)
        .for_each(|outcome| {
            note(name, &metrics, outcome);
            std::future::ready(())
        });
    // Not the controller's own end: one whose objects could never be listed does not come to it.
    let idle = async {
        drain.started().await;
        let done = places.acquire_many(CONCURRENCY.into());
        _ = tokio::time::timeout(STOP_GRACE, done).await;
    };
    let work = async {
        tokio::select! {
            () = outcomes => {}
            () = idle => {}
        }
    };
    until_ended(&drain, work).await;
}

/// Runs `work` until it is done or the drain ends.
pub(crate) async fn until_ended(drain: &Drain, work: impl Future<Output = ()>) {
    let work = pin!(work);
    tokio::select! {
        () = work => {}
        () = drain.ended() => {}
    }
}

fn note<K, E>(
    name: &'static str,
    metrics: &crate::metrics::Metrics,
    outcome: Result<(ObjectRef<K>, Action), controller::Error<E, kube::runtime::watcher::Error>>,
) where
    K: Resource,
    K::DynamicType: Debug,
    E: std::error::Error + 'static,
{
    match outcome {
        // Failures of reconciliation are told by the error policy; an object that is gone needs
        // nothing any more.
        Ok(_)
        | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
        Err(error) => {
            metrics.watch_failed(name);
            let cause = match &error {
                controller::Error::QueueError(error) => describe_watch(error),
                other => other.to_string(),
            };
            tracing::warn!(controller = name, "watch broke off, trying again: {cause}");
        }
    }
}

/// Which object, whatever its kind: a controller has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    name: String,
}

impl Key {
    fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// How often each object has failed in a row.
#[derive(Debug, Default)]
struct Backoffs(Mutex<HashMap<Key, u32>>);

impl Backoffs {
    fn next(&self, key: Key) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        *count = count.saturating_add(1);
        let doubled = 1_u32.checked_shl(*count - 1).unwrap_or(u32::MAX);
        MIN_BACKOFF.saturating_mul(doubled).min(MAX_BACKOFF)
    }

    fn forget(&self, key: &Key) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(key);
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure<E: std::error::Error + 'static> {
    #[error("{0}")]
    Reconcile(E),
    #[error("not done within {} s", RECONCILE_TIMEOUT.as_secs())]
    TimedOut,
}

/// How long one object may take: some dozens of requests to a slow kube-apiserver.
pub const RECONCILE_TIMEOUT: Duration = Duration::from_mins(2);

/// How many objects of one controller are worked on at once: enough that one slow answer holds
/// nobody up, few enough for a kube-apiserver that also serves others.
const CONCURRENCY: u16 = 4;

/// What an object at hand gets to be finished once the process ends: cut in the middle, it is
/// begun anew by the next manager, which waits for this one to give leadership back.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Changes that come together are looked at once.
const DEBOUNCE: Duration = Duration::from_millis(100);

const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// A person who repairs something does not wait longer than this for it to be seen.
const MAX_BACKOFF: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_has_its_own_backoff() {
        let key = |name: &str| Key {
            namespace: String::new(),
            name: name.to_owned(),
        };
        let backoffs = Backoffs::default();
        let waits: Vec<u64> = (0..40).map(|_| backoffs.next(key("a")).as_secs()).collect();
        assert_eq!(&waits[..5], [1, 2, 4, 8, 16]);
        assert_eq!(waits[39], MAX_BACKOFF.as_secs());
        assert_eq!(backoffs.next(key("b")), MIN_BACKOFF);
        backoffs.forget(&key("a"));
        assert_eq!(backoffs.next(key("a")), MIN_BACKOFF);
    }
}
