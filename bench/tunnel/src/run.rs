//! One whole run: which systems, in which order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use tokio::time::{Instant, sleep};

use crate::front::{Front, Protocol};
use crate::load::{self, Sample};
use crate::memory;
use crate::process;
use crate::rathole::Rathole;
use crate::report::{Circumstances, Report};
use crate::results::{Contender, Measure, Results};
use crate::system::{Kind, System, Workshop};
use crate::target::{Direction, Targets};

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) fronts: Fronts,
    pub(crate) only: Vec<String>,
    pub(crate) memory: bool,
    pub(crate) program: Option<PathBuf>,
    pub(crate) rathole: Option<PathBuf>,
    pub(crate) report: Option<PathBuf>,
}

/// By which protocol the load comes to our own server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fronts {
    /// HTTP/1.1 if it takes that, and HTTP/2.
    Auto,
    /// Both, or the run fails.
    Both,
    /// HTTP/2 alone.
    Http2,
}

/// Runs all, writes the report and returns its table.
pub(crate) async fn run(options: Options) -> Result<String> {
    ensure!(
        options.rounds > 0 && options.seconds > 0.0,
        "at least one round of some time"
    );
    ensure!(
        options.report.is_none() || !cfg!(debug_assertions),
        "a report needs release builds; make bench-tunnel makes them"
    );
    let load_average = process::load_average()?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("cluster-proxy"),
    };
    let mut workshop = Workshop::new(program)?;
    let targets = Targets::new().await?;
    if let Some(program) = options.rathole.clone() {
        workshop.rathole = Some(Rathole::new(program, &workshop.certificates, &targets)?);
    }
    let mut run = Run {
        duration: Duration::from_secs_f64(options.seconds),
        contenders: Vec::new(),
        workshop,
        targets,
        results: Results::default(),
        begin: Instant::now(),
        options,
    };
    run.contenders = run.choose().await?;
    if run.options.memory {
        run.memory().await?;
    }
    let others = run.rounds().await?;
    let report = Report {
        results: run.results,
        circumstances: Circumstances {
            seconds: run.options.seconds,
            rounds: run.options.rounds,
            load_average,
            others,
        },
    };
    if let Some(folder) = &run.options.report {
        report.write(folder)?;
    }
    let warning = report.circumstances.warning().unwrap_or_default();
    Ok(format!("{}\n{warning}", report.goals()))
}

struct Run {
    options: Options,
    duration: Duration,
    contenders: Vec<Contender>,
    workshop: Workshop,
    targets: Targets,
    results: Results,
    begin: Instant,
}

const ALL: [(Kind, Protocol); 10] = [
    (Kind::Ours, Protocol::Http1),
    (Kind::Ours, Protocol::Http2),
    (Kind::OursGo, Protocol::Http2),
    (Kind::GoOurs, Protocol::Http1),
    (Kind::GoGrpc, Protocol::Grpc),
    (Kind::GoConnect, Protocol::Http1),
    (Kind::TwoHops, Protocol::Http1),
    (Kind::TwoHops, Protocol::Http2),
    (Kind::OneHop, Protocol::Http1),
    (Kind::Rathole, Protocol::Tcp),
];

/// Whether that load says something of that system.
fn fits(measure: Measure, contender: Contender, ours_takes_http1: bool) -> bool {
    let Contender { kind, protocol } = contender;
    match measure {
        // It takes no CONNECT.
        Measure::Stock1 | Measure::Stock16 | Measure::Kept1 | Measure::Kept16
            if kind == Kind::Rathole =>
        {
            false
        }
        Measure::Kept1 | Measure::Kept16 => protocol == Protocol::Http2 && kind != Kind::OursGo,
        // Not how the floor is measured.
        _ if kind == Kind::TwoHops => protocol == Protocol::Http1,
        Measure::Stock1 | Measure::Stock16 => protocol != Protocol::Http2 || !ours_takes_http1,
        _ => true,
    }
}

/// Idle connections: enough that a page more or less does not count.
const IDLE_CONNECTIONS: f64 = 500.0;

/// A cluster fleet of the size that one hub must bear.
const IDLE_AGENTS: f64 = 2000.0;

/// Go's agents are processes of 38 MiB each.
const GO_AGENTS: usize = 10;

const STALLED_READERS: f64 = 100.0;

/// A second of Go's client, one connection after the other, on Go's server.
const STOCK_EACH_SECOND: f64 = 150.0;

impl Run {
    fn progress(&self, text: &str) {
        #[expect(clippy::print_stderr, reason = "progress")]
        {
            eprintln!("{:4} s  {text}", self.begin.elapsed().as_secs());
        }
    }

    /// So many of what a run of two seconds a load has.
    fn scaled(&self, full: f64) -> usize {
        let count = (full * (self.options.seconds / 2.0).min(1.0)).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of at most some thousands"
        )]
        let count = count as usize;
        count.max(10)
    }

    async fn choose(&self) -> Result<Vec<Contender>> {
        let http1 = match self.options.fronts {
            Fronts::Http2 => false,
            Fronts::Both => true,
            Fronts::Auto => self.takes_http1().await?,
        };
        let wanted = |contender: &Contender| {
            let name = contender.to_string();
            self.options.only.is_empty()
                || self
                    .options
                    .only
                    .iter()
                    .any(|part| name.contains(part.as_str()))
        };
        let all: Vec<_> = ALL
            .into_iter()
            .map(|(kind, protocol)| Contender { kind, protocol })
            .filter(|&Contender { kind, protocol }| {
                http1 || kind != Kind::Ours || protocol != Protocol::Http1
            })
            .filter(|contender| contender.kind != Kind::Rathole || self.workshop.rathole.is_some())
            .filter(wanted)
            .collect();
        ensure!(!all.is_empty(), "no system is called so");
        if !http1 {
            self.progress("our server takes no CONNECT of HTTP/1.1: its load comes by HTTP/2");
        }
        Ok(all)
    }

    async fn takes_http1(&self) -> Result<bool> {
        let system = System::start(&self.workshop, Kind::Ours).await?;
        let front = system.front(&self.workshop, Protocol::Http1)?;
        Ok(front.dial(self.targets.echo).await.is_ok())
    }

    /// All that needs a system of its own, before the rounds. One warm program after the other.
    async fn memory(&mut self) -> Result<()> {
        let count = self.scaled(IDLE_CONNECTIONS);
        self.results.idle_connections = count;
        for round in 1..=self.options.rounds.min(MEMORY_ROUNDS) {
            for contender in self.contenders.clone() {
                let Contender { kind, protocol } = contender;
                if kind == Kind::TwoHops && protocol == Protocol::Http2 {
                    continue;
                }
                let idle =
                    memory::idle_connections(&self.workshop, &self.targets, kind, protocol, count)
                        .await
                        .with_context(|| format!("{contender}: idle connections"))?;
                self.progress(&format!(
                    "memory {round}, {contender}: hub {:.0} KiB and {:.1} a connection, agent \
                     {:.0} and {:.1}",
                    idle.base[0].rss, idle.each[0], idle.base[1].rss, idle.each[1]
                ));
                self.results.idle.entry(contender).or_default().push(idle);
            }
        }
        for (kind, count) in [
            (Kind::Ours, self.scaled(IDLE_AGENTS)),
            (
                Kind::GoConnect,
                self.scaled(f64::from(u32::try_from(GO_AGENTS)?))
                    .min(GO_AGENTS),
            ),
        ] {
            if !self
                .contenders
                .iter()
                .any(|contender| contender.kind == kind)
            {
                continue;
            }
            let each = memory::idle_agents(&self.workshop, kind, count)
                .await
                .with_context(|| format!("{kind}: idle agents"))?;
            self.progress(&format!("{kind}: {each:.1} KiB for each of {count} agents"));
            self.results.idle_agents.insert(kind, (each, count));
        }
        self.stalled().await
    }

    async fn stalled(&mut self) -> Result<()> {
        for contender in self.contenders.clone() {
            let Contender { kind, protocol } = contender;
            let readers = match kind {
                Kind::Ours => self.scaled(STALLED_READERS),
                // One is enough to tell.
                _ if kind.is_go() => 1,
                _ => continue,
            };
            let stalled = memory::stalled_readers(
                &self.workshop,
                &self.targets,
                kind,
                protocol,
                readers,
                self.duration,
            )
            .await
            .with_context(|| format!("{contender}: stalled readers"))?;
            self.progress(&format!(
                "{contender}: round trips {:.0} µs, beside {readers} stalled readers {:?}, hub \
                 {:+.0} KiB",
                stalled.before, stalled.beside, stalled.growth[0]
            ));
            self.results.stalled.insert(contender, stalled);
        }
        Ok(())
    }

    /// All rounds; returns how many cores others kept busy meanwhile.
    async fn rounds(&mut self) -> Result<f64> {
        let mut systems = BTreeMap::new();
        for contender in &self.contenders {
            if let Entry::Vacant(place) = systems.entry(contender.kind) {
                place.insert(System::start(&self.workshop, contender.kind).await?);
            }
        }
        let mut fronts = BTreeMap::new();
        for &contender in &self.contenders {
            let system = &systems[&contender.kind];
            fronts.insert(contender, system.front(&self.workshop, contender.protocol)?);
        }
        let clock = Instant::now();
        let busy = self.others_busy(&systems)?;
        for round in 1..=self.options.rounds {
            for measure in Measure::ALL {
                for contender in self.contenders.clone() {
                    let ours_takes_http1 = self.contenders.contains(&Contender {
                        kind: Kind::Ours,
                        protocol: Protocol::Http1,
                    });
                    if !fits(measure, contender, ours_takes_http1) {
                        continue;
                    }
                    let (system, front) = (&systems[&contender.kind], &fronts[&contender]);
                    let sample = self
                        .measure(measure, contender, system, front)
                        .await
                        .with_context(|| format!("{contender}: {measure}"))?;
                    self.progress(&format!(
                        "round {round} of {}, {measure}, {contender}: {}",
                        self.options.rounds,
                        line(measure, &sample)
                    ));
                    self.results.add(measure, contender, sample);
                    sleep(PAUSE).await;
                }
            }
        }
        let others = self.others_busy(&systems)? - busy;
        Ok((others / clock.elapsed().as_secs_f64()).max(0.0))
    }

    /// CPU seconds of all that is not this run's.
    fn others_busy(&self, systems: &BTreeMap<Kind, System>) -> Result<f64> {
        let mut own = process::own_cpu_seconds()?;
        for system in systems.values() {
            own += system.usage()?.total();
        }
        Ok(process::machine_cpu_seconds()? - own)
    }

    async fn measure(
        &self,
        measure: Measure,
        contender: Contender,
        system: &System,
        front: &Front,
    ) -> Result<Sample> {
        let (duration, Targets { echo, bulk, .. }) = (self.duration, &self.targets);
        let transfer = |direction, connections| {
            load::bulk(system, front, *bulk, direction, connections, duration)
        };
        let stock = |workers: usize, seconds: f64| {
            let mode = contender.protocol.client_mode();
            let count = self.scaled(STOCK_EACH_SECOND * 2.0 * seconds);
            let count = u64::try_from(count.max(workers)).unwrap_or(u64::MAX);
            load::stock_client(&self.workshop, system, mode, *echo, workers, count)
        };
        match measure {
            Measure::Down1 => transfer(Direction::Down, 1).await,
            Measure::Down8 => transfer(Direction::Down, 8).await,
            Measure::Up1 => transfer(Direction::Up, 1).await,
            Measure::Up8 => transfer(Direction::Up, 8).await,
            Measure::RoundTrips => load::round_trips(system, front, *echo, duration).await,
            Measure::Stock1 => stock(1, 1.0).await,
            Measure::Stock16 => stock(16, 2.0).await,
            Measure::Kept1 => load::short_connections(system, front, *echo, 1, duration).await,
            Measure::Kept16 => load::short_connections(system, front, *echo, 16, duration).await,
        }
    }
}

/// Memory is steady: more would only take time.
const MEMORY_ROUNDS: usize = 3;

/// What the last load left to do is done before the next begins.
const PAUSE: Duration = Duration::from_millis(100);

fn line(measure: Measure, sample: &Sample) -> String {
    if measure.is_bulk() {
        format!(
            "{:.0} MiB/s, {:.2} CPU s/GiB",
            sample.mib_per_second(),
            sample.cpu_seconds_per_gib()
        )
    } else if measure.is_rate() {
        format!(
            "{:.0} a second, {:.2} CPU ms each",
            sample.per_second(),
            sample.cpu_ms_each()
        )
    } else {
        format!("p50 {:.0} µs, p99 {:.0} µs", sample.p50, sample.p99)
    }
}
