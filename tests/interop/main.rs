//! The matrix of konnectivity programs: whose server, whose agent, which client. Go's programs
//! with each other are the reference; what they do is written in `behaviour`, and every other cell
//! is held to it but for `differences`.

mod behaviour;
mod cell;
mod connect_lines;
mod curl;
mod differences;
mod event;
mod load;
mod metrics;
mod outcome;
mod target;

use std::cell::RefCell;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::behaviour::Expected;
use crate::cell::{Agent, Frontend, MatrixCell, Server, Tunnel, Workshop};
use crate::event::Event;
use crate::outcome::Observed;

struct Fixture {
    workshop: Workshop,
    rows: RefCell<Vec<Row>>,
}

/// One line of the table.
struct Row {
    cell: MatrixCell,
    event: Event,
    observed: Observed,
}

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "interop",
        || {
            Ok(Fixture {
                workshop: Workshop::new()?,
                rows: RefCell::default(),
            })
        },
        &[
            ("go × go × grpc", |f: &Fixture| f.cell(GO, Frontend::Grpc)),
            ("go × go × grpc unix", |f: &Fixture| {
                f.cell(GO, Frontend::GrpcUnix)
            }),
            ("go × go × http-connect", |f: &Fixture| {
                f.cell(GO, Frontend::HttpConnect)
            }),
            ("go × go × http-connect unix", |f: &Fixture| {
                f.cell(GO, Frontend::HttpConnectUnix)
            }),
            ("go × go × curl", |f: &Fixture| f.cell(GO, Frontend::Curl)),
            ("ours × ours × http2-connect", |f: &Fixture| {
                f.cell(OURS, Frontend::Http2Connect)
            }),
            ("ours × ours × grpc", |f: &Fixture| {
                f.cell(OURS, Frontend::Grpc)
            }),
            ("ours × ours × grpc unix", |f: &Fixture| {
                f.cell(OURS, Frontend::GrpcUnix)
            }),
            ("ours × ours × http-connect", |f: &Fixture| {
                f.cell(OURS, Frontend::HttpConnect)
            }),
            ("ours × ours × http-connect unix", |f: &Fixture| {
                f.cell(OURS, Frontend::HttpConnectUnix)
            }),
            ("ours × ours × curl", |f: &Fixture| {
                f.cell(OURS, Frontend::Curl)
            }),
            ("ours × go × http2-connect", |f: &Fixture| {
                f.cell(OURS_GO, Frontend::Http2Connect)
            }),
            ("ours × go × grpc", |f: &Fixture| {
                f.cell(OURS_GO, Frontend::Grpc)
            }),
            ("ours × go × grpc unix", |f: &Fixture| {
                f.cell(OURS_GO, Frontend::GrpcUnix)
            }),
            ("ours × go × http-connect", |f: &Fixture| {
                f.cell(OURS_GO, Frontend::HttpConnect)
            }),
            ("ours × go × http-connect unix", |f: &Fixture| {
                f.cell(OURS_GO, Frontend::HttpConnectUnix)
            }),
            ("ours × go × curl", |f: &Fixture| {
                f.cell(OURS_GO, Frontend::Curl)
            }),
            ("go × ours × grpc", |f: &Fixture| {
                f.cell(GO_OURS, Frontend::Grpc)
            }),
            ("go × ours × http-connect", |f: &Fixture| {
                f.cell(GO_OURS, Frontend::HttpConnect)
            }),
            ("go × ours × curl", |f: &Fixture| {
                f.cell(GO_OURS, Frontend::Curl)
            }),
            ("go × go: CONNECT lines", |f: &Fixture| f.connect_lines(GO)),
            ("ours × ours: CONNECT lines", |f: &Fixture| {
                f.connect_lines(OURS)
            }),
            ("metrics under konnectivity's names", Fixture::metrics),
            ("cluster-proxy agents", Fixture::agents),
            ("the table", Fixture::print),
        ],
    )
}

/// Events that could not be observed, each up to its deadline, after which a cell is given up.
const GIVE_UP: usize = 3;

type Pair = (Server, Agent);
const GO: Pair = (Server::Go, Agent::Go);
const OURS: Pair = (Server::Ours, Agent::Ours);
const OURS_GO: Pair = (Server::Ours, Agent::Go);
const GO_OURS: Pair = (Server::Go, Agent::Ours);

impl Fixture {
    /// Lets every event happen in one cell, and compares all of them before it fails.
    fn cell(&self, (server, agent): Pair, frontend: Frontend) -> Result<()> {
        let cell = MatrixCell {
            server,
            agent,
            frontend,
        };
        let tunnel = Tunnel::start(&self.workshop, cell)?;
        let mut wrong = Vec::new();
        let mut unobserved = 0;
        for &event in Event::ALL {
            let observed = match frontend {
                _ if differences::is_left_out(cell, event) => Ok(Observed::not_offered()),
                Frontend::Curl => curl::observe(&tunnel, event),
                _ => event::observe(&tunnel, event),
            };
            match observed {
                Ok(observed) => {
                    wrong.extend(judge(cell, event, &observed));
                    self.rows.borrow_mut().push(Row {
                        cell,
                        event,
                        observed,
                    });
                }
                Err(error) => {
                    wrong.push(format!("{event}: {error:#}"));
                    unobserved += 1;
                    if unobserved == GIVE_UP {
                        wrong.push("and the rest was not tried".to_owned());
                        break;
                    }
                }
            }
        }
        ensure!(
            wrong.is_empty(),
            "{}\n{}",
            wrong.join("\n    "),
            tunnel.last_words()
        );
        Ok(())
    }

    /// What both pairs serve at /metrics.
    fn metrics(&self) -> Result<()> {
        let start = |(server, agent)| {
            let frontend = Frontend::Grpc;
            let cell = MatrixCell {
                server,
                agent,
                frontend,
            };
            Tunnel::start(&self.workshop, cell)
        };
        let go = start(GO)?;
        // A lane has no packets to count.
        metrics::compare(&go, &start(OURS_GO)?, "server")?;
        metrics::compare(&go, &start(GO_OURS)?, "agent")?;
        Ok(())
    }

    /// Who is connected, as our server tells it.
    fn agents(&self) -> Result<()> {
        for (pair, protocol) in [(OURS, "lane"), (OURS_GO, "konnectivity")] {
            let (server, agent) = pair;
            let frontend = Frontend::Grpc;
            let cell = MatrixCell {
                server,
                agent,
                frontend,
            };
            metrics::agents(&Tunnel::start(&self.workshop, cell)?, protocol)?;
        }
        Ok(())
    }

    /// What is answered to CONNECT, and to what is none.
    fn connect_lines(&self, (server, agent): Pair) -> Result<()> {
        let cell = MatrixCell {
            server,
            agent,
            frontend: Frontend::HttpConnectUnix,
        };
        connect_lines::check(&Tunnel::start(&self.workshop, cell)?, server)
    }

    /// The reference, and where ours differs from it.
    #[expect(clippy::print_stdout, reason = "the suite's report")]
    fn print(&self) -> Result<()> {
        let rows = self.rows.borrow();
        ensure!(!rows.is_empty(), "no cell ran");
        for &event in Event::ALL {
            println!("\n{event}");
            for row in rows.iter().filter(|row| row.event == event) {
                let MatrixCell {
                    server,
                    agent,
                    frontend,
                } = row.cell;
                println!(
                    "  {:<5}× {:<5}× {frontend:<18} {:>6} ms  {}",
                    format!("{server:?}"),
                    format!("{agent:?}"),
                    row.observed.took.as_millis(),
                    row.observed.outcome
                );
                if let Some(difference) = differences::listed(row.cell, event) {
                    println!("      differs: {}", difference.reason);
                }
            }
        }
        println!();
        Ok(())
    }
}

/// What is wrong with an observation, if anything.
fn judge(cell: MatrixCell, event: Event, observed: &Observed) -> Option<String> {
    let Expected {
        outcome,
        go_agent_also,
        took,
    } = behaviour::of_go(cell.frontend.reference(), event);
    let (outcome, took, source) = match differences::listed(cell, event) {
        Some(difference) => {
            let took = difference.took.clone().unwrap_or(took);
            ((difference.outcome)(), took, "differences.rs")
        }
        None => (outcome, took, "behaviour.rs"),
    };
    let as_go_agents_may =
        cell.agent == Agent::Go && go_agent_also.as_ref() == Some(&observed.outcome);
    if differences::settled(cell, event, &observed.outcome) != outcome && !as_go_agents_may {
        return Some(format!(
            "{event}: {}\n        {source} has: {outcome}",
            observed.outcome
        ));
    }
    (!took.contains(&observed.took))
        .then(|| format!("{event}: after {:?}, expected {took:?}", observed.took))
}
