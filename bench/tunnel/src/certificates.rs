//! One CA and its certificates, which all systems share.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use cluster_proxy_tunnel::frontend::FRONTEND_ALPN;

/// A folder of PEM files.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Those that another process generated.
    pub(crate) fn open(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// New ones, into an empty folder.
    pub(crate) fn generate(folder: &Path) -> Result<Self> {
        let here = || vec!["127.0.0.1".to_owned()];
        let ca = CertificateAuthority::generate()?;
        std::fs::write(folder.join("ca.crt"), ca.cert_pem())?;
        for (name, leaf) in [
            ("server", Leaf::proxy_server(here())),
            ("agent-server", Leaf::agent_server(here())),
            ("agent", Leaf::proxy_agent(&"managed".parse()?)),
            ("client", Leaf::proxy_client()),
        ] {
            let issued = ca.issue(&leaf)?;
            std::fs::write(folder.join(format!("{name}.crt")), &issued.cert_pem)?;
            std::fs::write(folder.join(format!("{name}.key")), &issued.key_pem)?;
        }
        Ok(Self::open(folder.to_owned()))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A user of the tunnel.
    pub(crate) fn client_tls(&self) -> Result<ClientTls> {
        self.tls_of("client")
    }

    /// A proxy-agent.
    pub(crate) fn agent_tls(&self) -> Result<ClientTls> {
        self.tls_of("agent")
    }

    fn tls_of(&self, name: &str) -> Result<ClientTls> {
        let cert = self.read(&format!("{name}.crt"))?;
        let key = self.read(&format!("{name}.key"))?;
        let ca = self.read("ca.crt")?;
        Ok(ClientTls::from_pem(&ca, Some((&cert, &key)), Vec::new())?)
    }

    /// A relay, which knows HTTP/2 and HTTP/1.1.
    pub(crate) fn server_tls(&self) -> Result<ServerTls> {
        Ok(ServerTls::from_pem(
            &self.read("server.crt")?,
            &self.read("server.key")?,
            Some(&self.read("ca.crt")?),
            ClientAuth::Required,
            FRONTEND_ALPN.map(<[u8]>::to_vec).to_vec(),
        )?)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.file(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    }
}
