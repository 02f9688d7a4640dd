//! Service account tokens: JWTs that the cluster signs with a key of its own, bound to the
//! account and, where asked for, to a Pod, Secret or Node (pkg/serviceaccount/claims.go).

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cluster_proxy_identity::User;
use cluster_proxy_kube_api::names::{
    AUTHENTICATED_GROUP, SERVICE_ACCOUNT_USER_PREFIX, SERVICE_ACCOUNTS_GROUP,
};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::object;
use crate::resources::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS};
use crate::store::Transaction;

/// A cluster's key for tokens: ECDSA P-256, made anew for each cluster.
pub(crate) struct TokenSigner {
    issuer: String,
    key_id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    /// The public point, base64url: x and y.
    point: (String, String),
}

impl TokenSigner {
    /// # Errors
    /// When the key cannot be made or read back, which means broken crypto.
    pub(crate) fn generate(issuer: String) -> Result<Self, SignerError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let signing = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
        // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
        let (x, y) = pair.public_key_raw()[1..].split_at(COORDINATE_BYTES);
        let point = (
            BASE64_URL_SAFE_NO_PAD.encode(x),
            BASE64_URL_SAFE_NO_PAD.encode(y),
        );
        let verifying = DecodingKey::from_ec_components(&point.0, &point.1)?;
        let info = pair.subject_public_key_info();
        Ok(Self {
            issuer,
            // As keyIDFromPublicKey of Kubernetes makes it.
            key_id: BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(info)),
            signing,
            verifying,
            point,
        })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The JSON Web Key Set that tokens verify with.
    pub(crate) fn key_set(&self) -> Value {
        json!({"keys": [{
            "use": "sig",
            "kty": "EC",
            "kid": self.key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": self.point.0,
            "y": self.point.1,
        }]})
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When signing fails, which means broken crypto.
    pub(crate) fn sign(&self, grant: &Grant<'_>) -> Result<String, SignerError> {
        let now = grant.issued.as_second();
        let mut kubernetes = Map::new();
        kubernetes.insert(
            "namespace".to_owned(),
            object::namespace(grant.account).into(),
        );
        kubernetes.insert("serviceaccount".to_owned(), reference(grant.account));
        for (kind, bound) in &grant.bound {
            kubernetes.insert((*kind).to_owned(), reference(bound));
        }
        let claims = json!({
            "iss": self.issuer,
            "sub": user_name(object::namespace(grant.account), object::name(grant.account)),
            "aud": grant.audiences,
            "iat": now,
            "nbf": now,
            "exp": now + grant.lifetime.as_secs(),
            "jti": Uuid::new_v4().to_string(),
            "kubernetes.io": kubernetes,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        Ok(jsonwebtoken::encode(&header, &claims, &self.signing)?)
    }

    /// The user that a token is of, if it is good for at least one of `audiences`.
    ///
    /// # Errors
    /// [`TokenRefused`]: not signed here, expired, for others, or its account (or what it is
    /// bound to) is gone or has been made anew.
    pub(crate) fn verify(
        &self,
        store: &Transaction<'_>,
        token: &str,
        audiences: &[String],
    ) -> Result<Authenticated, TokenRefused> {
        let mut validation = Validation::new(Algorithm::ES256);
        // Checked below, with Kubernetes' words.
        validation.validate_aud = false;
        validation.set_issuer(&[&self.issuer]);
        validation.validate_nbf = true;
        let claims: Value = jsonwebtoken::decode(token, &self.verifying, &validation)
            .map_err(|error| TokenRefused::of(&error))?
            .claims;
        let claimed: Vec<_> = object::texts(&claims, "/aud").collect();
        let common: Vec<_> = claimed
            .iter()
            .filter(|it| audiences.iter().any(|wanted| wanted == *it))
            .map(|&it| it.to_owned())
            .collect();
        if common.is_empty() {
            return Err(TokenRefused::Audience {
                token: format!("{claimed:?}"),
                target: format!("{audiences:?}"),
            });
        }
        Ok(Authenticated {
            user: user_of(store, &claims)?,
            audiences: common,
        })
    }
}

/// What a token is to say.
pub(crate) struct Grant<'a> {
    pub(crate) account: &'a Value,
    pub(crate) audiences: &'a [String],
    pub(crate) issued: Timestamp,
    pub(crate) lifetime: SignedDuration,
    /// `pod`, `secret` or `node`, with the object.
    pub(crate) bound: Vec<(&'static str, &'a Value)>,
}

/// A token's user, and for which of the audiences asked about it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub(crate) user: User,
    pub(crate) audiences: Vec<String>,
}

/// Why a token is refused, in the words of a TokenReview's `status.error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefused {
    #[error("invalid bearer token")]
    Foreign,
    #[error("[invalid bearer token, service account token has expired]")]
    Expired,
    #[error("[invalid bearer token, service account token is not valid yet]")]
    NotYet,
    #[error(
        "[invalid bearer token, token audiences {token} is invalid for the target audiences \
         {target}]"
    )]
    Audience { token: String, target: String },
    #[error("[invalid bearer token, serviceaccounts {name:?} not found]")]
    NoAccount { name: String },
    #[error("[invalid bearer token, service account UID ({now}) does not match claim ({claim})]")]
    OtherAccount { now: String, claim: String },
    #[error("[invalid bearer token, service account token has been invalidated]")]
    Unbound,
}

impl TokenRefused {
    fn of(error: &jsonwebtoken::errors::Error) -> Self {
        use jsonwebtoken::errors::ErrorKind;
        match error.kind() {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYet,
            _ => Self::Foreign,
        }
    }
}

/// Why a cluster cannot sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignerError {
    #[error("no key for tokens")]
    Key(#[from] rcgen::Error),
    #[error("the key for tokens does not sign")]
    Jwt(#[from] jsonwebtoken::errors::Error),
}

/// `system:serviceaccount:<namespace>:<name>`.
pub(crate) fn user_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}")
}

/// The groups that every service account of a namespace is in.
pub(crate) fn groups(namespace: &str) -> Vec<String> {
    vec![
        SERVICE_ACCOUNTS_GROUP.to_owned(),
        format!("{SERVICE_ACCOUNTS_GROUP}:{namespace}"),
    ]
}

/// The parts of a service account's user name.
pub(crate) fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user
        .strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)?
        .split_once(':')?;
    let fits = crate::names::is_label(namespace) && crate::names::is_subdomain(name);
    fits.then_some((namespace, name))
}

fn user_of(store: &Transaction<'_>, claims: &Value) -> Result<User, TokenRefused> {
    let claim = claims.get("kubernetes.io").unwrap_or(&Value::Null);
    let namespace = object::text(claim, "/namespace");
    let name = object::text(claim, "/serviceaccount/name");
    let uid = object::text(claim, "/serviceaccount/uid");
    let account = store
        .get(SERVICE_ACCOUNTS, namespace, name)
        .ok_or_else(|| TokenRefused::NoAccount {
            name: name.to_owned(),
        })?;
    if object::uid(&account) != uid {
        return Err(TokenRefused::OtherAccount {
            now: object::uid(&account).to_owned(),
            claim: uid.to_owned(),
        });
    }
    let mut extra = BTreeMap::new();
    let mut note = |key: &str, value: &str| {
        let key = format!("authentication.kubernetes.io/{key}");
        extra.insert(key, vec![value.to_owned()]);
    };
    let id = format!("JTI={}", object::text(claims, "/jti"));
    note("credential-id", &id);
    let pod_bound = claim.get("pod").is_some();
    for (kind, shelf) in [("pod", PODS), ("secret", SECRETS), ("node", NODES)] {
        let Some(bound) = claim.get(kind) else {
            continue;
        };
        let (bound_name, bound_uid) = (object::text(bound, "/name"), object::text(bound, "/uid"));
        let within = if kind == "node" { "" } else { namespace };
        // The node of a pod's token is information; it is no condition.
        let informative = kind == "node" && pod_bound;
        let stands = store
            .get(shelf, within, bound_name)
            .is_some_and(|it| object::uid(&it) == bound_uid);
        if !stands && !informative {
            return Err(TokenRefused::Unbound);
        }
        if kind != "secret" {
            note(&format!("{kind}-name"), bound_name);
            note(&format!("{kind}-uid"), bound_uid);
        }
    }
    let mut groups = groups(namespace);
    groups.push(AUTHENTICATED_GROUP.to_owned());
    Ok(User {
        name: user_name(namespace, name),
        uid: Some(uid.to_owned()),
        groups,
        extra,
    })
}

fn reference(object: &Value) -> Value {
    json!({"name": object::name(object), "uid": object::uid(object)})
}

/// Of P-256.
const COORDINATE_BYTES: usize = 32;

#[cfg(test)]
mod tests;
