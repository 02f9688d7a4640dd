//! The hub's keys and a token: nothing that a fuzzer makes is signed by the hub, and keys that
//! cannot be read never mean that a token is somebody else's.

#![no_main]

use arbitrary::Arbitrary;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cluster_proxy_authentication::{HubKeys, Signature};
use cluster_proxy_fuzz::{apiserver, run};
use cluster_proxy_identity::Token;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    keys: Keys<'a>,
    token: Made<'a>,
}

#[derive(Debug, Arbitrary)]
enum Made<'a> {
    Text(&'a str),
    /// A token with a header that parses.
    Signed {
        alg: Algorithm,
        kid: Option<&'a str>,
        payload: &'a [u8],
        signature: &'a [u8],
    },
}

#[derive(Debug, Arbitrary)]
enum Algorithm {
    None,
    Hs256,
    Rs256,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Made<'_> {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Signed {
                alg,
                kid,
                payload,
                signature,
            } => {
                let alg = match alg {
                    Algorithm::None => "none",
                    Algorithm::Hs256 => "HS256",
                    Algorithm::Rs256 => "RS256",
                    Algorithm::Ps512 => "PS512",
                    Algorithm::Es256 => "ES256",
                    Algorithm::Es384 => "ES384",
                    Algorithm::Es512 => "ES512",
                    Algorithm::EdDsa => "EdDSA",
                };
                let header = json!({"alg": alg, "kid": kid}).to_string();
                let parts = [header.as_bytes(), payload, signature];
                parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
            }
        }
    }
}

#[derive(Debug, Arbitrary)]
enum Keys<'a> {
    Raw(&'a [u8]),
    Made(Vec<Key<'a>>),
}

#[derive(Debug, Arbitrary)]
struct Key<'a> {
    kind: Option<Kind>,
    kid: Option<&'a str>,
    alg: Option<&'a str>,
    one: &'a str,
    two: &'a str,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
    Symmetric,
}

impl Key<'_> {
    fn json(&self) -> Value {
        let (one, two) = (self.one, self.two);
        let mut key = match self.kind {
            Some(Kind::Rsa) => json!({"kty": "RSA", "n": one, "e": two}),
            Some(Kind::P256) => json!({"kty": "EC", "crv": "P-256", "x": one, "y": two}),
            Some(Kind::P384) => json!({"kty": "EC", "crv": "P-384", "x": one, "y": two}),
            Some(Kind::P521) => json!({"kty": "EC", "crv": "P-521", "x": one, "y": two}),
            Some(Kind::Ed25519) => json!({"kty": "OKP", "crv": "Ed25519", "x": one}),
            Some(Kind::Symmetric) => json!({"kty": "oct", "k": one}),
            None => json!({"kty": one, "crv": two}),
        };
        if let Some(kid) = self.kid {
            key["kid"] = json!(kid);
        }
        if let Some(alg) = self.alg {
            key["alg"] = json!(alg);
        }
        key
    }
}

fuzz_target!(|input: Input<'_>| {
    let Ok(token) = Token::parse(&input.token.text()) else {
        return;
    };
    let body = match &input.keys {
        Keys::Raw(body) => body.to_vec(),
        Keys::Made(keys) => {
            let keys: Vec<_> = keys.iter().map(Key::json).collect();
            json!({ "keys": keys }).to_string().into_bytes()
        }
    };
    let readable = serde_json::from_slice::<Value>(&body)
        .is_ok_and(|set| set["keys"].as_array().is_some_and(|keys| !keys.is_empty()));
    let signature = run(async {
        let client = apiserver(StatusCode::OK, body);
        HubKeys::new(client).signed_by_hub(&token).await
    });
    match signature {
        Signature::Hub => panic!("a forged signature"),
        Signature::NotHub => {
            let signed = matches!(input.token, Made::Signed { .. });
            assert!(readable || !signed, "keys that were not read");
        }
        Signature::Unknown(error) => assert!(!error.reason().is_empty()),
    }
});
