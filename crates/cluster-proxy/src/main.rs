//! The `cluster-proxy` program: one binary, a subcommand for each role.
//!
//! `main` parses, installs the crypto provider, builds the runtime and runs one command; a
//! command turns its flags into its role's configuration. Exit codes: 0, 64 for a command line
//! that cannot be right (`EX_USAGE`), 1 for everything else.
//!
//! Called by the name of a Go program (a link will do), it is that program's command at once.

mod command_line;
mod commands;
mod flags;
#[cfg(test)]
mod flags_page;
mod foreign_flags;
mod help;
mod role;

use std::process::ExitCode;

use clap::error::ErrorKind;
use cluster_proxy_identity::tls::install_crypto_provider;
use cluster_proxy_runtime::error::StartError;

use crate::command_line::CommandLine;
use crate::commands::Command;

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
    CommandLine::read(std::env::args_os().collect()).map_err(|error| match error.kind() {
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

fn start(command: Command) -> Result<ExitCode, StartError> {
    install_crypto_provider().map_err(StartError::failed)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .event_interval(TURNS_BETWEEN_EVENTS)
        .enable_all()
        .build()
        .map_err(|error| StartError::failed(format_args!("cannot start threads: {error}")))?
        .block_on(command.run())
}

/// How many turns of tasks a busy thread takes before it looks at sockets and timers again; tokio's
/// own is 61. A connection that floods makes each turn cost milliseconds, and whoever's bytes
/// have just come would wait for all of them.
const TURNS_BETWEEN_EVENTS: u32 = 8;

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
