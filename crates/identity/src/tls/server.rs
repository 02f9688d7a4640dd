//! The server's side of TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::files::{FlagFile, Pem, TlsError};
use super::profile::TlsProfile;
use super::provider;
use super::reloading::{Reloading, Sources};

/// Whether a client must, may or need not show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    Off,
    /// One is asked for; whoever shows none is anonymous. A wrong one ends the handshake.
    Optional,
    /// No handshake without one.
    Required,
}

/// Where a server's certificate, key and client CA lie.
#[derive(Debug, Clone)]
pub struct ServerTlsFiles {
    /// The certificate chain, end entity first.
    pub cert: FlagFile,
    /// Its private key.
    pub key: FlagFile,
    /// The CA of client certificates; needed unless `client_auth` is off.
    pub client_ca: Option<FlagFile>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// Protocols by preference (ALPN).
    pub alpn: Vec<Vec<u8>>,
}

/// Files, and what changes without them.
#[derive(Debug)]
struct ServerSources {
    files: ServerTlsFiles,
    profile: ArcSwap<TlsProfile>,
}

impl Sources for ServerSources {
    type Config = ServerConfig;

    fn read(&self) -> Result<Vec<Vec<u8>>, TlsError> {
        let files = &self.files;
        [
            Some(&files.cert),
            Some(&files.key),
            files.client_ca.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(FlagFile::read)
        .collect()
    }

    fn build(&self, bytes: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
        let files = &self.files;
        build(
            &files.cert.pem(&bytes[0]),
            &files.key.pem(&bytes[1]),
            files
                .client_ca
                .as_ref()
                .map(|file| file.pem(&bytes[2]))
                .as_ref(),
            files.client_auth,
            files.alpn.clone(),
            &self.profile.load(),
        )
    }
}

/// A server's TLS configuration; clones share it.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Reloading<ServerSources>>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names flag, file and cause: unreadable, not PEM, a key that does not belong
    /// to the certificate.
    pub fn load(files: ServerTlsFiles) -> Result<Self, TlsError> {
        Self::load_with(files, TlsProfile::default())
    }

    /// Reads the files; handshakes take the versions and cipher suites of `profile` alone.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(files: ServerTlsFiles, profile: TlsProfile) -> Result<Self, TlsError> {
        let profile = ArcSwap::from_pointee(profile);
        let shared = Arc::new(Reloading::load(ServerSources { files, profile })?);
        Ok(Self { shared })
    }

    /// A configuration from PEM in memory, which never reloads.
    ///
    /// # Errors
    /// [`TlsError::Unusable`].
    pub fn from_pem(
        cert: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
        client_auth: ClientAuth,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let config = build(
            &Pem::new("certificate", cert),
            &Pem::new("private key", key),
            client_ca.map(|bytes| Pem::new("client CA", bytes)).as_ref(),
            client_auth,
            alpn,
            &TlsProfile::default(),
        )?;
        let shared = Arc::new(Reloading::fixed(config));
        Ok(Self { shared })
    }

    /// The newest configuration: ask for it at every handshake.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.shared.config()
    }

    /// Reads the files anew; `true` when they had changed and are in use now.
    ///
    /// # Errors
    /// [`TlsError`]: the last good configuration stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.shared.reload()
    }

    /// Takes the versions and cipher suites of `profile` from the next handshake on; `true` when
    /// they are others than before. One of PEM in memory keeps its own.
    ///
    /// # Errors
    /// [`TlsError`] when the files cannot be read now: the last good configuration stays, with the
    /// profile that it had.
    pub fn set_profile(&self, profile: TlsProfile) -> Result<bool, TlsError> {
        let Some(sources) = &self.shared.files else {
            return Ok(false);
        };
        if **sources.profile.load() == profile {
            return Ok(false);
        }
        let before = sources.profile.swap(Arc::new(profile));
        self.shared
            .rebuild()
            .inspect_err(|_| sources.profile.store(before))?;
        Ok(true)
    }

    /// Looks for changed files every `interval`, for ever; a changed file that cannot be used is
    /// logged once and the last good configuration stays.
    pub async fn keep_fresh(self, interval: Duration) {
        self.shared.keep_fresh(interval).await;
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("files", &self.shared.files)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that builds server configurations"
)]
fn build(
    cert: &Pem<'_>,
    key: &Pem<'_>,
    client_ca: Option<&Pem<'_>>,
    client_auth: ClientAuth,
    alpn: Vec<Vec<u8>>,
    profile: &TlsProfile,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(profile.provider())
        .with_protocol_versions(profile.versions())
        .expect("a profile has suites for its versions");
    let builder = match client_auth {
        ClientAuth::Off => builder.with_no_client_auth(),
        ClientAuth::Optional | ClientAuth::Required => {
            let ca = client_ca.ok_or_else(|| cert.unusable("no CA for client certificates"))?;
            let roots: Arc<RootCertStore> = Arc::new(ca.roots()?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if client_auth == ClientAuth::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| ca.unusable(e))?)
        }
    };
    let mut config = builder
        .with_single_cert(cert.certificates()?, key.key()?)
        .map_err(|error| key.unusable(super::describe_pair(&error)))?;
    if client_auth != ClientAuth::Off {
        // A resumed session skips the check of the client's certificate: one from before a change
        // of CA, or expired since, would still count.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = alpn;
    Ok(config)
}
