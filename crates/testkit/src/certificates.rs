//! One CA and the certificates of a tunnel's programs, as files for their flags.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cluster_proxy_identity::ca::{CertificateAuthority, Issued, Leaf};
use cluster_proxy_identity::tls::ClientTls;
use tempfile::TempDir;

use crate::konnectivity::ClientCertificate;

/// A new CA's files, in a folder that goes with this.
#[derive(Debug)]
pub struct CertificateFolder {
    ca: CertificateAuthority,
    files: CertificateFiles,
    _folder: TempDir,
}

impl CertificateFolder {
    /// With `server` and `agent-server` for `hosts`, `agent` of the cluster `managed`, and
    /// `client`, which may open tunnels.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn new(hosts: &[&str]) -> Result<Self> {
        let folder = TempDir::new().context("a folder for certificates")?;
        let certificates = Self {
            ca: CertificateAuthority::generate()?,
            files: CertificateFiles::open(folder.path()),
            _folder: folder,
        };
        std::fs::write(certificates.file("ca.crt"), certificates.ca_pem())?;
        let hosts = || hosts.iter().copied().map(str::to_owned).collect();
        for (name, leaf) in [
            ("server", Leaf::proxy_server(hosts())),
            ("agent-server", Leaf::agent_server(hosts())),
            ("agent", Leaf::proxy_agent(&"managed".parse()?)),
            ("client", Leaf::proxy_client()),
        ] {
            certificates.issue(name, &leaf)?;
        }
        Ok(certificates)
    }

    /// One more certificate, or another one in place of what has the name.
    ///
    /// # Errors
    /// When it cannot be signed, or its files cannot be written.
    pub fn issue(&self, name: &str, leaf: &Leaf) -> Result<()> {
        let Issued { cert_pem, key_pem } = self.ca.issue(leaf)?;
        std::fs::write(self.file(&format!("{name}.crt")), cert_pem)?;
        std::fs::write(self.file(&format!("{name}.key")), key_pem)?;
        Ok(())
    }

    /// Trust in the CA, and a new certificate of it that is in no file.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn tls(&self, leaf: &Leaf) -> Result<ClientTls> {
        let Issued { cert_pem, key_pem } = self.ca.issue(leaf)?;
        let pair = (cert_pem.as_bytes(), key_pem.as_bytes());
        Ok(ClientTls::from_pem(
            self.ca_pem().as_bytes(),
            Some(pair),
            vec![],
        )?)
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca.cert_pem()
    }
}

impl Deref for CertificateFolder {
    type Target = CertificateFiles;

    fn deref(&self) -> &CertificateFiles {
        &self.files
    }
}

/// `ca.crt`, and `<name>.crt` with `<name>.key` of each certificate.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    folder: PathBuf,
}

impl CertificateFiles {
    /// Those of a folder, which another process may have made.
    pub fn open(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of one.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `--<flag>=` with the path of one.
    #[must_use]
    pub fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.file(name).display())
    }

    /// A proxy-server's, for its clients.
    #[must_use]
    pub fn frontend_flags(&self) -> [String; 3] {
        [
            self.flag("server-cert", "server.crt"),
            self.flag("server-key", "server.key"),
            self.flag("server-ca-cert", "ca.crt"),
        ]
    }

    /// A proxy-server's, for its agents.
    #[must_use]
    pub fn agent_port_flags(&self) -> [String; 3] {
        [
            self.flag("cluster-cert", "agent-server.crt"),
            self.flag("cluster-key", "agent-server.key"),
            self.flag("cluster-ca-cert", "ca.crt"),
        ]
    }

    /// A proxy-agent's.
    #[must_use]
    pub fn agent_flags(&self) -> [String; 3] {
        [
            self.flag("agent-cert", "agent.crt"),
            self.flag("agent-key", "agent.key"),
            self.flag("ca-cert", "ca.crt"),
        ]
    }

    /// What konnectivity's client shows.
    #[must_use]
    pub fn client_certificate(&self) -> ClientCertificate {
        ClientCertificate {
            ca: self.file("ca.crt"),
            cert: self.file("client.crt"),
            key: self.file("client.key"),
        }
    }

    /// Trust in the CA, and the certificate of this name.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn client_tls(&self, name: &str) -> Result<ClientTls> {
        let cert = self.read(&format!("{name}.crt"))?;
        let key = self.read(&format!("{name}.key"))?;
        let ca = self.read("ca.crt")?;
        Ok(ClientTls::from_pem(&ca, Some((&cert, &key)), vec![])?)
    }

    /// What is in a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.file(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    }
}
