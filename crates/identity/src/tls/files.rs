//! PEM files named by flags, and errors that name flag, file and cause in one line.

use std::fmt;
use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The largest PEM file read: CA bundles of whole companies have some 200 KiB.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// A file, and the flag that named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagFile {
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// The file.
    pub path: PathBuf,
}

impl FlagFile {
    /// A file named by a flag.
    pub fn new(flag: &'static str, path: impl Into<PathBuf>) -> Self {
        Self {
            flag,
            path: path.into(),
        }
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, TlsError> {
        let unreadable = |source| TlsError::Unreadable {
            file: self.clone(),
            source,
        };
        let size = std::fs::metadata(&self.path).map_err(unreadable)?.len();
        if size > MAX_PEM_BYTES {
            return Err(self.unusable(format!("larger than {MAX_PEM_BYTES} bytes")));
        }
        std::fs::read(&self.path).map_err(unreadable)
    }

    /// The same, and nothing for a file that is not there.
    pub(super) fn read_if_there(&self) -> Result<Vec<u8>, TlsError> {
        match self.read() {
            Err(TlsError::Unreadable { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(Vec::new())
            }
            read => read,
        }
    }

    pub(super) fn unusable(&self, cause: impl fmt::Display) -> TlsError {
        self.pem(&[]).unusable(cause)
    }

    /// The file's content, which names the file in errors.
    pub(super) fn pem<'a>(&self, bytes: &'a [u8]) -> Pem<'a> {
        Pem {
            name: self.to_string(),
            bytes,
        }
    }
}

impl fmt::Display for FlagFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flag, self.path.display())
    }
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{file}: {}", describe(source))]
    Unreadable {
        /// Which file of which flag.
        file: FlagFile,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is not what its flag asks for.
    #[error("{source_name}: {cause}")]
    Unusable {
        /// Flag and file, or what else the PEM came from.
        source_name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Another crypto provider is installed in this process.
    #[error("a crypto provider is installed already")]
    ProviderInstalled,
}

/// The system's words without its error number, which tells a user nothing.
fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// PEM bytes with the words that name their origin in an error.
pub(super) struct Pem<'a> {
    name: String,
    bytes: &'a [u8],
}

impl<'a> Pem<'a> {
    pub(super) fn new(name: &str, bytes: &'a [u8]) -> Self {
        Self {
            name: name.to_owned(),
            bytes,
        }
    }

    pub(super) fn unusable(&self, cause: impl fmt::Display) -> TlsError {
        TlsError::Unusable {
            source_name: self.name.clone(),
            cause: cause.to_string(),
        }
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(self.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.unusable(format_args!("not PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(self.unusable("no PEM certificate in it"));
        }
        Ok(certificates)
    }

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.bytes)
            .map_err(|_| self.unusable("no PEM private key in it"))
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots
                .add(certificate)
                .map_err(|error| self.unusable(format_args!("not a CA certificate: {error}")))?;
        }
        Ok(roots)
    }
}
