//! A token read as a JSON Web Signature in its compact form (RFC 7515), unverified.
//!
//! Kubernetes reads tokens with Go's base64, which takes what a strict decoder refuses (unused
//! bits, padding). What the hub would take must be recognised here, so this reads as widely.

use std::time::{Duration, SystemTime};

use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use cluster_proxy_identity::Token;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The parts of a signed token.
pub(crate) struct Jws<'a> {
    /// The header, as far as it matters here.
    pub(crate) header: Header,
    /// What is signed: the first two parts with their dot.
    pub(crate) signed: &'a str,
    /// The signature's bytes.
    pub(crate) signature: Vec<u8>,
}

#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, section 4.1.11).
    pub(crate) crit: Option<IgnoredAny>,
}

impl<'a> Jws<'a> {
    /// `None` when the token is no JWS, so that nobody has signed it.
    pub(crate) fn parse(token: &'a Token) -> Option<Self> {
        let (signed, signature) = token.expose().rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        Some(Self {
            header: serde_json::from_slice(&LENIENT.decode(header).ok()?).ok()?,
            signed,
            signature: LENIENT.decode(signature).ok()?,
        })
    }
}

/// When the token says that it expires. Not verified: good for remembering shorter, not longer.
pub(crate) fn expiry(token: &Token) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims: Claims = serde_json::from_slice(&payload(token)?).ok()?;
    let since_epoch = Duration::try_from_secs_f64(claims.exp).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}

/// What the second part of the token holds, unverified.
pub(crate) fn payload(token: &Token) -> Option<Vec<u8>> {
    LENIENT.decode(token.expose().split('.').nth(1)?).ok()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn token(header: &str, payload: &str, signature: &str) -> Token {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let text = format!("{}.{}.{signature}", encode(header), encode(payload));
        Token::parse(&text).expect("a token")
    }

    #[test]
    fn compact_form_is_taken_apart() {
        let token = token(r#"{"alg":"RS256","kid":"k1"}"#, "{}", "AAEC");
        let jws = Jws::parse(&token).expect("a JWS");
        assert_eq!(jws.header.alg, "RS256");
        assert_eq!(jws.header.kid.as_deref(), Some("k1"));
        assert_eq!(jws.signature, [0, 1, 2]);
        assert_eq!(token.expose(), format!("{}.AAEC", jws.signed));
    }

    #[test]
    fn what_gos_base64_takes_is_taken() {
        // The last character of "AB" carries four bits that mean nothing.
        for signature in ["AA", "AB", "AP", "AA=="] {
            let token = token(r#"{"alg":"RS256"}"#, "{}", signature);
            assert_eq!(
                Jws::parse(&token).expect("a JWS").signature,
                [0],
                "{signature}"
            );
        }
    }

    #[test]
    fn other_tokens_are_no_jws() {
        for text in [
            "opaque",
            "sha256~abcdef",
            "abcdef.0123456789abcdef",
            "a.b.c",
            "e30.e30.AA",
            "eyJhbGciOiJSUzI1NiJ9.e30.AA.AA.AA",
            "{\"payload\":\"e30\"}",
        ] {
            assert!(Jws::parse(&Token::parse(text).unwrap()).is_none(), "{text}");
        }
    }

    #[test]
    fn expiry_is_read_where_there_is_one() {
        let at = |payload| expiry(&token("{}", payload, "AA"));
        let seconds = |count| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(count));
        assert_eq!(at(r#"{"exp":1700000000}"#), seconds(1_700_000_000));
        assert_eq!(at(r#"{"exp":1.7e9}"#), seconds(1_700_000_000));
        for payload in [
            "{}",
            r#"{"exp":"soon"}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            "[]",
        ] {
            assert_eq!(at(payload), None, "{payload}");
        }
        assert_eq!(expiry(&Token::parse("opaque").unwrap()), None);
    }
}
