//! A public key out of a JSON Web Key (RFC 7517, RFC 7518), and the algorithms that it verifies.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// An algorithm of RFC 7518 that signs with a private key. `none` and the symmetric ones, whose
/// "public" key would be the secret, cannot be named by this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// ECDSA with P-521 and SHA-512.
    Es512,
}

/// A name that is none of [`SigningAlgorithm`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no signing algorithm known here (RS, PS or ES with 256, 384 or 512)")]
pub struct UnknownAlgorithm(String);

impl FromStr for SigningAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        ALGORITHMS
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, algorithm)| *algorithm)
            .ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = ALGORITHMS
            .iter()
            .find(|(_, algorithm)| algorithm == self)
            .expect("all are listed");
        f.write_str(name)
    }
}

impl SigningAlgorithm {
    fn with_rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 => None,
        }
    }
}

/// A key that verifies.
pub(crate) enum VerifyingKey {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Ec {
        algorithm: SigningAlgorithm,
        key: ParsedPublicKey,
    },
}

impl VerifyingKey {
    /// `None` for a key of a kind or size that is not verified with here.
    pub(crate) fn of(jwk: &Value) -> Option<Self> {
        let fields = Jwk::deserialize(jwk).ok()?;
        match fields.kty {
            "RSA" => {
                let n = number(fields.n?)?;
                let e = number(fields.e?)?;
                let usable =
                    RSA_MODULUS_BYTES.contains(&n.len()) && RSA_EXPONENT_BYTES.contains(&e.len());
                usable.then_some(Self::Rsa(RsaPublicKeyComponents { n, e }))
            }
            "EC" => {
                let (algorithm, how, length) = curve(fields.crv?)?;
                let mut point = vec![UNCOMPRESSED];
                for coordinate in [fields.x?, fields.y?] {
                    let bytes = URL_SAFE_NO_PAD.decode(coordinate).ok()?;
                    if bytes.len() != length {
                        return None;
                    }
                    point.extend(bytes);
                }
                // A point that is not on the curve fails here.
                let key = ParsedPublicKey::new(how, point).ok()?;
                Some(Self::Ec { algorithm, key })
            }
            _ => None,
        }
    }

    /// Whether this key made `signature` over `message` by `algorithm`.
    pub(crate) fn verifies(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        match self {
            Self::Rsa(key) => algorithm
                .with_rsa()
                .is_some_and(|how| key.verify(how, message, signature).is_ok()),
            Self::Ec {
                algorithm: own,
                key,
            } => *own == algorithm && key.verify_sig(message, signature).is_ok(),
        }
    }
}

#[derive(Deserialize)]
struct Jwk<'a> {
    kty: &'a str,
    crv: Option<&'a str>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    x: Option<&'a str>,
    y: Option<&'a str>,
}

/// A number as RFC 7518 writes it; some write a zero before it.
fn number(text: &str) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Some(bytes)
}

fn curve(name: &str) -> Option<(SigningAlgorithm, &'static EcdsaVerificationAlgorithm, usize)> {
    match name {
        "P-256" => Some((SigningAlgorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32)),
        "P-384" => Some((SigningAlgorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48)),
        "P-521" => Some((SigningAlgorithm::Es512, &ECDSA_P521_SHA512_FIXED, 66)),
        _ => None,
    }
}

const ALGORITHMS: [(&str, SigningAlgorithm); 9] = [
    ("RS256", SigningAlgorithm::Rs256),
    ("RS384", SigningAlgorithm::Rs384),
    ("RS512", SigningAlgorithm::Rs512),
    ("PS256", SigningAlgorithm::Ps256),
    ("PS384", SigningAlgorithm::Ps384),
    ("PS512", SigningAlgorithm::Ps512),
    ("ES256", SigningAlgorithm::Es256),
    ("ES384", SigningAlgorithm::Es384),
    ("ES512", SigningAlgorithm::Es512),
];

/// The lengths of an RSA modulus with which aws-lc verifies: 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// aws-lc takes exponents of at most 33 bits; larger ones only cost time.
const RSA_EXPONENT_BYTES: std::ops::RangeInclusive<usize> = 1..=5;

/// The first byte of a point written with both coordinates (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    #[test]
    fn p521_verifies_es512_alone() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(66);
        let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
        let jwk = json!({"kty": "EC", "crv": "P-521", "x": x, "y": y, "kid": "k"});
        let key = VerifyingKey::of(&jwk).expect("a key");
        let signature = pair.sign(&SystemRandom::new(), b"text").unwrap();
        let verifies = |algorithm, text: &[u8]| key.verifies(algorithm, text, signature.as_ref());
        assert!(verifies(SigningAlgorithm::Es512, b"text"));
        assert!(!verifies(SigningAlgorithm::Es512, b"another text"));
        for (name, algorithm) in ALGORITHMS {
            let own = algorithm == SigningAlgorithm::Es512;
            assert_eq!(verifies(algorithm, b"text"), own, "{name}");
        }
        // A point that is not on the curve, and one of another length.
        for (x, y) in [(&y, &x), (&x, &"AAAA".to_owned())] {
            let jwk = json!({"kty": "EC", "crv": "P-521", "x": x, "y": y});
            assert!(VerifyingKey::of(&jwk).is_none());
        }
    }

    #[test]
    fn algorithms_without_a_private_key_have_no_name() {
        for (name, algorithm) in ALGORITHMS {
            assert_eq!(name.parse(), Ok(algorithm));
            assert_eq!(algorithm.to_string(), name);
        }
        for name in [
            "none", "None", "", "HS256", "HS512", "rs256", "RS256 ", "EdDSA", "ES256K",
        ] {
            assert!(name.parse::<SigningAlgorithm>().is_err(), "{name}");
        }
    }
}
