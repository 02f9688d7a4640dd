//! A parsed JSON Web Key Set (RFC 7517), and the verification of one signature with it.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::jws::Jws;

/// The keys of a hub.
pub(super) struct KeySet(Vec<HubKey>);

struct HubKey {
    /// The key as published: tells whether two sets have the same one.
    published: Value,
    kid: Option<String>,
    /// `None` when the key is of a kind that cannot be verified with.
    verifier: Option<Verifier>,
    /// When it was found to be published no longer.
    retired: Option<Instant>,
}

struct Verifier {
    key: DecodingKey,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

/// What a set says of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One of the keys made it.
    Signed,
    /// None of the keys made it. Another may have, if the set is out of date.
    NotSigned,
    /// A key that cannot be verified with may have made it.
    Unsupported,
}

impl KeySet {
    /// Parses a JWKS. A set without a key is an error: with it, every token of the hub would seem
    /// to be somebody else's.
    pub(super) fn parse(json: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let published: Published =
            serde_json::from_slice(json).map_err(|_| "not a JSON Web Key Set")?;
        if published.keys.is_empty() {
            return Err("no key in it");
        }
        if published.keys.len() > MAX_KEYS {
            return Err("too many keys in it");
        }
        Ok(Self(
            published.keys.into_iter().map(HubKey::parse).collect(),
        ))
    }

    /// This set, with those of the old one's keys that are published no longer, for a while: with
    /// several kube-apiservers on a hub, one may still accept what another has given up.
    pub(super) fn succeed(mut self, old: &Self, now: Instant) -> Self {
        for key in &old.0 {
            let retired = key.retired.unwrap_or(now);
            if now - retired < RETIRED_KEYS_KEPT
                && self.0.len() < 2 * MAX_KEYS
                && !self.0.iter().any(|new| new.published == key.published)
            {
                let kept = HubKey {
                    retired: Some(retired),
                    ..HubKey::parse(key.published.clone())
                };
                self.0.push(kept);
            }
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies with every key that can have made the signature, whatever key the token names: a
    /// name is a hint, the signature decides.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Verdict {
        let algorithm = Algorithm::from_str(&jws.header.alg).ok();
        let signature = URL_SAFE_NO_PAD.encode(&jws.signature);
        let signed = |key: &HubKey| match (&key.verifier, algorithm) {
            (Some(verifier), Some(algorithm)) => {
                verifier.kind.takes(algorithm)
                    && jsonwebtoken::crypto::verify(
                        &signature,
                        jws.signed.as_bytes(),
                        &verifier.key,
                        algorithm,
                    )
                    .unwrap_or(false)
            }
            _ => false,
        };
        if self.0.iter().any(signed) {
            return Verdict::Signed;
        }
        // A key that cannot be verified with may have made it, unless both have names that differ.
        let maybe = |key: &HubKey| {
            key.verifier.is_none()
                && (key.kid.is_none() || jws.header.kid.is_none() || key.kid == jws.header.kid)
        };
        if self.0.iter().any(maybe) {
            return Verdict::Unsupported;
        }
        Verdict::NotSigned
    }
}

impl HubKey {
    fn parse(published: Value) -> Self {
        let kid = published
            .get("kid")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let verifier = serde_json::from_value::<Jwk>(published.clone())
            .ok()
            .and_then(|jwk| Verifier::of(&jwk));
        Self {
            published,
            kid,
            verifier,
            retired: None,
        }
    }
}

impl Verifier {
    fn of(jwk: &Jwk) -> Option<Self> {
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => {
                let modulus = URL_SAFE_NO_PAD.decode(&key.n).ok()?;
                RSA_MODULUS_BYTES
                    .contains(&modulus.len())
                    .then_some(Kind::Rsa)?
            }
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => Kind::P256,
                EllipticCurve::P384 => Kind::P384,
                _ => return None,
            },
            _ => return None,
        };
        Some(Self {
            key: DecodingKey::from_jwk(jwk).ok()?,
            kind,
        })
    }
}

impl Kind {
    fn takes(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => matches!(
                algorithm,
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            ),
            Self::P256 => algorithm == Algorithm::ES256,
            Self::P384 => algorithm == Algorithm::ES384,
        }
    }
}

/// A hub publishes one key, or two while it changes them. Each costs a verification for every
/// token of somebody else.
const MAX_KEYS: usize = 16;

/// The lengths of an RSA modulus with which aws-lc verifies: 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// How long a key counts as the hub's after it is published no longer.
const RETIRED_KEYS_KEPT: Duration = Duration::from_secs(3600);
