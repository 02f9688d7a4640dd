//! An ID token, its provider's discovery document and its keys: nobody is accepted whom the
//! provider did not sign for, as another than the claims say, or under a reserved name.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cluster_proxy_authentication::{
    IdTokenAnswer, OidcSettings, SigningAlgorithm, id_token_answer,
};
use cluster_proxy_identity::Token;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    document: Option<&'a [u8]>,
    keys: Option<&'a [u8]>,
    token: Made<'a>,
    email: bool,
    prefix: &'a str,
    reserved: Option<&'a str>,
}

#[derive(Debug, Arbitrary)]
enum Made<'a> {
    Text(&'a str),
    /// Not signed by the provider's key.
    Forged {
        header: &'a str,
        claims: Vec<(Name, Claim<'a>)>,
        signature: &'a [u8],
    },
    Signed(Vec<(Name, Claim<'a>)>),
}

#[derive(Debug, Arbitrary)]
enum Name {
    Iss,
    Aud,
    Exp,
    Nbf,
    Iat,
    Sub,
    Email,
    EmailVerified,
    Groups,
    ClaimNames,
    Jti,
}

#[derive(Debug, Arbitrary)]
enum Claim<'a> {
    Text(&'a str),
    Texts(Vec<&'a str>),
    Reserved(&'a str),
    Number(f64),
    Bool(bool),
    Object(&'a str),
    Null,
}

impl Claim<'_> {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Texts(texts) => json!(texts),
            Self::Reserved(rest) => json!(format!("system:{rest}")),
            Self::Number(number) => json!(number),
            Self::Bool(value) => json!(value),
            Self::Object(key) => json!({ *key: key }),
            Self::Null => Value::Null,
        }
    }
}

fn claims(changes: &[(Name, Claim<'_>)]) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": CLIENT, "exp": 99_999_999_999_u64, "sub": "alice",
        "email": "a@b@c", "groups": ["dev"],
    });
    for (name, claim) in changes {
        let name = match name {
            Name::Iss => "iss",
            Name::Aud => "aud",
            Name::Exp => "exp",
            Name::Nbf => "nbf",
            Name::Iat => "iat",
            Name::Sub => "sub",
            Name::Email => "email",
            Name::EmailVerified => "email_verified",
            Name::Groups => "groups",
            Name::ClaimNames => "_claim_names",
            Name::Jti => "jti",
        };
        claims[name] = claim.json();
    }
    claims
}

const ISSUER: &str = "https://issuer";
const CLIENT: &str = "client";

/// A P-256 key of this target alone.
static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
    let pair = rcgen::KeyPair::generate().expect("a key");
    EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key")
});

static KEYS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let jwk = Jwk::from_encoding_key(&KEY, Algorithm::ES256).expect("a JWK");
    json!({ "keys": [jwk] }).to_string().into_bytes()
});

fuzz_target!(|input: Input<'_>| {
    let mut signed = None;
    let text = match &input.token {
        Made::Text(text) => (*text).to_owned(),
        Made::Forged {
            header,
            claims: changes,
            signature,
        } => {
            let claims = claims(changes).to_string();
            let parts = [header.as_bytes(), claims.as_bytes(), signature];
            parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
        }
        Made::Signed(changes) => {
            let header = jsonwebtoken::Header::new(Algorithm::ES256);
            let claims = claims(changes);
            let text = jsonwebtoken::encode(&header, &claims, &KEY).expect("signed");
            signed = Some(claims);
            text
        }
    };
    let Ok(token) = Token::parse(&text) else {
        return;
    };
    let claim = if input.email { "email" } else { "sub" };
    let reserved = input.reserved.unwrap_or("system:").to_owned();
    let settings = OidcSettings::new(ISSUER, CLIENT)
        .expect("settings")
        .username(claim, input.prefix)
        .expect("a claim")
        .groups("groups", "")
        .reserved(vec![reserved.clone()]);
    let Ok(mut settings) = settings else {
        return;
    };
    settings.algorithms = vec![SigningAlgorithm::Es256, SigningAlgorithm::Rs256];
    let own = json!({"issuer": ISSUER, "jwks_uri": "https://issuer/keys"}).to_string();
    let document = input.document.unwrap_or(own.as_bytes());
    let keys = input.keys.unwrap_or(&KEYS);
    match id_token_answer(&settings, document, keys, &token) {
        IdTokenAnswer::User(user) => {
            let claims = signed.expect("a forged signature");
            assert_eq!(claims["iss"], ISSUER);
            let audience = &claims["aud"];
            let ours = |value: &Value| value == CLIENT;
            assert!(ours(audience) || audience.as_array().is_some_and(|all| all.iter().any(ours)));
            let name = claims[claim].as_str().expect("a name");
            assert!(!name.is_empty() && user.name.ends_with(name));
            if input.email {
                assert!(matches!(
                    claims.get("email_verified"),
                    None | Some(Value::Bool(true))
                ));
            }
            let mut names = std::iter::once(&user.name).chain(&user.groups);
            assert!(names.all(|name| !name.starts_with(&reserved)));
        }
        IdTokenAnswer::NotOurs => {
            assert!(signed.is_none_or(|claims| claims["iss"] != ISSUER));
        }
        IdTokenAnswer::Denied(denial) => assert!(!denial.reason().is_empty()),
        IdTokenAnswer::Failed(failure) => assert!(!failure.reason().is_empty()),
    }
});
