//! The client's side of TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};

use super::files::{FlagFile, Pem, TlsError};
use super::provider;
use super::reloading::{Reloading, Sources};
use super::system;
use super::unverified::Anybody;

/// Where a client's CA, certificate and key lie.
#[derive(Debug, Clone)]
pub struct ClientTlsFiles {
    /// The CA that servers are verified with: nothing else is trusted.
    pub ca: FlagFile,
    /// The client's certificate chain and key, if it shows one.
    pub cert: Option<(FlagFile, FlagFile)>,
    /// Protocols by preference (ALPN).
    pub alpn: Vec<Vec<u8>>,
}

impl ClientTlsFiles {
    fn read(&self) -> Result<Vec<Vec<u8>>, TlsError> {
        let pair = self.cert.iter().flat_map(|(cert, key)| [cert, key]);
        [&self.ca]
            .into_iter()
            .chain(pair)
            .map(FlagFile::read)
            .collect()
    }

    fn build(&self, bytes: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
        let pair = self
            .cert
            .as_ref()
            .map(|(cert, key)| (cert.pem(&bytes[1]), key.pem(&bytes[2])));
        build(self.ca.pem(&bytes[0]).roots()?, pair.as_ref())
    }
}

/// What a client's configuration is made of.
#[derive(Debug)]
enum ClientFiles {
    /// One CA, which must be there.
    Given(ClientTlsFiles),
    /// The CAs of these files, as far as they are there.
    Cas(Vec<FlagFile>),
}

impl Sources for ClientFiles {
    type Config = ClientConfig;

    fn read(&self) -> Result<Vec<Vec<u8>>, TlsError> {
        match self {
            Self::Given(files) => files.read(),
            Self::Cas(files) => files.iter().map(FlagFile::read_if_there).collect(),
        }
    }

    fn build(&self, bytes: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
        let files = match self {
            Self::Given(files) => return files.build(bytes),
            Self::Cas(files) => files,
        };
        let mut roots = RootCertStore::empty();
        for (file, bytes) in files.iter().zip(bytes) {
            if !bytes.is_empty() {
                roots.extend(file.pem(bytes).roots()?.roots);
            }
        }
        build(roots, None)
    }
}

/// A client's TLS configuration; clones share it.
#[derive(Clone)]
pub struct ClientTls {
    shared: Arc<Reloading<ClientFiles>>,
    alpn: Arc<[Vec<u8>]>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names flag, file and cause.
    pub fn load(files: ClientTlsFiles) -> Result<Self, TlsError> {
        let alpn = files.alpn.clone().into();
        let shared = Arc::new(Reloading::load(ClientFiles::Given(files))?);
        Ok(Self { shared, alpn })
    }

    /// Trust in the CAs of all `files`, and in nobody else; no client certificate. A file that is
    /// missing or empty is none until it is there: mounts of ConfigMaps may be optional. Without
    /// any CA no server is trusted.
    ///
    /// # Errors
    /// [`TlsError`] for a file that is there and cannot be used.
    pub fn load_cas(files: Vec<FlagFile>, alpn: Vec<Vec<u8>>) -> Result<Self, TlsError> {
        Ok(Self {
            shared: Arc::new(Reloading::load(ClientFiles::Cas(files))?),
            alpn: alpn.into(),
        })
    }

    /// A configuration from PEM in memory, which never reloads. `cert` is the chain and its key.
    ///
    /// # Errors
    /// [`TlsError::Unusable`].
    pub fn from_pem(
        ca: &[u8],
        cert: Option<(&[u8], &[u8])>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let pair = cert.map(|(cert, key)| {
            (
                Pem::new("client certificate", cert),
                Pem::new("client key", key),
            )
        });
        let config = build(Pem::new("CA", ca).roots()?, pair.as_ref())?;
        Ok(Self::fixed(config, alpn))
    }

    /// Trust in the CAs of this machine, of `files` as they are now and of `more` (PEM, empty for
    /// none); no client certificate, and no reload.
    ///
    /// # Errors
    /// [`TlsError`] for a file that cannot be used, and when there is no CA at all.
    pub fn from_system(
        files: &[FlagFile],
        more: &[u8],
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let mut roots = system::roots();
        for file in files {
            roots.extend(file.pem(&file.read()?).roots()?.roots);
        }
        if !more.is_empty() {
            roots.extend(Pem::new("CA", more).roots()?.roots);
        }
        if roots.is_empty() {
            return Err(Pem::new("CAs of this machine", &[]).unusable("there are none"));
        }
        Ok(Self::fixed(build(roots, None)?, alpn))
    }

    fn fixed(config: ClientConfig, alpn: Vec<Vec<u8>>) -> Self {
        Self {
            shared: Arc::new(Reloading::fixed(config)),
            alpn: alpn.into(),
        }
    }

    /// A client that shakes hands with anybody and shows no certificate: to learn whether a
    /// kube-apiserver whose CA is not known here speaks at all, as a kubelet's HTTPS probes do.
    /// Nothing secret may be sent over it, and nothing that comes over it may be believed.
    #[must_use]
    pub fn without_verification(alpn: Vec<Vec<u8>>) -> Self {
        Self {
            shared: Arc::new(Reloading::fixed(unverified())),
            alpn: alpn.into(),
        }
    }

    /// The newest configuration: ask for it at every handshake.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.shared.config());
        config.alpn_protocols = self.alpn.to_vec();
        Arc::new(config)
    }

    /// The same trust and certificate, offering other protocols; reloads together with this one.
    #[must_use]
    pub fn with_alpn(&self, alpn: &[&[u8]]) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            alpn: alpn.iter().map(|protocol| protocol.to_vec()).collect(),
        }
    }

    /// Reads the files anew; `true` when they had changed and are in use now.
    ///
    /// # Errors
    /// [`TlsError`]: the last good configuration stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.shared.reload()
    }

    /// Looks for changed files every `interval`, for ever; a changed file that cannot be used is
    /// logged once and the last good configuration stays.
    pub async fn keep_fresh(self, interval: Duration) {
        self.shared.keep_fresh(interval).await;
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("files", &self.shared.files)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that builds client configurations"
)]
fn build(
    roots: RootCertStore,
    cert: Option<&(Pem<'_>, Pem<'_>)>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites for both versions")
        .with_root_certificates(roots);
    match cert {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => builder
            .with_client_auth_cert(cert.certificates()?, key.key()?)
            .map_err(|error| key.unusable(super::describe_pair(&error))),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that builds client configurations"
)]
fn unverified() -> ClientConfig {
    let provider = provider();
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth()
}
