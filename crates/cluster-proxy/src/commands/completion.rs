//! `completion`: what a shell needs to complete this command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap_complete::Shell;
use cluster_proxy_runtime::error::StartError;

use crate::command_line::definition;

/// Write a script that completes commands and flags in a shell.
///
/// Bash:  source <(cluster-proxy completion bash)
/// Zsh:   source <(cluster-proxy completion zsh)
/// Fish:  cluster-proxy completion fish | source
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell that will read the script.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args { shell } = args;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), "cluster-proxy", &mut script);
    // Whoever closes the pipe has read enough.
    drop(std::io::stdout().write_all(&script));
    Ok(ExitCode::SUCCESS)
}
