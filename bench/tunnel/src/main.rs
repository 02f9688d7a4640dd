//! The tunnel beside Go's konnectivity and a plain two-hop relay, in one run: bytes and
//! connections a second, latency, CPU and memory of hub and agent.
//!
//! The load is the same for all as far as their protocols allow. Rounds are interleaved and
//! medians reported; one wrong or missing byte fails the run.

mod front;
mod goals;
mod grpc;
mod http1;
mod lanes;
mod load;
mod memory;
mod pattern;
mod plot;
mod process;
mod rathole;
mod relay;
mod report;
mod results;
mod run;
mod system;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::run::{Fronts, Options};
use crate::system::Role;

/// Compare the tunnel with Go's and with a plain relay.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,

    /// Seconds of each load; other amounts (connections, readers) go with it.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,

    /// Rounds; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// How the load comes to our server where Go's takes CONNECT of HTTP/1.1.
    #[arg(long, value_enum, default_value = "auto")]
    front: Fronts,

    /// Only systems whose name contains one of these, and only those figures.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Without the figures of memory and of stalled readers.
    #[arg(long)]
    no_memory: bool,

    /// Our program; that beside this one unless set.
    #[arg(long)]
    program: Option<std::path::PathBuf>,

    /// rathole's program, which then takes part; docs/performance.md says how to build it.
    #[arg(long)]
    rathole: Option<std::path::PathBuf>,

    /// Folder for the report (Markdown and a plot), or `none`.
    #[arg(long, default_value = "bench/reports")]
    report: String,
}

#[tokio::main]
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-tunnel: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<String> {
    match args.role {
        Some(Role::Relay(relay)) => relay::run(relay).await.map(|()| String::new()),
        Some(Role::Lanes(lanes)) => lanes::run(lanes).await.map(|()| String::new()),
        None => {
            let options = Options {
                seconds: args.seconds,
                rounds: args.rounds,
                fronts: args.front,
                only: args.only,
                memory: !args.no_memory,
                program: args.program,
                rathole: args.rathole,
                report: (args.report != "none").then(|| args.report.into()),
            };
            let mut terminate = signal(SignalKind::terminate())?;
            // Dropped, a run ends every program that it started.
            tokio::select! {
                done = timeout(RUN_LIMIT, run::run(options)) => {
                    done.context("the run took longer than its limit")?
                }
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
                _ = terminate.recv() => anyhow::bail!("terminated"),
            }
        }
    }
}

/// A full run takes a quarter of an hour; on a busy machine thrice that.
const RUN_LIMIT: Duration = Duration::from_mins(45);
