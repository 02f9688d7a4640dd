//! rathole, which forwards a port of its server to one target of its client: TLS between the two,
//! plain TCP in front.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::certificates::CertificateFolder;
use cluster_proxy_testkit::free_port;
use cluster_proxy_testkit::process::Running;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::system::until;
use crate::target::Targets;

/// The program, its server's key, and the targets that it shall lead to.
#[derive(Debug)]
pub(crate) struct Rathole {
    program: PathBuf,
    folder: tempfile::TempDir,
    trusted_root: PathBuf,
    echo: SocketAddr,
    bulk: SocketAddr,
}

/// Both ends, connected.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) server: SocketAddr,
    pub(crate) hub: Running,
    pub(crate) agent: Running,
    pub(crate) ports: BTreeMap<SocketAddr, SocketAddr>,
}

/// Guards a key that lives as long as one run.
const PASSWORD: &str = "bench";

const IDENTITY: &str = "server.p12";

/// For an echo through both ends.
const ECHO_LIMIT: Duration = Duration::from_secs(2);

impl Rathole {
    /// Puts the server's certificate and key in the only form that rathole takes, by openssl.
    pub(crate) fn new(
        program: PathBuf,
        certificates: &CertificateFolder,
        targets: &Targets,
    ) -> Result<Self> {
        ensure!(program.is_file(), "{}: no such program", program.display());
        let folder = tempfile::tempdir()?;
        let status = Command::new("openssl")
            .args(["pkcs12", "-export", "-passout"])
            .arg(format!("pass:{PASSWORD}"))
            .arg("-in")
            .arg(certificates.folder().join("server.crt"))
            .arg("-inkey")
            .arg(certificates.folder().join("server.key"))
            .arg("-out")
            .arg(folder.path().join(IDENTITY))
            .status()
            .context("openssl, which rathole's key is made with")?;
        ensure!(status.success(), "openssl pkcs12: {status}");
        Ok(Self {
            program,
            trusted_root: certificates.folder().join("ca.crt"),
            folder,
            echo: targets.echo,
            bulk: targets.bulk,
        })
    }

    pub(crate) async fn start(&self) -> Result<Started> {
        let server = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut ports = BTreeMap::new();
        for target in [self.echo, self.bulk] {
            ports.insert(target, SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        }
        let hub = self.run("server", &self.server_config(server, &ports)?)?;
        let agent = self.run("client", &self.client_config(server)?)?;
        let echo = ports[&self.echo];
        until("rathole echoes", async || {
            matches!(timeout(ECHO_LIMIT, echoes(echo)).await, Ok(Ok(())))
        })
        .await?;
        Ok(Started {
            server,
            hub,
            agent,
            ports,
        })
    }

    fn run(&self, end: &str, config: &str) -> Result<Running> {
        let file = self.folder.path().join(format!("{end}.toml"));
        fs::write(&file, config)?;
        let mut command = Command::new(&self.program);
        command.arg(format!("--{end}")).arg(file);
        command.env("RUST_LOG", "warn");
        Running::start(format!("rathole: {end}"), command)
    }

    fn server_config(
        &self,
        server: SocketAddr,
        ports: &BTreeMap<SocketAddr, SocketAddr>,
    ) -> Result<String> {
        let mut config = format!(
            "[server]\nbind_addr = \"{server}\"\ndefault_token = \"bench\"\n\
             [server.transport]\ntype = \"tls\"\n\
             [server.transport.tls]\npkcs12 = {:?}\npkcs12_password = \"{PASSWORD}\"\n",
            self.folder.path().join(IDENTITY)
        );
        for (target, port) in ports {
            write!(
                config,
                "[server.services.{}]\nbind_addr = \"{port}\"\n",
                self.name(*target)
            )?;
        }
        Ok(config)
    }

    fn client_config(&self, server: SocketAddr) -> Result<String> {
        let mut config = format!(
            "[client]\nremote_addr = \"{server}\"\ndefault_token = \"bench\"\n\
             [client.transport]\ntype = \"tls\"\n\
             [client.transport.tls]\ntrusted_root = {:?}\nhostname = \"127.0.0.1\"\n",
            self.trusted_root
        );
        for target in [self.echo, self.bulk] {
            write!(
                config,
                "[client.services.{}]\nlocal_addr = \"{target}\"\n",
                self.name(target)
            )?;
        }
        Ok(config)
    }

    fn name(&self, target: SocketAddr) -> &'static str {
        if target == self.echo { "echo" } else { "bulk" }
    }
}

async fn echoes(port: SocketAddr) -> Result<()> {
    let mut socket = TcpStream::connect(port).await?;
    socket.write_all(b"x").await?;
    ensure!(socket.read_u8().await? == b'x', "another byte came back");
    Ok(())
}
