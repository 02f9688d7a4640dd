//! `cluster-proxy quickstart`, running: a hub, a managed cluster and all roles in one process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Running;

/// It is ended when this is dropped.
#[derive(Debug)]
pub struct Quickstart {
    /// The process, with its log.
    pub running: Running,
    /// With the user's token (`user.token`), the CA (`ca.crt`) and the roles' kubeconfigs.
    pub folder: PathBuf,
    /// `https://HOST:PORT` of the user-server.
    pub server: String,
}

impl Quickstart {
    /// Starts it by `program`, the built `cluster-proxy`.
    ///
    /// # Errors
    /// When it does not start, or does not tell within a minute how it is used.
    pub fn start(program: &Path) -> Result<Self> {
        Self::start_with(program, &[])
    }

    /// The same, with more flags.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(program: &Path, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("quickstart").args(flags);
        let running = Running::start("quickstart", command)?;
        let line = running.wait_for_line("curl --cacert", START_LIMIT)?;
        let mut words = line.split_whitespace();
        let ca = words
            .find(|word| word.ends_with("ca.crt"))
            .context("it names no CA")?;
        let url = words
            .find(|word| word.starts_with("https://"))
            .context("it names no URL")?;
        let server = url.split("/managed/").next().context("no server")?;
        Ok(Self {
            folder: Path::new(ca).parent().context("no folder")?.to_owned(),
            server: server.to_owned(),
            running,
        })
    }
}

/// Two clusters and four roles in a debug build.
const START_LIMIT: Duration = Duration::from_secs(60);
