//! The report: goals, all figures, plots, and what the run was made of.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::front::Protocol;
use crate::goals::{Comparison, Goal, compare};
use crate::load::Sample;
use crate::plot::{Bar, Plot, number, svg};
use crate::results::{Contender, Measure, Results};
use crate::system::Kind;

/// How and where it was measured.
#[derive(Debug)]
pub(crate) struct Circumstances {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    /// Before anything was started.
    pub(crate) load_average: f64,
    /// Cores that others kept busy during the rounds, on average.
    pub(crate) others: f64,
}

/// Above this, rates and latencies say little; CPU figures and ratios still do.
const LOAD_LIMIT: f64 = 2.0;

/// The same of what others took meanwhile.
const OTHERS_LIMIT: f64 = 0.2;

impl Circumstances {
    /// What is wrong with them, for whoever reads the figures.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.load_average > LOAD_LIMIT || self.others > OTHERS_LIMIT).then(|| {
            format!(
                "the machine was not quiet (load average {:.1} before the run, others took {:.2} \
                 cores during it): trust CPU seconds and ratios, not rates",
                self.load_average, self.others
            )
        })
    }
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) results: Results,
    pub(crate) circumstances: Circumstances,
}

impl Report {
    /// Writes `tunnel.md` and `tunnel.svg`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::write(folder.join("tunnel.md"), self.text()?)?;
        fs::write(folder.join("tunnel.svg"), svg(&self.plots()))?;
        Ok(())
    }

    fn text(&self) -> Result<String> {
        let Circumstances {
            seconds,
            rounds,
            load_average,
            others,
        } = &self.circumstances;
        let warning = self
            .circumstances
            .warning()
            .map_or_else(String::new, |warning| {
                format!("**Warning:** {warning}.\n\n")
            });
        Ok(format!(
            "# The tunnel beside Go's and a plain relay\n\n\
             {date}; {cores} cores, which also run client and target; {rounds} interleaved rounds \
             of {seconds} s a load, medians; load average before the run {load_average:.1}, others \
             took {others:.2} cores during it. Ours is the release build of the image. Made by \
             `make bench-tunnel`; [docs/performance.md](../../docs/performance.md) says what each line means.\n\n\
             {warning}## Goals\n\n{goals}\n{missed}\n## Rates and latency\n\n{rates}\n\
             ## CPU of hub and agent\n\n{cpu}\n## Memory\n\n{memory}\n\
             ## Readers that never read\n\n{stalled}\n![figures](tunnel.svg)\n",
            date = jiff::Timestamp::now().strftime("%Y-%m-%d"),
            cores = std::thread::available_parallelism()?,
            goals = self.goals(),
            missed = self.missed(),
            rates = self.rates(),
            cpu = self.cpu(),
            memory = self.memory(),
            stalled = self.stalled(),
        ))
    }

    /// The goals' table, which reads well in a terminal too.
    pub(crate) fn goals(&self) -> String {
        let mut table = String::from(
            "| row | figure | unit | ours | against | theirs | ratio | goal | met |\n\
             |---:|---|---|---:|---|---:|---:|---:|---|\n",
        );
        for line in compare(&self.results) {
            let Comparison {
                row,
                figure,
                unit,
                peer,
                ..
            } = &line;
            let goal = match line.goal {
                Goal::AtLeast(least) => format!("≥ {}", number(least)),
                Goal::AtMost(most) => format!("≤ {}", number(most)),
            };
            let (theirs, ratio) = line.theirs.map_or_else(
                || ("-".to_owned(), "-".to_owned()),
                |theirs| (number(theirs), number(line.value())),
            );
            let met = if line.is_met() { "yes" } else { "**no**" };
            add(
                &mut table,
                format_args!(
                    "| {row} | {figure} | {unit} | {} | {peer} | {theirs} | {ratio} | {goal} | {met} |",
                    number(line.ours)
                ),
            );
        }
        table
    }

    fn missed(&self) -> String {
        let all = compare(&self.results);
        let met = all.iter().filter(|line| line.is_met()).count();
        format!("{met} of {} are met.\n", all.len())
    }

    fn rates(&self) -> String {
        self.table(|measure| {
            let (unit, figure): (_, fn(&Sample) -> f64) = match measure {
                _ if measure.is_bulk() => ("MiB/s", Sample::mib_per_second),
                _ if measure.is_rate() => ("a second", Sample::per_second),
                _ => ("µs p50", Sample::p50),
            };
            let mut lines = vec![(format!("{measure}, {unit}"), figure)];
            if measure == Measure::RoundTrips {
                lines.push((format!("{measure}, µs p99"), Sample::p99));
            }
            lines
        })
    }

    fn cpu(&self) -> String {
        self.table(|measure| {
            if measure.is_bulk() {
                vec![
                    (
                        format!("{measure}, s/GiB"),
                        Sample::cpu_seconds_per_gib as _,
                    ),
                    (
                        format!("{measure}, s/GiB, hub"),
                        Sample::hub_seconds_per_gib,
                    ),
                ]
            } else {
                vec![(format!("{measure}, ms each"), Sample::cpu_ms_each as _)]
            }
        })
    }

    /// A column for each system, lines as `lines` says for each load.
    fn table(&self, lines: impl Fn(Measure) -> Vec<(String, fn(&Sample) -> f64)>) -> String {
        let contenders = self.results.contenders();
        let mut table = String::from("| |");
        for contender in &contenders {
            table.push_str(&format!(" {contender} |"));
        }
        table.push_str("\n|---|");
        table.push_str(&"---:|".repeat(contenders.len()));
        table.push('\n');
        for (name, measure, figure) in Measure::ALL.into_iter().flat_map(|measure| {
            lines(measure)
                .into_iter()
                .map(move |(name, figure)| (name, measure, figure))
        }) {
            table.push_str(&format!("| {name} |"));
            for contender in &contenders {
                let cell = self.results.median(measure, *contender, figure);
                table.push_str(&format!(
                    " {} |",
                    cell.map_or_else(|| "-".to_owned(), number)
                ));
            }
            table.push('\n');
        }
        table
    }

    fn memory(&self) -> String {
        let count = self.results.idle_connections;
        let mut table = format!(
            "KiB; {count} idle connections. RSS counts pages that programs share for each of \
             them, PSS by the share.\n\n\
             | system | hub RSS | hub PSS | agent RSS | agent PSS | hub, each connection | agent, each connection |\n\
             |---|---:|---:|---:|---:|---:|---:|\n"
        );
        for &contender in self.results.idle.keys() {
            let figures: [fn(&_) -> f64; 6] = [
                |idle: &crate::memory::Idle| idle.base[0].rss,
                |idle| idle.base[0].pss,
                |idle| idle.base[1].rss,
                |idle| idle.base[1].pss,
                |idle| idle.each[0],
                |idle| idle.each[1],
            ];
            table.push_str(&format!("| {contender} |"));
            for figure in figures {
                let cell = self.results.idle(contender, figure);
                table.push_str(&format!(
                    " {} |",
                    cell.map_or_else(|| "-".to_owned(), number)
                ));
            }
            table.push('\n');
        }
        table.push('\n');
        for (kind, (each, count)) in &self.results.idle_agents {
            add(
                &mut table,
                format_args!(
                    "{kind}: the hub takes {} KiB for each of {count} idle agents.",
                    number(*each)
                ),
            );
        }
        table
    }

    fn stalled(&self) -> String {
        let mut table = String::from(
            "| system | stalled readers | round trips before, µs p50 | beside them, µs p50 | hub's growth, MiB | agent's growth, MiB |\n\
             |---|---:|---:|---:|---:|---:|\n",
        );
        for (contender, stalled) in &self.results.stalled {
            add(
                &mut table,
                format_args!(
                    "| {contender} | {} | {} | {} | {} | {} |",
                    stalled.readers,
                    number(stalled.before),
                    stalled.beside.map_or_else(|| "blocked".to_owned(), number),
                    number(stalled.growth[0] / 1024.0),
                    number(stalled.growth[1] / 1024.0),
                ),
            );
        }
        table
    }

    fn plots(&self) -> Vec<Plot> {
        let idle = |title: &str, figure: fn(&crate::memory::Idle) -> f64| Plot {
            title: title.to_owned(),
            bars: self
                .results
                .idle
                .keys()
                .filter_map(|&contender| {
                    Some(bar(contender, self.results.idle(contender, figure)?))
                })
                .collect(),
        };
        let plots = [
            self.plot("CPU of hub and agent, s/GiB, 1 connection (less is better)", Measure::Down1, Sample::cpu_seconds_per_gib),
            self.plot("bulk to the client, 8 connections, MiB/s", Measure::Down8, Sample::mib_per_second),
            self.plot("CPU of hub and agent, ms a connection of Go's client, 16 at a time (less is better)", Measure::Stock16, Sample::cpu_ms_each),
            self.plot("connections a second over one kept HTTP/2 front, 16 at a time", Measure::Kept16, Sample::per_second),
            self.plot("round trip, µs p50 (less is better)", Measure::RoundTrips, Sample::p50),
            idle("RSS of a hub without connections, KiB (less is better)", |idle| idle.base[0].rss),
            idle("RSS of a hub for an idle connection, KiB (less is better)", |idle| idle.each[0]),
        ];
        plots
            .into_iter()
            .filter(|plot| !plot.bars.is_empty())
            .collect()
    }

    fn plot(&self, title: &str, measure: Measure, figure: fn(&Sample) -> f64) -> Plot {
        let bars = self
            .results
            .contenders()
            .into_iter()
            .filter_map(|contender| {
                let value = self.results.median(measure, contender, figure)?;
                Some(bar(contender, value))
            })
            .collect();
        Plot {
            title: title.to_owned(),
            bars,
        }
    }
}

fn bar(contender: Contender, value: f64) -> Bar {
    let colour = match contender.kind {
        Kind::Ours if contender.protocol == Protocol::Http2 => "#8ab4f8",
        Kind::Ours => "#1a73e8",
        Kind::OursGo | Kind::GoOurs => "#7e57c2",
        Kind::GoGrpc | Kind::GoConnect => "#e8710a",
        Kind::TwoHops | Kind::OneHop => "#9aa0a6",
        Kind::Rathole => "#34a853",
    };
    Bar {
        name: contender.to_string(),
        value,
        colour,
    }
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes everything");
}
