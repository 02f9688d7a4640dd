//! From a bearer token to who it is.
//!
//! Each answer is a type in which a question that failed cannot be read as a "no": a token is sent
//! to another cluster only after a "no", so a failure that passed for one would let it leave.
//!
//! [`TokenReviewer`] asks a kube-apiserver, [`CachedReviewer`] remembers for seconds,
//! [`HubKeys`] knows what the hub has signed, and [`HubAuthenticator`] puts them together.
//! [`Oidc`] verifies ID tokens of one OpenID provider. [`AccessReviewer`] asks what somebody may do.

mod access;
mod api;
mod cache;
mod flights;
mod fresh_keys;
mod hub;
mod hub_keys;
mod jws;
mod key_set;
mod oidc;
mod review;
mod shelf;
mod verdict;
mod verifying_key;

#[cfg(test)]
mod fake;

pub use access::{Access, AccessReviewer};
pub use api::ApiError;
pub use cache::{CachedReviewer, DEFAULT_CACHE_TTL};
pub use hub::{HubAnswer, HubAuthenticator, HubFailure};
pub use hub_keys::{HubKeys, HubKeysError, Signature};
pub use oidc::{
    Denial, HttpsError, IdTokenAnswer, Oidc, OidcFailure, OidcSettings, OidcSettingsError,
    OidcTrust, OidcTrustReceiver, ProviderError, id_token_answer,
};
pub use review::{REVIEW_DEADLINE, Review, ReviewError, TokenReviewer};
pub use verifying_key::{SigningAlgorithm, UnknownAlgorithm};
