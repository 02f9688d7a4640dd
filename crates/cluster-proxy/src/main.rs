//! The `cluster-proxy` program: one binary, a subcommand for each role.
//!
//! `main` parses, installs the crypto provider, builds the runtime and runs one command; a
//! command turns its flags into its role's configuration. Exit codes: 0, 64 for a command line
//! that cannot be right (`EX_USAGE`), 1 for everything else.
//!
//! Called by the name of a Go program (a link will do), it is that program's command at once.

mod commands;
mod flags;
mod foreign_flags;
mod role;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_runtime::error::StartError;

use crate::commands::Command;

/// Reach the kube-apiserver and the Services of managed clusters that the hub cannot dial.
///
/// Agents in the managed clusters dial out to the hub; requests travel back through those
/// connections. `quickstart` shows it at work on this machine.
#[derive(Debug, Parser)]
#[command(name = "cluster-proxy", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let command_line = match parse() {
        Ok(command_line) => command_line,
        Err(code) => return code,
    };
    let name = command_line.command.name();
    match start(command_line.command) {
        Ok(code) => code,
        Err(error) => {
            complain(name, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn parse() -> Result<CommandLine, ExitCode> {
    let args = with_subcommand(std::env::args_os().collect());
    let args = cluster_proxy_runtime::flags::normalize(args);
    CommandLine::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed pipe (`--help | head`) is nobody's error.
            drop(error.print());
            ExitCode::SUCCESS
        }
        _ => {
            flags::print_usage_error(&error);
            ExitCode::from(StartError::usage("", "").exit_code())
        }
    })
}

/// Names under which this program is one of its commands, with that command's flags: images of the
/// Go cluster-proxy have programs of these names, and charts start them.
const PROGRAMS: &[(&str, &str)] = &[
    ("agent", "addon-agent"),
    ("manager", "manager"),
    ("proxy-agent", "proxy-agent"),
    ("proxy-server", "proxy-server"),
];

/// The command line with the command that the program's own name stands for.
fn with_subcommand(mut args: Vec<OsString>) -> Vec<OsString> {
    let called = args.first().map(Path::new).and_then(Path::file_name);
    let program = PROGRAMS
        .iter()
        .find(|(name, _)| called == Some(OsStr::new(name)));
    if let Some((_, command)) = program {
        args.insert(1, OsString::from(command));
    }
    args
}

fn start(command: Command) -> Result<ExitCode, StartError> {
    install_crypto_provider().map_err(StartError::failed)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()
        .map_err(|error| StartError::failed(format_args!("cannot start threads: {error}")))?
        .block_on(command.run())
}

#[expect(
    clippy::print_stderr,
    reason = "the one line that tells why nothing started"
)]
fn complain(command: &str, error: &StartError) {
    eprintln!("cluster-proxy {command}: {error}");
}

/// Half the cores. A request crosses four of these programs one after the other, so beyond the
/// first thread more of them buy switches between cores before they buy throughput; and a role
/// rarely has its machine to itself. `TOKIO_WORKER_THREADS` sets another number.
fn worker_threads() -> usize {
    std::env::var("TOKIO_WORKER_THREADS")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2))
        .max(1)
}
