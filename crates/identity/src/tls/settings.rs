//! A TLS profile in the words of flags and of the ConfigMap `ocm-tls-profile`.

use std::collections::BTreeMap;

use super::profile::{TlsProfile, TlsProfileError};

/// The TLS versions and cipher suites of a server. Of the cipher suites, the server skips those that
/// it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// `VersionTLS12` or `TLSv1.2`, and so on.
    pub min_version: String,
    /// Names as Go has them; empty is every good one.
    pub cipher_suites: Vec<String>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            min_version: DEFAULT_MIN_VERSION.to_owned(),
            cipher_suites: Vec::new(),
        }
    }
}

impl TlsSettings {
    /// Reads the data of the ConfigMap `ocm-tls-profile`; what is not there is as without it.
    #[must_use]
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| data.get(key).map_or("", |value| value.trim());
        let min_version = match text("minTLSVersion") {
            "" => DEFAULT_MIN_VERSION,
            version => version,
        };
        let cipher_suites = text("cipherSuites").split(',').map(str::trim);
        Self {
            min_version: min_version.to_owned(),
            cipher_suites: cipher_suites
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }

    /// What a server takes by them, and the cipher suites that it skips.
    ///
    /// # Errors
    /// When a server could not start with them: one that runs with what was good before is better.
    pub fn profile(&self) -> Result<(TlsProfile, Vec<String>), TlsProfileError> {
        TlsProfile::parse(&self.min_version, &self.cipher_suites)
    }
}

/// What a server speaks at least, where nobody says otherwise.
const DEFAULT_MIN_VERSION: &str = "VersionTLS12";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> TlsSettings {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        TlsSettings::from_config_map(&owned.collect())
    }

    #[test]
    fn a_profile_is_read_leniently() {
        assert_eq!(read(&[]), TlsSettings::default());
        assert_eq!(read(&[("minTLSVersion", " ")]), TlsSettings::default());
        let suites = " TLS_AES_128_GCM_SHA256 , ,B";
        let settings = read(&[("minTLSVersion", "TLSv1.3"), ("cipherSuites", suites)]);
        assert_eq!(settings.min_version, "TLSv1.3");
        assert_eq!(settings.cipher_suites, ["TLS_AES_128_GCM_SHA256", "B"]);
        assert_eq!(settings.profile().unwrap().1, ["B"]);
    }

    #[test]
    fn what_no_server_could_start_with_is_an_error() {
        for pair in [("minTLSVersion", "1.9"), ("cipherSuites", "A,B")] {
            read(&[pair]).profile().unwrap_err();
        }
    }
}
