//! The first command of the README: with embedded clusters and with real ones, and what it leaves
//! behind (nothing).

mod embedded;
mod existing;

use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_proxy_testkit::lab::Lab;
use cluster_proxy_testkit::process::Running;

/// A debug build makes keys and starts everything within seconds.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "quickstart",
        Lab::get,
        &[
            ("embedded: --once checks and ends", embedded::once),
            (
                "embedded: the lines it prints work",
                embedded::printed_lines_work,
            ),
            (
                "embedded: kubectl reads, watches and logs",
                embedded::kubectl,
            ),
            ("embedded: taken ports are replaced", embedded::taken_ports),
            (
                "one kubeconfig alone is a usage error",
                existing::one_of_two,
            ),
            ("real clusters: --once leaves nothing", existing::once),
            (
                "real clusters: what a killed run left is removed",
                existing::killed_run,
            ),
            (
                "real clusters: Ctrl-C leaves nothing",
                existing::interrupted,
            ),
        ],
    )
}

/// Quickstart, where kubectl is installed: the lab's, since a bare machine has none.
pub(crate) fn quickstart(lab: &Lab, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(cluster_proxy_tests::program());
    command
        .arg("quickstart")
        .args(arguments)
        .env("PATH", path_with_kubectl(lab)?);
    Ok(command)
}

/// The search path with the lab's kubectl first.
pub(crate) fn path_with_kubectl(lab: &Lab) -> Result<String> {
    let folder = lab
        .hub
        .kubectl_program()
        .parent()
        .context("kubectl has a folder")?;
    Ok(format!("{}:{}", folder.display(), std::env::var("PATH")?))
}

pub(crate) fn run(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    quickstart(lab, arguments)?
        .output()
        .context("quickstart cannot be run")
}

/// A quickstart that stays, once it has printed the lines to paste.
pub(crate) fn start(lab: &Lab, arguments: &[&str]) -> Result<Running> {
    let running = Running::start("quickstart", quickstart(lab, arguments)?)?;
    running.wait_for_line("Ctrl-C", START_LIMIT)?;
    Ok(running)
}

/// The command lines it printed that begin with `program`.
pub(crate) fn printed(running: &Running, program: &str) -> Vec<String> {
    running
        .lines()
        .iter()
        .map(|line| line.trim().to_owned())
        .filter(|line| line.starts_with(program))
        .collect()
}
