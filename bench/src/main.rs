//! Requests per second and latency of `get pod`, and memory with open watches, through the whole chain, beside the same load sent
//! to the kube-apiserver directly, in one run in the lab.
//!
//! Both sides have the same client, HTTP version, kept connections and TLS, and differ in address
//! and token alone; neither side logs requests. Rounds are interleaved and medians reported; one wrong answer fails the run.

mod load;
mod report;
mod setting;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use http::Version;

use crate::load::{Measured, Shape};
use crate::report::{Memory, Report, Row};
use crate::setting::{Setting, Side};

/// Compare requests through cluster-proxy with direct ones, in the lab.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,

    /// Rounds; medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Numbers of concurrent workers.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    workers: Vec<usize>,

    /// Watches that are open when memory is looked at.
    #[arg(long, default_value_t = 1000)]
    watches: usize,

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
        Ok(report) => {
            println!("{}\n{}", report.table(), report.goals());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress")]
async fn run(args: Args) -> Result<Report> {
    let Args {
        seconds,
        rounds,
        workers,
        watches,
        report: folder,
    } = args;
    ensure!(
        rounds > 0 && seconds > 0,
        "at least one round of one second"
    );
    let duration = Duration::from_secs(seconds);
    let setting = tokio::task::spawn_blocking(Setting::new).await??;
    let shapes: Vec<Shape> = [Version::HTTP_2, Version::HTTP_11]
        .into_iter()
        .flat_map(|version| {
            workers
                .iter()
                .map(move |&workers| Shape { version, workers })
        })
        .collect();
    let memory = memory(&setting, watches).await?;
    for side in [Side::Direct, Side::Proxied] {
        // Connections are made, caches are filled.
        load::run(setting.question(side), shapes[0], Duration::from_secs(1)).await?;
    }

    let mut rows: Vec<Row> = shapes.iter().map(|&shape| Row::new(shape)).collect();
    for round in 1..=rounds {
        for row in &mut rows {
            for side in [Side::Direct, Side::Proxied] {
                let before = setting.observe(side).await?;
                let measured = load::run(setting.question(side), row.shape, duration).await?;
                let spent = setting.observe(side).await?.since(&before);
                eprintln!(
                    "round {round} of {rounds}: {}",
                    line(side, row.shape, &measured)
                );
                row.add(side, measured, spent);
            }
        }
    }
    let report = Report {
        rows,
        memory,
        watches,
        seconds,
        rounds,
    };
    report.check_nothing_dialled()?;
    if folder != "none" {
        report.write(&PathBuf::from(folder))?;
    }
    Ok(report)
}

/// Of each role, in KiB: before any request, and what each of `watches` open ones adds.
#[expect(clippy::print_stderr, reason = "progress")]
async fn memory(setting: &Setting, watches: usize) -> Result<Vec<Memory>> {
    tokio::time::sleep(SETTLE).await;
    let idle = setting.memory()?;
    let question = setting.question(Side::Proxied);
    let open = load::watches(question, &setting.watch_path(), watches).await?;
    tokio::time::sleep(SETTLE).await;
    let loaded = setting.memory()?;
    drop(open);
    let all = idle
        .into_iter()
        .zip(loaded)
        .map(|((role, idle), (_, loaded))| Memory {
            role,
            idle,
            each: (loaded - idle) / load::as_f64(watches.max(1)),
        });
    let all: Vec<_> = all.collect();
    for Memory { role, idle, each } in &all {
        eprintln!("{role}: {idle:.0} KiB, {each:.1} for each of {watches} watches");
    }
    Ok(all)
}

/// Until what was begun is done.
const SETTLE: Duration = Duration::from_secs(2);

fn line(side: Side, shape: Shape, measured: &Measured) -> String {
    format!(
        "{:?}, {} workers, {}: {:.0} requests/s, p50 {:.2} ms, p99 {:.2} ms",
        shape.version,
        shape.workers,
        side.name(),
        measured.per_second(),
        measured.p50.as_secs_f64() * 1e3,
        measured.p99.as_secs_f64() * 1e3,
    )
}
