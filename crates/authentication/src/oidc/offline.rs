//! The same judgement without a provider to ask: for fuzz targets.

use std::sync::Arc;

use cluster_proxy_identity::Token;

use super::claims::Claims;
use super::provider::read_keys;
use super::settings::OidcSettings;
use super::{IdTokenAnswer, after_signature, before_signature};
use crate::jws::Jws;

/// What [`Oidc`](super::Oidc) says of a token when its provider answers with this discovery
/// document and this key set.
#[must_use]
pub fn id_token_answer(
    settings: &OidcSettings,
    document: &[u8],
    key_set: &[u8],
    token: &Token,
) -> IdTokenAnswer {
    let Some(jws) = Jws::parse(token) else {
        return IdTokenAnswer::NotOurs;
    };
    let Some(claims) = Claims::parse(token).filter(|claims| claims.issuer_is(settings)) else {
        return IdTokenAnswer::NotOurs;
    };
    let mapped = match before_signature(settings, &jws, &claims) {
        Ok(mapped) => mapped,
        Err(denial) => return IdTokenAnswer::Denied(denial),
    };
    let keys = match read_keys(document, settings.issuer(), key_set) {
        Ok(keys) => keys,
        Err(source) => return IdTokenAnswer::Failed(source.into()),
    };
    match after_signature(settings, keys.verify(&jws), mapped) {
        Ok(Ok(mapped)) => IdTokenAnswer::User(Arc::new(mapped.user)),
        Ok(Err(denial)) => IdTokenAnswer::Denied(denial),
        Err(failure) => IdTokenAnswer::Failed(failure),
    }
}
