//! ID tokens of one OpenID provider, verified as the kube-apiserver's OIDC authenticator does
//! (`--oidc-*`), without asking anybody but the provider for its keys.
//!
//! Only a token whose `iss` is the configured issuer is looked at. Its claims are judged first and
//! its signature then, so that keys are fetched only for a token that could be accepted.

mod claims;
mod https;
mod memory;
mod offline;
mod provider;
mod settings;

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_identity::{Token, User};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::claims::Denial;
use self::claims::{Claims, Mapped};
pub use self::https::HttpsError;
use self::memory::Memory;
pub use self::offline::id_token_answer;
use self::provider::Provider;
pub use self::provider::ProviderError;
pub use self::settings::{OidcSettings, OidcSettingsError};
use crate::fresh_keys::FreshKeys;
use crate::jws::Jws;
use crate::key_set::Verdict;

/// Verifies the ID tokens of one issuer. Clones share everything.
#[derive(Clone)]
pub struct Oidc(Arc<Inner>);

struct Inner {
    settings: OidcSettings,
    ttl: Duration,
    version: Mutex<Arc<Version>>,
}

/// What holds as long as the trust in the provider's certificate does: keys and answers that were
/// had under another trust count no longer.
enum Version {
    Ready {
        keys: FreshKeys<Provider>,
        memory: Memory,
    },
    Unavailable {
        why: String,
    },
}

/// With which CAs the provider's certificate is verified.
#[derive(Debug, Clone)]
pub enum OidcTrust {
    /// These.
    Roots(ClientTls),
    /// They are not known: no ID token is accepted, and none is refused, until they are.
    Unavailable {
        /// Why, for logs.
        why: String,
    },
}

/// Where changes of the trust are told.
pub type OidcTrustReceiver = watch::Receiver<OidcTrust>;

/// What a token is in the issuer's eyes.
#[derive(Debug, Clone)]
pub enum IdTokenAnswer {
    /// An ID token of this user: names as the claims have them, with their prefixes.
    User(Arc<User>),
    /// Not an ID token of this issuer.
    NotOurs,
    /// It says that it is one, and is not accepted.
    Denied(Denial),
    /// It could not be verified. Never to be taken for a "no".
    Failed(OidcFailure),
}

/// Why an ID token could not be verified.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OidcFailure {
    /// The CA of the provider is not known.
    #[error("the CA of the OIDC issuer is not available: {why}")]
    Trust {
        /// Why.
        why: String,
    },
    /// The keys that are known did not sign it, and newer ones cannot be had.
    #[error("the OIDC issuer's signing keys cannot be had")]
    Provider {
        /// Why.
        #[from]
        source: ProviderError,
    },
    /// The provider publishes a key that cannot be verified with here, and the token may be of it.
    #[error("the OIDC issuer signs with a kind of key that is not supported")]
    UnsupportedKey,
}

impl OidcFailure {
    /// A word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Trust { .. } => "ca-unavailable",
            Self::Provider { source } => source.reason(),
            Self::UnsupportedKey => "key-unsupported",
        }
    }
}

impl Oidc {
    /// Verifies by `settings` and the present `trust`, and remembers answers for `ttl` (zero keeps
    /// none). [`run`](Self::run) must be given the same `trust`.
    #[must_use]
    pub fn new(settings: OidcSettings, ttl: Duration, trust: &mut OidcTrustReceiver) -> Self {
        let version = Version::of(&settings, trust.borrow_and_update().clone());
        Self(Arc::new(Inner {
            settings,
            ttl,
            version: Mutex::new(Arc::new(version)),
        }))
    }

    /// Keeps the provider's keys fresh, and follows the trust in its certificate, for ever. A
    /// provider that is down is tried again and again; what is known already goes on.
    pub async fn run(self, mut trust: OidcTrustReceiver) {
        loop {
            let version = self.version();
            let fresh = async {
                match &*version {
                    Version::Ready { keys, .. } => keys.keep_fresh().await,
                    Version::Unavailable { .. } => pending().await,
                }
            };
            let changed = async {
                // Without a sender nobody changes it any more.
                if trust.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                () = changed => {}
                () = fresh => {}
            }
            let now = trust.borrow_and_update().clone();
            let version = Version::of(&self.0.settings, now);
            *self.lock() = Arc::new(version);
        }
    }

    /// Whose ID token it is. Bounded by the deadline of one fetch of the keys, ten seconds, and of
    /// the wait for another's.
    pub async fn authenticate(&self, token: &Token) -> IdTokenAnswer {
        let settings = &self.0.settings;
        let Some(jws) = Jws::parse(token) else {
            return IdTokenAnswer::NotOurs;
        };
        let Some(claims) = Claims::parse(token).filter(|claims| claims.issuer_is(settings)) else {
            return IdTokenAnswer::NotOurs;
        };
        let version = self.version();
        let (keys, memory) = match &*version {
            Version::Ready { keys, memory } => (keys, memory),
            Version::Unavailable { why } => {
                return IdTokenAnswer::Failed(OidcFailure::Trust { why: why.clone() });
            }
        };
        let fingerprint = token.fingerprint();
        if let Some(known) = memory.get(&fingerprint, Instant::now()) {
            return known.map_or_else(IdTokenAnswer::Denied, IdTokenAnswer::User);
        }
        let judged = match self.judge(keys, &jws, &claims).await {
            Ok(judged) => judged,
            Err(failure) => return IdTokenAnswer::Failed(failure),
        };
        match judged {
            Ok(mapped) => {
                let left = mapped.expires.duration_since(SystemTime::now());
                let user = Arc::new(mapped.user);
                let ttl = self.0.ttl.min(left.unwrap_or_default());
                memory.accepted(fingerprint, &user, ttl);
                IdTokenAnswer::User(user)
            }
            Err(denial) => {
                memory.denied(fingerprint, &denial, self.0.ttl);
                IdTokenAnswer::Denied(denial)
            }
        }
    }

    async fn judge(
        &self,
        keys: &FreshKeys<Provider>,
        jws: &Jws<'_>,
        claims: &Claims,
    ) -> Result<Result<Mapped, Denial>, OidcFailure> {
        let settings = &self.0.settings;
        let mapped = match before_signature(settings, jws, claims) {
            Ok(mapped) => mapped,
            Err(denial) => return Ok(Err(denial)),
        };
        after_signature(settings, keys.verify(jws).await?, mapped)
    }

    /// What the issuer is called, for messages.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.settings.issuer()
    }

    fn version(&self) -> Arc<Version> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Version>> {
        let version = &self.0.version;
        version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token's header and claims say, before anybody is asked for keys.
fn before_signature(
    settings: &OidcSettings,
    jws: &Jws<'_>,
    claims: &Claims,
) -> Result<Mapped, Denial> {
    settings.allows(&jws.header)?;
    claims.map(settings, SystemTime::now())
}

/// Names are judged last: what is said of them must be the issuer's word.
fn after_signature(
    settings: &OidcSettings,
    verdict: Verdict,
    mapped: Mapped,
) -> Result<Result<Mapped, Denial>, OidcFailure> {
    match verdict {
        Verdict::Signed => Ok(settings.unreserved(mapped)),
        Verdict::NotSigned => Ok(Err(Denial::Signature)),
        Verdict::Unsupported => Err(OidcFailure::UnsupportedKey),
    }
}

impl Version {
    fn of(settings: &OidcSettings, trust: OidcTrust) -> Self {
        match trust {
            OidcTrust::Roots(tls) => Self::Ready {
                keys: FreshKeys::new(Provider::new(settings, tls)),
                memory: Memory::new(),
            },
            OidcTrust::Unavailable { why } => Self::Unavailable { why },
        }
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("settings", &self.0.settings)
            .field("ttl", &self.0.ttl)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
