//! The TLS versions and cipher suites of the whole hub, as the ConfigMap `ocm-tls-profile` has them.

use std::collections::BTreeMap;

use cluster_proxy_identity::tls::TlsProfile;
use sha2::{Digest as _, Sha256};

use super::error::RenderError;

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

    /// What they are as arguments of a server.
    ///
    /// # Errors
    ///
    /// When a server could not start with them: one that runs with what was good before is better.
    pub(super) fn arguments(&self) -> Result<Vec<String>, RenderError> {
        TlsProfile::parse(&self.min_version, &self.cipher_suites).map_err(|error| {
            RenderError::Tls {
                cause: error.to_string(),
            }
        })?;
        let mut arguments = vec![format!("--tls-min-version={}", self.min_version)];
        if !self.cipher_suites.is_empty() {
            arguments.push(format!("--cipher-suites={}", self.cipher_suites.join(",")));
        }
        Ok(arguments)
    }

    /// A short hash of them.
    pub(super) fn hash(&self) -> String {
        let mut sha = Sha256::new();
        sha.update(self.cipher_suites.join(","));
        sha.update([0]);
        sha.update(&self.min_version);
        let digest = sha.finalize();
        digest
            .iter()
            .take(HASH_BYTES)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// What a server speaks at least, where nobody says otherwise.
const DEFAULT_MIN_VERSION: &str = "VersionTLS12";

/// Bytes of the hash in the annotation: enough to tell settings apart.
const HASH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_leniently() {
        let read = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            TlsSettings::from_config_map(&owned.collect())
        };
        assert_eq!(read(&[]), TlsSettings::default());
        assert_eq!(read(&[("minTLSVersion", " ")]), TlsSettings::default());
        let suites = " TLS_AES_128_GCM_SHA256 , ,B";
        let profile = read(&[("minTLSVersion", "TLSv1.3"), ("cipherSuites", suites)]);
        assert_eq!(
            profile.arguments().unwrap(),
            [
                "--tls-min-version=TLSv1.3",
                "--cipher-suites=TLS_AES_128_GCM_SHA256,B"
            ]
        );
        assert_ne!(profile.hash(), TlsSettings::default().hash());
        assert_eq!(profile.hash().len(), 16);
    }

    #[test]
    fn what_no_server_could_start_with_is_an_error() {
        for (key, value) in [("minTLSVersion", "1.9"), ("cipherSuites", "A,B")] {
            let data = [(key.to_owned(), value.to_owned())].into();
            let error = TlsSettings::from_config_map(&data).arguments().unwrap_err();
            assert!(error.to_string().contains("ocm-tls-profile"), "{error}");
        }
    }
}
