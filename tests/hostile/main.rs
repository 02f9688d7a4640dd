//! Readers that stop, peers that attack, and whole fleets: what one of them costs, and that the
//! others notice nothing. Real processes of the built program, on the loopback address.
//!
//! `CLUSTER_PROXY_LONG=1` runs the full numbers; `scale` has both.

mod fleet;
mod floods;
mod frames;
mod hub;
mod leaks;
mod ports;
mod report;
mod round_trips;
mod scale;
mod stalls;
mod targets;

use std::process::ExitCode;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::hub::Workshop;
use crate::report::Report;

struct Fixture {
    runtime: Runtime,
    workshop: Workshop,
    report: Report,
}

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "hostile",
        Fixture::new,
        &[
            ("readers that never read, on a lane", |f: &Fixture| {
                f.run(stalls::downloads(&f.workshop, &f.report))
            }),
            ("targets that never read, on a lane", |f: &Fixture| {
                f.run(stalls::uploads(&f.workshop, &f.report))
            }),
            ("sockets that are never read, on a lane", |f: &Fixture| {
                f.run(stalls::full_sockets(&f.workshop, &f.report))
            }),
            (
                "1,000 that never read, both ways, and the limit",
                |f: &Fixture| f.run(stalls::limit(&f.workshop, &f.report)),
            ),
            ("a reader that never reads, on Go's agent", |f: &Fixture| {
                f.run(stalls::go_agent(&f.workshop, &f.report))
            }),
            ("floods by an agent", |f: &Fixture| {
                f.run(floods::by_agent(&f.workshop, &f.report))
            }),
            ("floods by a client", |f: &Fixture| {
                f.run(floods::by_client(&f.workshop, &f.report))
            }),
            ("silence and garbage", |f: &Fixture| {
                f.run(ports::silence_and_garbage(&f.workshop, &f.report))
            }),
            ("no descriptors left", |f: &Fixture| {
                f.run(ports::no_descriptors(&f.workshop, &f.report))
            }),
            ("calls of no known path", |f: &Fixture| {
                f.run(ports::paths(&f.workshop, &f.report))
            }),
            ("dials and cancelled dials leave nothing", |f: &Fixture| {
                f.run(leaks::dials(&f.workshop, &f.report))
            }),
            ("server restarts leave nothing", |f: &Fixture| {
                f.run(leaks::server_restarts(&f.workshop, &f.report))
            }),
            ("agent restarts leave nothing", |f: &Fixture| {
                f.run(leaks::agent_restarts(&f.workshop, &f.report))
            }),
            ("a fleet, and its return", |f: &Fixture| {
                f.run(fleet::returns(&f.workshop, &f.report))
            }),
            ("the figures", |f: &Fixture| f.report.finish()),
        ],
    )
}

impl Fixture {
    fn new() -> Result<Self> {
        cluster_proxy_testkit::process_usage::raise_descriptor_limit()?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?,
            workshop: Workshop::new()?,
            report: Report::default(),
        })
    }

    fn run(&self, step: impl Future<Output = Result<()>>) -> Result<()> {
        self.runtime.block_on(step)
    }
}
