//! What the `--oidc-*` flags say, checked.

use http::Uri;

use super::claims::{Denial, Mapped};
use crate::jws::Header;
use crate::verifying_key::SigningAlgorithm;

/// Which ID tokens are accepted, and who their users are. The fields that are public have no rule
/// between them.
#[derive(Debug, Clone)]
pub struct OidcSettings {
    issuer: String,
    discovery: Uri,
    client_id: String,
    username_claim: String,
    username_prefix: String,
    groups: Option<(String, String)>,
    reserved: Vec<String>,
    /// Algorithms that may have signed a token.
    pub algorithms: Vec<SigningAlgorithm>,
    /// Claims that a token must have, as strings with just these values.
    pub required_claims: Vec<(String, String)>,
}

/// Why settings make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OidcSettingsError {
    /// Not a URL that an issuer may have (OpenID Connect Discovery, section 3).
    #[error("the issuer {0:?} is not an https:// URL without user, query and fragment")]
    Issuer(String),
    /// No client id: every token of the issuer would be accepted.
    #[error("the client id is empty")]
    ClientId,
    /// A user must have a name.
    #[error("the username claim is empty")]
    UsernameClaim,
    /// Every name begins with it.
    #[error("a reserved prefix is empty: every name begins with it")]
    EmptyReservedPrefix,
}

impl OidcSettings {
    /// Tokens of `issuer` for `client_id`: the user's name is `<issuer>#<sub>`, there are no
    /// groups, names that begin with `system:` are reserved, and RS256 signs.
    ///
    /// # Errors
    /// [`OidcSettingsError::Issuer`] and [`OidcSettingsError::ClientId`].
    pub fn new(issuer: &str, client_id: &str) -> Result<Self, OidcSettingsError> {
        let discovery =
            discovery_of(issuer).ok_or_else(|| OidcSettingsError::Issuer(issuer.to_owned()))?;
        if client_id.is_empty() {
            return Err(OidcSettingsError::ClientId);
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            discovery,
            client_id: client_id.to_owned(),
            username_claim: "sub".to_owned(),
            username_prefix: format!("{issuer}#"),
            groups: None,
            reserved: vec!["system:".to_owned()],
            algorithms: vec![SigningAlgorithm::Rs256],
            required_claims: Vec::new(),
        })
    }

    /// Takes the user's name from `claim`, with `prefix` before it: empty for `<issuer>#` (none
    /// for the claim `email`), `-` for none.
    ///
    /// # Errors
    /// [`OidcSettingsError::UsernameClaim`].
    pub fn username(mut self, claim: &str, prefix: &str) -> Result<Self, OidcSettingsError> {
        if claim.is_empty() {
            return Err(OidcSettingsError::UsernameClaim);
        }
        claim.clone_into(&mut self.username_claim);
        self.username_prefix = match prefix {
            "-" => String::new(),
            "" if claim == EMAIL => String::new(),
            "" => format!("{}#", self.issuer),
            prefix => prefix.to_owned(),
        };
        Ok(self)
    }

    /// Takes the groups from `claim` (none if it is empty), with `prefix` before each.
    #[must_use]
    pub fn groups(mut self, claim: &str, prefix: &str) -> Self {
        self.groups = (!claim.is_empty()).then(|| (claim.to_owned(), prefix.to_owned()));
        self
    }

    /// Refuses users and groups whose names, with their prefixes, begin with one of these.
    ///
    /// # Errors
    /// [`OidcSettingsError::EmptyReservedPrefix`].
    pub fn reserved(mut self, prefixes: Vec<String>) -> Result<Self, OidcSettingsError> {
        if prefixes.iter().any(String::is_empty) {
            return Err(OidcSettingsError::EmptyReservedPrefix);
        }
        self.reserved = prefixes;
        Ok(self)
    }

    /// The issuer, as it stands in tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) const fn discovery(&self) -> &Uri {
        &self.discovery
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn username_claim(&self) -> &str {
        &self.username_claim
    }

    pub(super) fn username_prefix(&self) -> &str {
        &self.username_prefix
    }

    /// Claim and prefix.
    pub(super) fn groups_claim(&self) -> Option<(&str, &str)> {
        self.groups
            .as_ref()
            .map(|(claim, prefix)| (claim.as_str(), prefix.as_str()))
    }

    /// Whether a token with this header may be verified at all.
    pub(super) fn allows(&self, header: &Header) -> Result<(), Denial> {
        // RFC 7515, section 4.1.11: who does not understand an extension must refuse.
        if header.crit.is_some() {
            return Err(Denial::CriticalExtension);
        }
        match header.alg.parse() {
            Ok(algorithm) if self.algorithms.contains(&algorithm) => Ok(()),
            Ok(_) | Err(_) => Err(Denial::Algorithm),
        }
    }

    pub(super) fn unreserved(&self, mapped: Mapped) -> Result<Mapped, Denial> {
        let user = &mapped.user;
        let mut names = std::iter::once(&user.name).chain(&user.groups);
        let reserved = |name: &&String| {
            let mut prefixes = self.reserved.iter();
            prefixes.any(|prefix| name.starts_with(prefix.as_str()))
        };
        match names.find(reserved) {
            Some(name) => Err(Denial::ReservedName { name: name.clone() }),
            None => Ok(mapped),
        }
    }
}

/// Where the provider describes itself; `None` for what cannot be an issuer.
fn discovery_of(issuer: &str) -> Option<Uri> {
    let rest = issuer.strip_prefix("https://")?;
    let forbidden = |byte: u8| matches!(byte, b'?' | b'#' | b'@') || !byte.is_ascii_graphic();
    if rest.is_empty() || rest.bytes().any(forbidden) {
        return None;
    }
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    let url: Uri = format!("{issuer}{WELL_KNOWN}").parse().ok()?;
    url.host().filter(|host| !host.is_empty())?;
    Some(url)
}

/// The claim without a default prefix, since an e-mail address names its issuer by itself.
pub(super) const EMAIL: &str = "email";

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_https_urls() {
        for (issuer, discovery) in [
            ("https://a", "https://a/.well-known/openid-configuration"),
            ("https://a/", "https://a/.well-known/openid-configuration"),
            (
                "https://a:8443/realms/x",
                "https://a:8443/realms/x/.well-known/openid-configuration",
            ),
            (
                "https://[::1]:1",
                "https://[::1]:1/.well-known/openid-configuration",
            ),
        ] {
            let settings = OidcSettings::new(issuer, "c").expect(issuer);
            assert_eq!(settings.discovery().to_string(), discovery);
            assert_eq!(settings.issuer(), issuer);
        }
        for issuer in [
            "",
            "a",
            "http://a",
            "HTTPS://a",
            "https://",
            "https:///a",
            "https://u@a",
            "https://a?b",
            "https://a/#b",
            "https://a b",
            "https://:443",
            "https://ä",
        ] {
            let error = OidcSettings::new(issuer, "c").unwrap_err();
            assert_eq!(error, OidcSettingsError::Issuer(issuer.to_owned()));
        }
        let error = OidcSettings::new("https://a", "").unwrap_err();
        assert_eq!(error, OidcSettingsError::ClientId);
    }

    #[test]
    fn a_name_gets_the_issuer_before_it_unless_told_otherwise() {
        for (claim, prefix, expected) in [
            ("sub", "", "https://a#"),
            ("sub", "-", ""),
            ("sub", "oidc:", "oidc:"),
            ("email", "", ""),
            ("email", "-", ""),
            ("email", "mail:", "mail:"),
        ] {
            let settings = OidcSettings::new("https://a", "c").expect("settings");
            let settings = settings.username(claim, prefix).expect("a claim");
            assert_eq!(settings.username_prefix(), expected, "{claim} {prefix}");
        }
        let settings = OidcSettings::new("https://a", "c").expect("settings");
        assert_eq!(settings.username_prefix(), "https://a#");
        assert!(settings.clone().username("", "x").is_err());
        assert!(settings.reserved(vec![String::new()]).is_err());
    }
}
