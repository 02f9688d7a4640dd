//! The OpenID provider: what it says of itself (OpenID Connect Discovery), and its keys.

use std::time::Duration;

use cluster_proxy_identity::tls::ClientTls;
use http::Uri;
use serde::Deserialize;

use super::https::{self, HttpsError};
use super::settings::OidcSettings;
use crate::fresh_keys::KeySource;
use crate::key_set::KeySet;

pub(super) struct Provider {
    issuer: String,
    discovery: Uri,
    tls: ClientTls,
}

/// Why the provider's keys cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// What it says of itself cannot be fetched.
    #[error("its discovery document cannot be fetched")]
    Discovery {
        /// Why.
        source: HttpsError,
    },
    /// Its keys cannot be fetched.
    #[error("its keys cannot be fetched")]
    Keys {
        /// Why.
        source: HttpsError,
    },
    /// It says of itself what makes no sense.
    #[error("its discovery document makes no sense: {what}")]
    Malformed {
        /// What about it.
        what: &'static str,
    },
    /// It says that it is another issuer.
    #[error("its discovery document says that the issuer is {found:?}, not {expected:?}")]
    AnotherIssuer {
        /// The issuer as it should be.
        expected: String,
        /// What it says.
        found: String,
    },
    /// Its keys are no key set, or an empty one.
    #[error("its keys make no sense: {what}")]
    MalformedKeys {
        /// What about them.
        what: &'static str,
    },
    /// No answer in time.
    #[error("it did not answer within {} s", FETCH_DEADLINE.as_secs())]
    TimedOut,
}

impl ProviderError {
    /// A word for metrics and logs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Discovery { .. } | Self::Keys { .. } => "provider-unreachable",
            Self::Malformed { .. } | Self::AnotherIssuer { .. } => "discovery-malformed",
            Self::MalformedKeys { .. } => "keys-malformed",
            Self::TimedOut => "provider-timeout",
        }
    }
}

impl Provider {
    pub(super) fn new(settings: &OidcSettings, tls: ClientTls) -> Self {
        Self {
            issuer: settings.issuer().to_owned(),
            discovery: settings.discovery().clone(),
            tls,
        }
    }
}

impl KeySource for Provider {
    type Error = ProviderError;

    const OWNER: &'static str = "the OIDC issuer";
    const DEADLINE: Duration = FETCH_DEADLINE;

    async fn fetch(&self) -> Result<KeySet, ProviderError> {
        let document = https::get(&self.tls, &self.discovery)
            .await
            .map_err(|source| ProviderError::Discovery { source })?;
        let keys = keys_of(&document, &self.issuer)?;
        let keys = https::get(&self.tls, &keys)
            .await
            .map_err(|source| ProviderError::Keys { source })?;
        parse_keys(&keys)
    }

    fn timed_out() -> ProviderError {
        ProviderError::TimedOut
    }
}

fn parse_keys(key_set: &[u8]) -> Result<KeySet, ProviderError> {
    KeySet::parse(key_set, MAX_KEYS).map_err(|what| ProviderError::MalformedKeys { what })
}

/// The keys of a provider that has answered already.
pub(super) fn read_keys(
    document: &[u8],
    issuer: &str,
    key_set: &[u8],
) -> Result<KeySet, ProviderError> {
    keys_of(document, issuer)?;
    parse_keys(key_set)
}

/// Where the keys are, by a document that must be of just this issuer.
fn keys_of(document: &[u8], issuer: &str) -> Result<Uri, ProviderError> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let document: Document =
        serde_json::from_slice(document).map_err(|_| ProviderError::Malformed {
            what: "no issuer and jwks_uri in it",
        })?;
    if document.issuer != issuer {
        return Err(ProviderError::AnotherIssuer {
            expected: issuer.to_owned(),
            found: document.issuer.chars().take(MAX_SHOWN_CHARS).collect(),
        });
    }
    document
        .jwks_uri
        .parse()
        .map_err(|_| ProviderError::Malformed {
            what: "its jwks_uri is not a URL",
        })
}

/// How long both requests of a fetch may take together.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// Providers of many tenants publish a dozen.
const MAX_KEYS: usize = 64;

/// What a log line takes of a foreign issuer's name.
const MAX_SHOWN_CHARS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_issuers_own_document_counts() {
        let keys = |document: &str| keys_of(document.as_bytes(), "https://a/x");
        let found = keys(r#"{"issuer":"https://a/x","jwks_uri":"https://b/keys","more":1}"#);
        assert_eq!(found.expect("keys").to_string(), "https://b/keys");
        for (document, reason) in [
            (
                r#"{"issuer":"https://a/x/","jwks_uri":"https://b"}"#,
                "another",
            ),
            (
                r#"{"issuer":"https://A/x","jwks_uri":"https://b"}"#,
                "another",
            ),
            (r#"{"issuer":"https://a/x"}"#, "malformed"),
            (r#"{"jwks_uri":"https://b"}"#, "malformed"),
            (
                r#"{"issuer":"https://a/x","jwks_uri":"ht tp"}"#,
                "malformed",
            ),
            ("<html>", "malformed"),
            ("", "malformed"),
        ] {
            let error = keys(document).unwrap_err();
            let found = match error {
                ProviderError::AnotherIssuer { .. } => "another",
                ProviderError::Malformed { .. } => "malformed",
                other => panic!("{other}"),
            };
            assert_eq!(found, reason, "{document}");
        }
    }
}
