//! Whether the hub has signed a token: the one thing about a refused token that decides whether
//! it may leave the hub.
//!
//! Only the signature counts. A token that has expired, or is meant for another audience, or whose
//! account is gone, is the hub's all the same; and an issuer's name proves nothing, since two
//! clusters often share it.

mod key_set;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::Token;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::error::with_sources;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Uri};
use kube::Client;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, sleep, timeout};

use self::key_set::{KeySet, Verdict};
use crate::api::{ApiError, exchange};
use crate::jws::Jws;

/// The keys with which a hub signs its service account tokens, as its kube-apiserver publishes
/// them (`/openid/v1/jwks`, KEP-1393). Clones share them.
#[derive(Clone)]
pub struct HubKeys(Arc<Inner>);

/// Who signed a token.
#[derive(Debug, Clone)]
pub enum Signature {
    /// The hub did.
    Hub,
    /// The hub did not, or nobody did.
    NotHub,
    /// It cannot be told now. Never to be taken for [`Signature::NotHub`].
    Unknown(HubKeysError),
}

/// Why it cannot be told who signed a token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HubKeysError {
    /// The request failed.
    #[error("the hub's signing keys cannot be fetched")]
    Request {
        /// How.
        #[from]
        source: ApiError,
    },
    /// No answer in time.
    #[error("the hub's signing keys were not sent within {} s", FETCH_DEADLINE.as_secs())]
    TimedOut,
    /// What the hub sent is no key set, or an empty one.
    #[error("the hub's signing keys make no sense: {what}")]
    Malformed {
        /// What about them.
        what: &'static str,
    },
    /// The hub has keys of a kind that cannot be verified with here, and the token may be of one.
    #[error("the hub signs with a kind of key that is not supported")]
    UnsupportedKey,
}

impl HubKeysError {
    /// A word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Request {
                source: ApiError::Refused { .. },
            } => "keys-refused",
            Self::Request { .. } => "keys-unreachable",
            Self::TimedOut => "keys-timeout",
            Self::Malformed { .. } => "keys-malformed",
            Self::UnsupportedKey => "keys-unsupported",
        }
    }
}

struct Inner {
    client: Client,
    loaded: watch::Sender<Option<Loaded>>,
    /// Held over a fetch: the one single flight here.
    fetching: AsyncMutex<()>,
    failure: Mutex<Option<(Instant, HubKeysError)>>,
}

#[derive(Clone)]
struct Loaded {
    keys: Arc<KeySet>,
    /// When they were asked for: what the hub changed later may be missing.
    at: Instant,
}

impl HubKeys {
    /// Keys that are fetched when they are first asked for. See also [`Self::start`].
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Inner {
            client,
            loaded: watch::Sender::new(None),
            fetching: AsyncMutex::new(()),
            failure: Mutex::new(None),
        }))
    }

    /// Keys that are fetched now, in the background, and kept fresh until the drain ends.
    #[must_use]
    pub fn start(client: Client, drain: &Drain) -> Self {
        let keys = Self::new(client);
        let fresh = keys.clone();
        drain.spawn_until_ended(async move { fresh.keep_fresh().await });
        keys
    }

    /// Resolves once keys have been fetched: for readiness.
    pub async fn loaded(&self) {
        let mut loaded = self.0.loaded.subscribe();
        loaded
            .wait_for(Option::is_some)
            .await
            .expect("the sender lives as long as self");
    }

    /// Whether the hub signed this token. It did not if none of the keys made the signature that
    /// the hub published within the last ten seconds: they are fetched for that, at most once in
    /// that time.
    pub async fn signed_by_hub(&self, token: &Token) -> Signature {
        let Some(jws) = Jws::parse(token) else {
            return Signature::NotHub;
        };
        let known = self.0.loaded.borrow().clone();
        if let Some(known) = &known {
            match known.keys.verify(&jws) {
                Verdict::Signed => return Signature::Hub,
                Verdict::Unsupported => return Signature::Unknown(HubKeysError::UnsupportedKey),
                Verdict::NotSigned => {}
            }
        }
        match self.0.fetch_unless_fresh(FRESH).await {
            Ok(keys) => match keys.verify(&jws) {
                Verdict::Signed => Signature::Hub,
                Verdict::NotSigned => Signature::NotHub,
                Verdict::Unsupported => Signature::Unknown(HubKeysError::UnsupportedKey),
            },
            Err(error) => Signature::Unknown(error),
        }
    }

    async fn keep_fresh(&self) {
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
                    tracing::warn!(%cause, retry_in_seconds, "no signing keys of the hub");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

impl Inner {
    /// The keys if they are younger than `max_age`, otherwise new ones. One fetch at a time: who
    /// comes during one waits for it and takes its result. A fetch that failed is not repeated
    /// within [`FAILURE_PAUSE`].
    async fn fetch_unless_fresh(&self, max_age: Duration) -> Result<Arc<KeySet>, HubKeysError> {
        // Who waits longer than a fetch takes is behind others who came and went.
        let _one_at_a_time = timeout(FETCH_DEADLINE, self.fetching.lock())
            .await
            .map_err(|_| HubKeysError::TimedOut)?;
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
        match self.fetch().await {
            Ok(fetched) => {
                let keys = Arc::new(match known {
                    Some(known) => fetched.succeed(&known.keys, at),
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

    async fn fetch(&self) -> Result<KeySet, HubKeysError> {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = Uri::from_static(JWKS);
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static(JWKS_TYPES));
        let answer = timeout(FETCH_DEADLINE, exchange(&self.client, request))
            .await
            .map_err(|_| HubKeysError::TimedOut)??;
        KeySet::parse(&answer).map_err(|what| HubKeysError::Malformed { what })
    }

    fn failure(&self) -> MutexGuard<'_, Option<(Instant, HubKeysError)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for HubKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self
            .0
            .loaded
            .borrow()
            .as_ref()
            .map(|loaded| loaded.keys.len());
        f.debug_struct("HubKeys")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

/// How often the keys are fetched without being asked for. A new key is found by its first token
/// in any case; this keeps the set from ageing on a quiet hub.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// How old the keys may be for a signature that none of them made to count as not the hub's.
/// Bounds the fetches that tokens of other clusters cause.
const FRESH: Duration = Duration::from_secs(10);

/// How long a fetch may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// How long after a failed fetch its error is everybody's answer.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// From the first failed fetch in the background to the next; doubled until [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const JWKS: &str = "/openid/v1/jwks";
const JWKS_TYPES: &str = "application/jwk-set+json, application/json";

#[cfg(test)]
mod tests;
