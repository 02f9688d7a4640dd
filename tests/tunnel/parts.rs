//! The client and the target of a transfer as processes of their own, to be killed.

use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_proxy_testkit::certificates::CertificateFiles;
use cluster_proxy_testkit::process::Running;
use tokio::net::TcpListener;

use crate::hub::{Workshop, dialer};
use crate::transfer::{Direction, take_part, target};

/// Says that this process is to be a part, and which.
const ROLE: &str = "CLUSTER_PROXY_TUNNEL_PART";

const STARTED: &str = "part started ";
const START_LIMIT: Duration = Duration::from_secs(10);

/// A client that has a connection through `server` to `to`, and uploads or downloads.
pub(crate) fn client(
    workshop: &Workshop,
    server: SocketAddr,
    to: SocketAddr,
    direction: Direction,
) -> Result<Running> {
    let certificates = workshop.certificates.folder().display();
    let (part, _) = start(&format!(
        "client {direction:?} {server} {to} {certificates}"
    ))?;
    Ok(part)
}

/// A target that takes one connection, and reads or writes for as long as it lives.
pub(crate) fn target_process(direction: Direction) -> Result<(Running, SocketAddr)> {
    let (part, address) = start(&format!("target {direction:?}"))?;
    Ok((part, address.parse()?))
}

fn start(role: &str) -> Result<(Running, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, role);
    let name = role.split(' ').next().unwrap_or(role);
    let part = Running::start(name, command)?;
    let line = part.wait_for_line(STARTED, START_LIMIT)?;
    let said = line
        .strip_prefix(STARTED)
        .context("a line that begins otherwise")?;
    Ok((part, said.to_owned()))
}

/// Is the part that the environment asks for, if any.
#[expect(clippy::print_stderr, reason = "the log of a part")]
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let words: Vec<_> = role.split(' ').collect();
    match tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(&words)))
    {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{role}: {error:#}");
            Some(ExitCode::FAILURE)
        }
    }
}

#[expect(clippy::print_stdout, reason = "how a part talks with its test")]
async fn run(words: &[&str]) -> Result<()> {
    match *words {
        ["client", direction, server, to, folder] => {
            let dialer = dialer(server.parse()?, &CertificateFiles::open(folder))?;
            let stream = dialer.connect(&target(to.parse()?)?).await?;
            println!("{STARTED}connected");
            take_part(stream, direction == "Upload").await;
        }
        ["target", direction] => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{STARTED}{}", listener.local_addr()?);
            let (socket, _) = listener.accept().await?;
            take_part(socket, direction == "Download").await;
        }
        _ => bail!("no such part"),
    }
    Ok(())
}
