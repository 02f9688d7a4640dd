//! Whether the hub has signed a token: the one thing about a refused token that decides whether
//! it may leave the hub.
//!
//! Only the signature counts. A token that has expired, or is meant for another audience, or whose
//! account is gone, is the hub's all the same; and an issuer's name proves nothing, since two
//! clusters often share it.

use std::time::Duration;

use cluster_proxy_identity::Token;
use cluster_proxy_runtime::drain::Drain;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Uri};
use kube::Client;
use tokio::time::Instant;

use crate::api::{ApiError, exchange};
use crate::fresh_keys::{FreshKeys, KeySource};
use crate::jws::Jws;
use crate::key_set::{KeySet, Verdict};

/// The keys with which a hub signs its service account tokens, as its kube-apiserver publishes
/// them (`/openid/v1/jwks`, KEP-1393). Clones share them.
#[derive(Debug, Clone)]
pub struct HubKeys(FreshKeys<KubeApiserver>);

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

impl HubKeys {
    /// Keys that are fetched when they are first asked for. See also [`Self::start`].
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(FreshKeys::new(KubeApiserver(client)))
    }

    /// Keys that are fetched now, in the background, and kept fresh until the drain ends.
    #[must_use]
    pub fn start(client: Client, drain: &Drain) -> Self {
        let keys = Self::new(client);
        let fresh = keys.0.clone();
        drain.spawn_until_ended(async move { fresh.keep_fresh().await });
        keys
    }

    /// Resolves once keys have been fetched: for readiness.
    pub async fn loaded(&self) {
        self.0.loaded().await;
    }

    /// Whether the hub signed this token. It did not if none of the keys made the signature that
    /// the hub published within the last ten seconds: they are fetched for that, at most once in
    /// that time.
    pub async fn signed_by_hub(&self, token: &Token) -> Signature {
        let Some(jws) = Jws::parse(token) else {
            return Signature::NotHub;
        };
        match self.0.verify(&jws).await {
            Ok(Verdict::Signed) => Signature::Hub,
            Ok(Verdict::NotSigned) => Signature::NotHub,
            Ok(Verdict::Unsupported) => Signature::Unknown(HubKeysError::UnsupportedKey),
            Err(error) => Signature::Unknown(error),
        }
    }
}

/// The hub's kube-apiserver as the publisher of its keys.
struct KubeApiserver(Client);

impl KeySource for KubeApiserver {
    type Error = HubKeysError;

    const OWNER: &'static str = "the hub";
    const DEADLINE: Duration = FETCH_DEADLINE;

    async fn fetch(&self) -> Result<KeySet, HubKeysError> {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = Uri::from_static(JWKS);
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static(JWKS_TYPES));
        let answer = exchange(&self.0, request).await?;
        KeySet::parse(&answer, MAX_KEYS).map_err(|what| HubKeysError::Malformed { what })
    }

    fn timed_out() -> HubKeysError {
        HubKeysError::TimedOut
    }

    fn succeed(new: KeySet, old: &KeySet, now: Instant) -> KeySet {
        new.succeed(old, now)
    }
}

/// How long a fetch may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// A hub publishes one key, or two while it changes them. Each costs a verification for every
/// token of somebody else.
const MAX_KEYS: usize = 16;

const JWKS: &str = "/openid/v1/jwks";
const JWKS_TYPES: &str = "application/jwk-set+json, application/json";

#[cfg(test)]
mod tests;
