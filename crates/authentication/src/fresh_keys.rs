//! The published keys of one issuer, fetched when they are needed and kept fresh.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_proxy_runtime::error::with_sources;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::jws::Jws;
use crate::key_set::{KeySet, Verdict};

/// Where keys come from.
pub(crate) trait KeySource: Send + Sync + 'static {
    /// Why there are none.
    type Error: std::error::Error + Clone + Send + Sync + 'static;

    /// Whose keys they are, for logs.
    const OWNER: &'static str;

    /// How long a fetch may take.
    const DEADLINE: Duration;

    /// Gets the keys. Without a deadline: the caller sets it.
    fn fetch(&self) -> impl Future<Output = Result<KeySet, Self::Error>> + Send;

    /// The error of a fetch that took longer than [`Self::DEADLINE`].
    fn timed_out() -> Self::Error;

    /// What holds after `new` was fetched at `now` where `old` held before.
    fn succeed(new: KeySet, old: &KeySet, now: Instant) -> KeySet {
        let _ = (old, now);
        new
    }
}

/// The keys of one issuer. Clones share them.
pub(crate) struct FreshKeys<S: KeySource>(Arc<Inner<S>>);

struct Inner<S: KeySource> {
    source: S,
    loaded: watch::Sender<Option<Loaded>>,
    /// Held over a fetch: the one single flight here.
    fetching: AsyncMutex<()>,
    failure: Mutex<Option<(Instant, S::Error)>>,
}

#[derive(Clone)]
struct Loaded {
    keys: Arc<KeySet>,
    /// When they were asked for: what the issuer changed later may be missing.
    at: Instant,
}

impl<S: KeySource> FreshKeys<S> {
    /// Keys that are fetched when they are first asked for.
    pub(crate) fn new(source: S) -> Self {
        Self(Arc::new(Inner {
            source,
            loaded: watch::Sender::new(None),
            fetching: AsyncMutex::new(()),
            failure: Mutex::new(None),
        }))
    }

    /// Resolves once keys have been fetched.
    pub(crate) async fn loaded(&self) {
        let mut loaded = self.0.loaded.subscribe();
        loaded
            .wait_for(Option::is_some)
            .await
            .expect("the sender lives as long as self");
    }

    /// Whether one of the keys made the signature. None did if none of those made it that were
    /// published within the last ten seconds: they are fetched for that, at most once in that time.
    pub(crate) async fn verify(&self, jws: &Jws<'_>) -> Result<Verdict, S::Error> {
        let known = self.0.loaded.borrow().clone();
        if let Some(known) = &known {
            match known.keys.verify(jws) {
                Verdict::NotSigned => {}
                verdict => return Ok(verdict),
            }
        }
        let keys = self.0.fetch_unless_fresh(FRESH).await?;
        Ok(keys.verify(jws))
    }

    /// Fetches the keys now and every few minutes, for ever.
    pub(crate) async fn keep_fresh(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.0.fetch_unless_fresh(Duration::ZERO).await {
                Ok(_) => {
                    pause = FIRST_PAUSE;
                    sleep(REFRESH_INTERVAL).await;
                }
                Err(error) => {
                    let cause = with_sources(&error);
                    let retry_in_seconds = pause.as_secs();
                    tracing::warn!(%cause, retry_in_seconds, "no signing keys of {}", S::OWNER);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

impl<S: KeySource> Inner<S> {
    /// The keys if they are younger than `max_age`, otherwise new ones. One fetch at a time: who
    /// comes during one waits for it and takes its result. A fetch that failed is not repeated
    /// within [`FAILURE_PAUSE`].
    async fn fetch_unless_fresh(&self, max_age: Duration) -> Result<Arc<KeySet>, S::Error> {
        // Who waits longer than a fetch takes is behind others who came and went.
        let _one_at_a_time = timeout(S::DEADLINE, self.fetching.lock())
            .await
            .map_err(|_| S::timed_out())?;
        let known = self.loaded.borrow().clone();
        if let Some(known) = &known
            && known.at.elapsed() < max_age
        {
            return Ok(Arc::clone(&known.keys));
        }
        if let Some((at, error)) = self.failure().clone()
            && at.elapsed() < FAILURE_PAUSE
        {
            return Err(error);
        }
        let at = Instant::now();
        let fetched = timeout(S::DEADLINE, self.source.fetch())
            .await
            .unwrap_or_else(|_| Err(S::timed_out()));
        match fetched {
            Ok(fetched) => {
                let keys = Arc::new(match known {
                    Some(known) => S::succeed(fetched, &known.keys, at),
                    None => fetched,
                });
                let loaded = Loaded {
                    keys: Arc::clone(&keys),
                    at,
                };
                self.loaded.send_replace(Some(loaded));
                *self.failure() = None;
                Ok(keys)
            }
            Err(error) => {
                *self.failure() = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<(Instant, S::Error)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: KeySource> Clone for FreshKeys<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: KeySource> fmt::Debug for FreshKeys<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = self.0.loaded.borrow();
        let keys = loaded.as_ref().map(|loaded| loaded.keys.len());
        f.debug_struct("FreshKeys")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

/// How often the keys are fetched without being asked for. A new key is found by its first token
/// in any case; this keeps the set from ageing where tokens are few, and drops keys that are
/// published no longer.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// How old the keys may be for a signature that none of them made to count as nobody's here.
/// Bounds the fetches that tokens of others cause.
pub(crate) const FRESH: Duration = Duration::from_secs(10);

/// How long after a failed fetch its error is everybody's answer.
pub(crate) const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// From the first failed fetch in the background to the next; doubled until [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
