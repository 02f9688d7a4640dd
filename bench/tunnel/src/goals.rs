//! What the tunnel is held to, each goal against each peer of the same run.

use crate::front::Protocol;
use crate::load::Sample;
use crate::memory::Idle;
use crate::results::{Contender, Measure, Results};
use crate::system::Kind;

/// One figure against one peer, or against a number.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) row: u8,
    pub(crate) figure: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: &'static str,
    pub(crate) theirs: Option<f64>,
    pub(crate) goal: Goal,
}

/// What must be true of ours by theirs, or of ours where there is no peer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Comparison {
    pub(crate) fn value(&self) -> f64 {
        self.theirs.map_or(self.ours, |theirs| self.ours / theirs)
    }

    pub(crate) fn is_met(&self) -> bool {
        match self.goal {
            Goal::AtLeast(least) => self.value() >= least,
            Goal::AtMost(most) => self.value() <= most,
        }
    }
}

const GO: &str = "best Go";
const FLOOR: &str = "two hops";
const ONE_HOP: &str = "one hop";

struct Goals<'r> {
    results: &'r Results,
    ours: Contender,
    all: Vec<Comparison>,
}

/// All that can be said of these results.
pub(crate) fn compare(results: &Results) -> Vec<Comparison> {
    let http1 = Contender {
        kind: Kind::Ours,
        protocol: Protocol::Http1,
    };
    // As Go's clients come, where our server takes that.
    let ours = if results.contenders().contains(&http1) {
        http1
    } else {
        http2(Kind::Ours)
    };
    let mut goals = Goals {
        results,
        ours,
        all: Vec::new(),
    };
    goals.bulk();
    goals.connections();
    goals.kept_connections();
    goals.latency();
    goals.stalled();
    goals.memory();
    goals.all
}

fn http1(kind: Kind) -> Contender {
    Contender {
        kind,
        protocol: Protocol::Http1,
    }
}

fn http2(kind: Kind) -> Contender {
    Contender {
        kind,
        protocol: Protocol::Http2,
    }
}

fn go() -> [Contender; 2] {
    [
        Contender {
            kind: Kind::GoGrpc,
            protocol: Protocol::Grpc,
        },
        http1(Kind::GoConnect),
    ]
}

type Figure = fn(&Sample) -> f64;

impl Goals<'_> {
    fn bulk(&mut self) {
        let rate: Figure = Sample::mib_per_second;
        let cpu: Figure = Sample::cpu_seconds_per_gib;
        let way = [
            (1, Measure::Down1, 0.90),
            (1, Measure::Up1, 0.90),
            (2, Measure::Down8, 0.80),
            (2, Measure::Up8, 0.80),
        ];
        for (row, measure, floor) in way {
            self.measured(row, measure, rate, "MiB/s", GO, Goal::AtLeast(4.0));
            self.measured(row, measure, rate, "MiB/s", FLOOR, Goal::AtLeast(floor));
        }
        let way = [
            (Measure::Down1, 1.25),
            (Measure::Up1, 1.25),
            (Measure::Down8, 1.5),
            (Measure::Up8, 1.5),
        ];
        for (measure, floor) in way {
            self.measured(3, measure, cpu, "CPU s/GiB", GO, Goal::AtMost(0.2));
            self.measured(3, measure, cpu, "CPU s/GiB", FLOOR, Goal::AtMost(floor));
        }
    }

    fn connections(&mut self) {
        let cpu: Figure = Sample::cpu_ms_each;
        for measure in [Measure::Stock1, Measure::Stock16] {
            self.measured(4, measure, cpu, "CPU ms", GO, Goal::AtMost(0.5));
            self.measured(4, measure, cpu, "CPU ms", FLOOR, Goal::AtMost(0.65));
            self.measured(4, measure, cpu, "CPU ms", ONE_HOP, Goal::AtMost(1.6));
        }
        let rate: Figure = Sample::per_second;
        for (measure, go) in [(Measure::Stock1, 1.3), (Measure::Stock16, 1.1)] {
            self.measured(5, measure, rate, "a second", GO, Goal::AtLeast(go));
            self.measured(5, measure, rate, "a second", FLOOR, Goal::AtLeast(1.0));
        }
    }

    /// Go has no such front: its figure is the stock client's.
    fn kept_connections(&mut self) {
        let rate: Figure = Sample::per_second;
        let pairs = [
            (Measure::Kept1, Measure::Stock1, 9.0),
            (Measure::Kept16, Measure::Stock16, 10.0),
        ];
        for (kept, stock, least) in pairs {
            let ours = self.results.median(kept, http2(Kind::Ours), rate);
            let go = self.best(stock, rate, GO, true);
            self.push(
                6,
                kept.to_string(),
                "a second",
                ours,
                GO,
                go,
                Goal::AtLeast(least),
            );
            let floor = self.results.median(kept, http2(Kind::TwoHops), rate);
            self.push(
                6,
                kept.to_string(),
                "a second",
                ours,
                FLOOR,
                floor,
                Goal::AtLeast(3.0),
            );
        }
    }

    fn latency(&mut self) {
        let (p50, p99): (Figure, Figure) = (Sample::p50, Sample::p99);
        let measure = Measure::RoundTrips;
        self.measured(7, measure, p50, "µs, p50", GO, Goal::AtMost(0.5));
        self.measured(7, measure, p99, "µs, p99", GO, Goal::AtMost(0.4));
        self.measured(7, measure, p50, "µs, p50", FLOOR, Goal::AtMost(1.3));
    }

    fn stalled(&mut self) {
        let Some(stalled) = self.results.stalled.get(&self.ours).copied() else {
            return;
        };
        let readers = stalled.readers;
        let figure = format!("round trips beside {readers} stalled readers");
        // Nothing came back: as bad as can be.
        let beside = stalled.beside.unwrap_or(f64::INFINITY);
        self.push(
            8,
            figure,
            "µs, p50",
            Some(beside),
            "without them",
            Some(stalled.before),
            Goal::AtMost(1.2),
        );
        let windows = 1024.0 * f64::from(u32::try_from(readers).unwrap_or(u32::MAX));
        self.all.push(Comparison {
            row: 8,
            figure: format!("hub's growth by {readers} stalled readers"),
            unit: "KiB",
            ours: stalled.growth[0],
            peer: "-",
            theirs: None,
            goal: Goal::AtMost(windows + 32.0 * 1024.0),
        });
    }

    fn memory(&mut self) {
        let results = self.results;
        let least = |figure| {
            go().into_iter()
                .filter_map(|contender| results.idle(contender, figure))
                .reduce(f64::min)
        };
        for (name, figure) in [
            (
                "hub without connections",
                (|idle: &Idle| idle.base[0].rss) as fn(&Idle) -> f64,
            ),
            ("agent without connections", |idle| idle.base[1].rss),
        ] {
            let ours = results.idle(self.ours, figure);
            self.push(
                9,
                name.to_owned(),
                "KiB",
                ours,
                GO,
                least(figure),
                Goal::AtMost(1.0 / 3.0),
            );
            if let Some(ours) = ours {
                self.all.push(Comparison {
                    row: 9,
                    figure: name.to_owned(),
                    unit: "KiB",
                    ours,
                    peer: "-",
                    theirs: None,
                    goal: Goal::AtMost(12.0 * 1024.0),
                });
            }
        }
        for (name, figure, goal) in [
            (
                "hub for an idle connection",
                (|idle: &Idle| idle.each[0]) as fn(&Idle) -> f64,
                0.5,
            ),
            ("agent for an idle connection", |idle| idle.each[1], 0.25),
        ] {
            let ours = results.idle(self.ours, figure);
            self.push(
                10,
                name.to_owned(),
                "KiB",
                ours,
                GO,
                least(figure),
                Goal::AtMost(goal),
            );
        }
        if let Some(&(ours, count)) = results.idle_agents.get(&Kind::Ours) {
            self.all.push(Comparison {
                row: 11,
                figure: format!("hub for an idle agent, of {count}"),
                unit: "KiB",
                ours,
                peer: "-",
                theirs: None,
                goal: Goal::AtMost(40.0),
            });
        }
    }

    fn measured(
        &mut self,
        row: u8,
        measure: Measure,
        figure: Figure,
        unit: &'static str,
        peer: &'static str,
        goal: Goal,
    ) {
        let ours = self.results.median(measure, self.ours, figure);
        let theirs = self.best(measure, figure, peer, matches!(goal, Goal::AtLeast(_)));
        self.push(row, measure.to_string(), unit, ours, peer, theirs, goal);
    }

    /// The peer's figure; of Go's two modes the better one.
    fn best(&self, measure: Measure, figure: Figure, peer: &str, more: bool) -> Option<f64> {
        let contenders = match peer {
            GO => go().to_vec(),
            FLOOR => vec![http1(Kind::TwoHops)],
            _ => vec![http1(Kind::OneHop)],
        };
        contenders
            .into_iter()
            .filter_map(|contender| self.results.median(measure, contender, figure))
            .reduce(if more { f64::max } else { f64::min })
    }

    /// Nothing is said where one of both was not measured.
    #[expect(clippy::too_many_arguments, reason = "the columns of a table")]
    fn push(
        &mut self,
        row: u8,
        figure: String,
        unit: &'static str,
        ours: Option<f64>,
        peer: &'static str,
        theirs: Option<f64>,
        goal: Goal,
    ) {
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            self.all.push(Comparison {
                row,
                figure,
                unit,
                ours,
                peer,
                theirs: Some(theirs),
                goal,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_of_gos_modes_counts() {
        let mut results = Results::default();
        let sample = |amount: f64| Sample {
            amount: amount * 1024.0 * 1024.0,
            seconds: 1.0,
            ..Sample::default()
        };
        results.add(Measure::Down1, http1(Kind::Ours), sample(400.0));
        results.add(Measure::Down1, go()[0], sample(80.0));
        results.add(Measure::Down1, go()[1], sample(110.0));
        let compared = compare(&results);
        let rate = compared.iter().find(|line| line.row == 1).unwrap();
        assert!((rate.value() - 400.0 / 110.0).abs() < 1e-9);
        assert!(!rate.is_met(), "3.6 times is less than 4");
        assert!(compared.iter().all(|line| line.peer == GO));
    }
}
