//! Which TLS versions and cipher suites a server takes, in the words of Go and Kubernetes.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use super::provider;

/// The versions and cipher suites of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsProfile {
    /// TLS 1.2 is refused.
    only_tls13: bool,
    /// The suites of TLS 1.2, by name; all good ones where there is no list. Those of TLS 1.3 are
    /// not for choosing, in Go as here.
    tls12_suites: Option<Vec<String>>,
}

impl TlsProfile {
    /// Reads `--tls-min-version` (`VersionTLS12` or `TLSv1.2`; empty is 1.2) and `--cipher-suites`
    /// (names as Go and IANA write them; empty is all good ones). Also gives the names in the list
    /// that mean nothing here, for a warning: without them the rest is used.
    ///
    /// A minimum below TLS 1.2 is raised to it.
    ///
    /// # Errors
    /// A version that is none, and a list in which no suite is known.
    pub fn parse(
        min_version: &str,
        cipher_suites: &[String],
    ) -> Result<(Self, Vec<String>), TlsProfileError> {
        let only_tls13 = match min_version {
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" | "TLSv1.0" | "TLSv1.1"
            | "TLSv1.2" => false,
            "VersionTLS13" | "TLSv1.3" => true,
            _ => {
                return Err(TlsProfileError::Version {
                    given: min_version.to_owned(),
                });
            }
        };
        let wanted = cipher_suites
            .iter()
            .map(|name| name.trim())
            .filter(|name| !name.is_empty());
        let (known, unknown): (Vec<String>, Vec<String>) = wanted
            .map(|name| modern_name(name).to_owned())
            .partition(|name| is_known(name));
        if known.is_empty() && !unknown.is_empty() {
            return Err(TlsProfileError::CipherSuites {
                given: unknown.join(","),
            });
        }
        let profile = Self {
            only_tls13,
            tls12_suites: (!known.is_empty()).then_some(known),
        };
        Ok((profile, unknown))
    }

    /// The provider with these suites alone.
    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        let provider = provider();
        let Some(wanted) = &self.tls12_suites else {
            return provider;
        };
        let mut chosen = CryptoProvider::clone(&provider);
        chosen.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || wanted.iter().any(|name| *name == name_of(suite))
        });
        Arc::new(chosen)
    }

    /// The versions, of which at least one has a suite of [`Self::provider`].
    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        let has_tls12_suite = self.tls12_suites.as_ref().is_none_or(|wanted| {
            let suites = provider();
            let mut tls12 = suites.cipher_suites.iter().filter(|s| s.tls13().is_none());
            tls12.any(|suite| wanted.iter().any(|name| *name == name_of(suite)))
        });
        if self.only_tls13 || !has_tls12_suite {
            &ONLY_TLS13
        } else {
            &TLS13_AND_TLS12
        }
    }
}

static ONLY_TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
static TLS13_AND_TLS12: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

/// Go's own names from before the suites were standards.
fn modern_name(name: &str) -> &str {
    match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

fn is_known(name: &str) -> bool {
    let suites = provider();
    suites
        .cipher_suites
        .iter()
        .any(|suite| name == name_of(suite))
}

/// As Go and IANA write it: rustls has a prefix of its own for TLS 1.3.
fn name_of(suite: &SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

/// What no TLS configuration can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsProfileError {
    /// No version.
    #[error("{given:?} is none of VersionTLS12, VersionTLS13")]
    Version {
        /// What was given.
        given: String,
    },
    /// Suites of which none can be used.
    #[error("none of these cipher suites is known: {given}")]
    CipherSuites {
        /// What was given.
        given: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn names(profile: &TlsProfile) -> Vec<String> {
        profile
            .provider()
            .cipher_suites
            .iter()
            .map(name_of)
            .collect()
    }

    #[test]
    fn versions_as_go_and_as_openssl_write_them() {
        for (text, count) in [
            ("", 2),
            ("VersionTLS10", 2),
            ("VersionTLS12", 2),
            ("TLSv1.2", 2),
            ("VersionTLS13", 1),
            ("TLSv1.3", 1),
        ] {
            let (profile, _) = TlsProfile::parse(text, &[]).unwrap();
            assert_eq!(profile.versions().len(), count, "{text}");
        }
        for bad in ["1.2", "versiontls12", "VersionTLS14"] {
            assert!(TlsProfile::parse(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn suites_are_chosen_by_name_and_unknown_ones_told() {
        let list = suites(&[
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            " TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            "TLS_RSA_WITH_AES_128_CBC_SHA",
            "",
        ]);
        let (profile, unknown) = TlsProfile::parse("", &list).unwrap();
        assert_eq!(unknown, ["TLS_RSA_WITH_AES_128_CBC_SHA"]);
        let names = names(&profile);
        let tls12: Vec<_> = names.iter().filter(|name| name.contains("ECDHE")).collect();
        assert_eq!(tls12.len(), 2, "{names:?}");
        assert!(
            names.contains(&"TLS_AES_128_GCM_SHA256".to_owned()),
            "{names:?}"
        );
        assert_eq!(profile.versions().len(), 2);

        let nothing = suites(&["TLS_RSA_WITH_RC4_128_SHA", "x"]);
        let error = TlsProfile::parse("", &nothing).unwrap_err();
        assert_eq!(
            error.to_string(),
            "none of these cipher suites is known: TLS_RSA_WITH_RC4_128_SHA,x"
        );
    }

    #[test]
    fn suites_of_tls13_alone_leave_tls13_alone() {
        let list = suites(&["TLS_AES_256_GCM_SHA384"]);
        let (profile, unknown) = TlsProfile::parse("VersionTLS12", &list).unwrap();
        assert!(unknown.is_empty());
        assert_eq!(profile.versions().len(), 1);
        assert_eq!(names(&profile).len(), 3);
    }
}
