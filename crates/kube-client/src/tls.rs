//! Trust and client certificate of a connection, from PEM in a kubeconfig or in files.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_identity::tls::{ClientTls, FlagFile, TlsError};
use kube::client::ConfigExt;
use rustls::ClientConfig;

use crate::error::ConnectionError;
use crate::refreshed::Refreshed;

/// Whom to trust as the server.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// The CAs in this PEM.
    Roots(PemSource),
    /// The CAs of this machine, as Go programs do when a kubeconfig names none.
    System,
    /// Anybody: only where a kubeconfig says `insecure-skip-tls-verify`.
    Insecure,
}

/// PEM, and where it comes from.
#[derive(Clone)]
pub(crate) enum PemSource {
    Inline(Vec<u8>),
    File(FlagFile),
}

/// What TLS configurations are made from, and the newest ones made.
#[derive(Debug)]
pub(crate) struct TlsMaterial {
    owner: FlagFile,
    sources: Sources,
    current: Refreshed<TlsGeneration>,
}

#[derive(Debug)]
struct Sources {
    trust: Trust,
    identity: Option<(PemSource, PemSource)>,
}

/// The configurations made from one reading of the files.
pub(crate) struct TlsGeneration {
    bytes: Bytes,
    anonymous: Arc<ClientConfig>,
    identified: Arc<ClientConfig>,
}

/// The PEM as read: a difference means that the files have changed.
#[derive(PartialEq, Eq)]
struct Bytes {
    ca: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsMaterial {
    /// Reads everything once. `owner` stands in error messages for what is inline.
    pub(crate) fn load(
        owner: FlagFile,
        trust: Trust,
        identity: Option<(PemSource, PemSource)>,
    ) -> Result<Self, ConnectionError> {
        let sources = Sources { trust, identity };
        let bytes = sources.read()?;
        let current = Refreshed::new(sources.build(&owner, bytes)?);
        Ok(Self {
            owner,
            sources,
            current,
        })
    }

    pub(crate) fn has_identity(&self) -> bool {
        self.sources.identity.is_some()
    }

    pub(crate) fn current(&self) -> Arc<TlsGeneration> {
        self.current.get(&self.owner, |old| {
            let bytes = self.sources.read()?;
            if bytes == old.bytes {
                return Ok(None);
            }
            self.sources.build(&self.owner, bytes).map(Some)
        })
    }
}

impl TlsGeneration {
    /// PEM of the CAs that are trusted; empty if they are not given as PEM.
    pub(crate) fn ca(&self) -> &[u8] {
        &self.bytes.ca
    }

    pub(crate) fn config(&self, with_identity: bool) -> &ClientConfig {
        if with_identity {
            &self.identified
        } else {
            &self.anonymous
        }
    }
}

impl Sources {
    fn read(&self) -> Result<Bytes, ConnectionError> {
        let ca = match &self.trust {
            Trust::Roots(source) => source.read()?,
            Trust::System | Trust::Insecure => Vec::new(),
        };
        let identity = match &self.identity {
            Some((certificate, key)) => Some((certificate.read()?, key.read()?)),
            None => None,
        };
        Ok(Bytes { ca, identity })
    }

    fn build(&self, owner: &FlagFile, bytes: Bytes) -> Result<TlsGeneration, ConnectionError> {
        let config = |identity: Option<(&[u8], &[u8])>| match self.trust {
            Trust::Roots(_) => ClientTls::from_pem(&bytes.ca, identity, Vec::new())
                .map(|tls| tls.config())
                .map_err(|error| self.blame(owner, &error)),
            Trust::System => through_kube(owner, false, identity),
            Trust::Insecure => through_kube(owner, true, identity),
        };
        let anonymous = config(None)?;
        let identified = match &bytes.identity {
            Some((certificate, key)) => config(Some((certificate, key)))?,
            None => Arc::clone(&anonymous),
        };
        Ok(TlsGeneration {
            bytes,
            anonymous,
            identified,
        })
    }

    /// An error that names the files where there are any, since the kubeconfig itself is fine
    /// then.
    fn blame(&self, owner: &FlagFile, error: &TlsError) -> ConnectionError {
        let mut cause = error.to_string();
        let ca = match &self.trust {
            Trust::Roots(source) => Some(source),
            Trust::System | Trust::Insecure => None,
        };
        let (certificate, key) = match &self.identity {
            Some((certificate, key)) => (Some(certificate), Some(key)),
            None => (None, None),
        };
        let sources = [ca, certificate, key]
            .into_iter()
            .zip(["CA", "certificate", "key"]);
        for (source, name) in sources {
            if let Some(PemSource::File(file)) = source {
                cause.push_str(&format!("; {name}: {}", file.path.display()));
            }
        }
        ConnectionError::Unusable {
            file: owner.clone(),
            cause,
        }
    }
}

impl PemSource {
    fn read(&self) -> Result<Vec<u8>, ConnectionError> {
        match self {
            Self::Inline(bytes) => Ok(bytes.clone()),
            Self::File(file) => {
                std::fs::read(&file.path).map_err(|source| ConnectionError::Unreadable {
                    file: file.clone(),
                    source,
                })
            }
        }
    }
}

impl std::fmt::Debug for TlsGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsGeneration")
    }
}

impl std::fmt::Debug for PemSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("inline"),
            Self::File(file) => write!(f, "{file}"),
        }
    }
}

/// The two kinds of trust that the rest of the project has no use for, as kube builds them.
fn through_kube(
    owner: &FlagFile,
    insecure: bool,
    identity: Option<(&[u8], &[u8])>,
) -> Result<Arc<ClientConfig>, ConnectionError> {
    let mut config = kube::Config::new(http::Uri::from_static("https://unused.invalid"));
    config.accept_invalid_certs = insecure;
    if let Some((certificate, key)) = identity {
        config.auth_info.client_certificate_data = Some(STANDARD.encode(certificate));
        config.auth_info.client_key_data = Some(STANDARD.encode(key).into());
    }
    config
        .rustls_client_config()
        .map(Arc::new)
        .map_err(|error| ConnectionError::Unusable {
            file: owner.clone(),
            cause: error.to_string(),
        })
}
