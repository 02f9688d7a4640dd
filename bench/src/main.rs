//! Requests per second and latency of `get pod` through the whole chain, beside the same load sent
//! to the kube-apiserver directly, in one run in the lab.
//!
//! Both sides have the same client, HTTP version, kept connections and TLS, and differ in address
//! and token alone; neither side logs requests. Rounds are interleaved and medians reported; one wrong answer fails the run.

mod cpu;
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
use crate::report::{Report, Row};
use crate::setting::{Setting, Side};

/// Compare requests through cluster-proxy with direct ones, in the lab.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,

    /// Rounds; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Numbers of concurrent workers.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    workers: Vec<usize>,

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
            println!("{}", report.table());
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
        seconds,
        rounds,
    };
    report.check_nothing_dialled()?;
    if folder != "none" {
        report.write(&PathBuf::from(folder))?;
    }
    Ok(report)
}

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
