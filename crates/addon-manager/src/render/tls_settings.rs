//! The TLS versions and cipher suites of the whole hub, as the proxy-server is told them.

use cluster_proxy_identity::tls::TlsSettings;
use sha2::{Digest as _, Sha256};

use super::error::RenderError;

/// What they are as arguments of a server.
///
/// # Errors
///
/// When a server could not start with them: one that runs with what was good before is better.
pub(super) fn arguments(settings: &TlsSettings) -> Result<Vec<String>, RenderError> {
    settings.profile().map_err(|error| RenderError::Tls {
        cause: error.to_string(),
    })?;
    let mut arguments = vec![format!("--tls-min-version={}", settings.min_version)];
    if !settings.cipher_suites.is_empty() {
        arguments.push(format!(
            "--cipher-suites={}",
            settings.cipher_suites.join(",")
        ));
    }
    Ok(arguments)
}

/// A short hash of them.
pub(super) fn hash(settings: &TlsSettings) -> String {
    let mut sha = Sha256::new();
    sha.update(settings.cipher_suites.join(","));
    sha.update([0]);
    sha.update(&settings.min_version);
    let digest = sha.finalize();
    digest
        .iter()
        .take(HASH_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Bytes of the hash in the annotation: enough to tell settings apart.
const HASH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_what_it_can_start_with() {
        let settings = TlsSettings {
            min_version: "TLSv1.3".to_owned(),
            cipher_suites: ["TLS_AES_128_GCM_SHA256", "B"].map(str::to_owned).into(),
        };
        assert_eq!(
            arguments(&settings).unwrap(),
            [
                "--tls-min-version=TLSv1.3",
                "--cipher-suites=TLS_AES_128_GCM_SHA256,B"
            ]
        );
        assert_ne!(hash(&settings), hash(&TlsSettings::default()));
        assert_eq!(hash(&settings).len(), 16);
        let bad = TlsSettings {
            min_version: "1.9".to_owned(),
            ..settings
        };
        let error = arguments(&bad).unwrap_err();
        assert!(error.to_string().contains("ocm-tls-profile"), "{error}");
    }
}
