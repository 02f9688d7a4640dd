//! A parsed JSON Web Key Set (RFC 7517), and the verification of one signature with it.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::jws::Jws;
use crate::verifying_key::{SigningAlgorithm, VerifyingKey};

/// The published keys of one issuer.
pub(crate) struct KeySet(Vec<Key>);

struct Key {
    /// The key as published: tells whether two sets have the same one.
    published: Value,
    kid: Option<String>,
    /// `None` when the key is of a kind that cannot be verified with.
    verifier: Option<VerifyingKey>,
    /// When it was found to be published no longer.
    retired: Option<Instant>,
}

/// What a set says of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One of the keys made it.
    Signed,
    /// None of the keys made it. Another may have, if the set is out of date.
    NotSigned,
    /// A key that cannot be verified with may have made it.
    Unsupported,
}

impl KeySet {
    /// Parses a JWKS of at most `most` keys. A set without a key is an error: with it, every token
    /// of its issuer would seem to be somebody else's. Keys for encryption are left out.
    pub(crate) fn parse(json: &[u8], most: usize) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let published: Published =
            serde_json::from_slice(json).map_err(|_| "not a JSON Web Key Set")?;
        if published.keys.len() > most {
            return Err("too many keys in it");
        }
        let signing = |key: &Value| key.get("use").and_then(Value::as_str) != Some("enc");
        let keys: Vec<_> = published
            .keys
            .into_iter()
            .filter(signing)
            .map(Key::parse)
            .collect();
        if keys.is_empty() {
            return Err("no key in it");
        }
        Ok(Self(keys))
    }

    /// This set, with those of the old one's keys that are published no longer, for a while: with
    /// several kube-apiservers on a hub, one may still accept what another has given up.
    pub(crate) fn succeed(mut self, old: &Self, now: Instant) -> Self {
        for key in &old.0 {
            let retired = key.retired.unwrap_or(now);
            if now - retired < RETIRED_KEYS_KEPT
                && self.0.len() < MAX_KEYS_WITH_RETIRED
                && !self.0.iter().any(|new| new.published == key.published)
            {
                let kept = Key {
                    retired: Some(retired),
                    ..Key::parse(key.published.clone())
                };
                self.0.push(kept);
            }
        }
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies with every key that can have made the signature, whatever key the token names: a
    /// name is a hint, the signature decides.
    pub(crate) fn verify(&self, jws: &Jws<'_>) -> Verdict {
        let algorithm = SigningAlgorithm::from_str(&jws.header.alg).ok();
        let signed = |key: &Key| match (&key.verifier, algorithm) {
            (Some(verifier), Some(algorithm)) => {
                verifier.verifies(algorithm, jws.signed.as_bytes(), &jws.signature)
            }
            _ => false,
        };
        if self.0.iter().any(signed) {
            return Verdict::Signed;
        }
        // A key that cannot be verified with may have made it, unless both have names that differ.
        let maybe = |key: &Key| {
            key.verifier.is_none()
                && (key.kid.is_none() || jws.header.kid.is_none() || key.kid == jws.header.kid)
        };
        if self.0.iter().any(maybe) {
            return Verdict::Unsupported;
        }
        Verdict::NotSigned
    }
}

impl Key {
    fn parse(published: Value) -> Self {
        let kid = published
            .get("kid")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let verifier = VerifyingKey::of(&published);
        Self {
            published,
            kid,
            verifier,
            retired: None,
        }
    }
}

/// How many keys [`KeySet::succeed`] keeps in all: a hub that changes keys faster is broken.
const MAX_KEYS_WITH_RETIRED: usize = 32;

/// How long a key counts as the hub's after it is published no longer.
const RETIRED_KEYS_KEPT: Duration = Duration::from_secs(3600);
