//! The report: a table for people, a plot, and what the run was made of.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::load::{Measured, Shape, as_f64};
use crate::setting::{Observed, Side};

/// What one shape of load came to, by round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) shape: Shape,
    direct: Vec<(Measured, Observed)>,
    proxied: Vec<(Measured, Observed)>,
}

impl Row {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            direct: Vec::new(),
            proxied: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, side: Side, measured: Measured, observed: Observed) {
        match side {
            Side::Direct => self.direct.push((measured, observed)),
            Side::Proxied => self.proxied.push((measured, observed)),
        }
    }

    fn ratio(&self) -> f64 {
        rate(&self.proxied) / rate(&self.direct)
    }

    fn name(&self) -> String {
        format!("{:?}, {} workers", self.shape.version, self.shape.workers)
    }
}

type Rounds = [(Measured, Observed)];

fn rate(rounds: &Rounds) -> f64 {
    median(
        rounds
            .iter()
            .map(|(measured, _)| measured.per_second())
            .collect(),
    )
}

fn latency(rounds: &Rounds, of: impl Fn(&Measured) -> Duration) -> f64 {
    median(
        rounds
            .iter()
            .map(|(measured, _)| of(measured).as_secs_f64() * 1e3)
            .collect(),
    )
}

/// Milliseconds of CPU per request, over all rounds.
fn cpu(rounds: &Rounds, of: impl Fn(&Observed) -> f64) -> f64 {
    let seconds: f64 = rounds.iter().map(|(_, observed)| of(observed)).sum();
    let requests: usize = rounds.iter().map(|(measured, _)| measured.requests).sum();
    seconds * 1e3 / as_f64(requests)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What one role takes, in KiB.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) role: &'static str,
    /// Before any request.
    pub(crate) idle: f64,
    /// For each open watch.
    pub(crate) each: f64,
}

/// The goals: of direct requests, of direct p99 with 2 ms, KiB of an idle role, KiB for a watch.
const RATE_GOAL: f64 = 0.75;
const P99_GOAL: (f64, f64) = (2.0, 2.0);
const IDLE_GOAL: f64 = 15.0 * 1024.0;
const WATCH_GOAL: f64 = 64.0;

pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) watches: usize,
    pub(crate) seconds: u64,
    pub(crate) rounds: usize,
}

impl Report {
    /// A Markdown table, which reads well in a terminal too.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| load | side | requests/s | of direct | p50 ms | p99 ms | CPU ms/request: apiserver | four roles | connections dialled |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for row in &self.rows {
            let sides = [
                (Side::Direct, &row.direct, 1.0),
                (Side::Proxied, &row.proxied, row.ratio()),
            ];
            for (side, rounds, ratio) in sides {
                let dialled: u64 = rounds.iter().map(|(_, observed)| observed.dialled).sum();
                writeln!(
                    table,
                    "| {} | {} | {:.0} | {ratio:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {dialled} |",
                    row.name(),
                    side.name(),
                    rate(rounds),
                    latency(rounds, |measured| measured.p50),
                    latency(rounds, |measured| measured.p99),
                    cpu(rounds, |observed| observed.apiserver),
                    cpu(rounds, |observed| observed.roles),
                )
                .expect("a String takes everything");
            }
        }
        table
    }

    /// What is asked of these figures, and whether it is so.
    pub(crate) fn goals(&self) -> String {
        let mut table = String::from("| figure | is | goal | met |\n|---|---:|---:|---|\n");
        let mut add = |figure: String, is: f64, goal: f64, met: bool| {
            let met = if met { "yes" } else { "**no**" };
            writeln!(table, "| {figure} | {is:.2} | {goal:.2} | {met} |")
                .expect("a String takes everything");
        };
        for row in &self.rows {
            let ratio = row.ratio();
            let name = format!("{}: requests/s of direct, at least", row.name());
            add(name, ratio, RATE_GOAL, ratio >= RATE_GOAL);
            let p99 = |rounds: &Rounds| latency(rounds, |measured| measured.p99);
            let (is, most) = (
                p99(&row.proxied),
                P99_GOAL.0 * p99(&row.direct) + P99_GOAL.1,
            );
            let name = format!("{}: p99 ms, at most", row.name());
            add(name, is, most, is <= most);
        }
        for Memory { role, idle, each } in &self.memory {
            let name = format!("{role} idle, KiB, at most");
            add(name, *idle, IDLE_GOAL, *idle <= IDLE_GOAL);
            let name = format!("{role}, KiB for each of {} watches, at most", self.watches);
            add(name, *each, WATCH_GOAL, *each <= WATCH_GOAL);
        }
        table
    }

    /// Nothing is dialled per request: the first request of a kind may open a connection, a
    /// thousand must not open a thousand.
    pub(crate) fn check_nothing_dialled(&self) -> Result<()> {
        for row in &self.rows {
            let dialled: u64 = row
                .proxied
                .iter()
                .map(|(_, observed)| observed.dialled)
                .sum();
            let requests: usize = row
                .proxied
                .iter()
                .map(|(measured, _)| measured.requests)
                .sum();
            ensure!(
                as_f64(requests) >= 20.0 * as_f64(usize::try_from(dialled)?),
                "{}: {dialled} connections dialled for {requests} requests",
                row.name()
            );
        }
        Ok(())
    }

    /// Writes `get-pod.md` and `get-pod.svg`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let text = format!(
            "# get pod: through cluster-proxy and directly\n\n\
             {date}; {cores} cores, which also run both clusters and the load; {rounds} interleaved \
             rounds of {seconds} s, medians. Same client, HTTP version, kept connections and TLS on \
             both sides; neither logs requests. HTTP/1.1: a connection per worker; HTTP/2: one for all. Made by \
             `make bench-http`.\n\n{table}\n## Goals\n\n{goals}\n![requests per second](get-pod.svg)\n",
            date = date(),
            cores = std::thread::available_parallelism()?,
            rounds = self.rounds,
            seconds = self.seconds,
            table = self.table(),
            goals = self.goals(),
        );
        fs::write(folder.join("get-pod.md"), text)?;
        fs::write(folder.join("get-pod.svg"), self.plot())?;
        Ok(())
    }

    /// Bars of requests per second, direct beside proxied.
    fn plot(&self) -> String {
        const WIDTH: f64 = 640.0;
        const BAR: f64 = 18.0;
        const GROUP: f64 = 2.0 * BAR + 26.0;
        const LEFT: f64 = 160.0;
        let most = self
            .rows
            .iter()
            .map(|row| rate(&row.direct).max(rate(&row.proxied)));
        let scale = (WIDTH - LEFT - 120.0) / most.fold(1.0, f64::max);
        let height = GROUP * as_f64(self.rows.len()) + 20.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for (index, row) in self.rows.iter().enumerate() {
            let top = GROUP * as_f64(index) + 16.0;
            writeln!(
                svg,
                "<text x=\"8\" y=\"{}\">{}</text>",
                top + BAR + 4.0,
                row.name()
            )
            .expect("a String takes everything");
            for (offset, rounds, colour, name) in [
                (0.0, &row.direct, "#9aa0a6", "direct"),
                (BAR, &row.proxied, "#1a73e8", "proxied"),
            ] {
                let (rate, y) = (rate(rounds), top + offset);
                let length = rate * scale;
                writeln!(
                    svg,
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.0}\" height=\"{}\" fill=\"{colour}\"/>\n\
                     <text x=\"{:.0}\" y=\"{}\">{rate:.0}/s {name}</text>",
                    BAR - 2.0,
                    LEFT + length + 6.0,
                    y + 12.0,
                )
                .expect("a String takes everything");
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Today in UTC, `2026-01-31`.
fn date() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}
