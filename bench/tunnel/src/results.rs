//! What was measured, by system and round, and the figures that come of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::front::Protocol;
use crate::load::Sample;
use crate::memory::{Idle, Stalled};
use crate::system::Kind;

/// A system and the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) protocol: Protocol,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Http2 => write!(f, "{} (HTTP/2)", self.kind),
            _ => write!(f, "{}", self.kind),
        }
    }
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    Down1,
    Down8,
    Up1,
    Up8,
    RoundTrips,
    Stock1,
    Stock16,
    Kept1,
    Kept16,
}

impl Measure {
    pub(crate) const ALL: [Self; 9] = [
        Self::Down1,
        Self::Down8,
        Self::Up1,
        Self::Up8,
        Self::RoundTrips,
        Self::Stock1,
        Self::Stock16,
        Self::Kept1,
        Self::Kept16,
    ];

    /// Whether connections are counted.
    pub(crate) fn is_rate(self) -> bool {
        matches!(
            self,
            Self::Stock1 | Self::Stock16 | Self::Kept1 | Self::Kept16
        )
    }

    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Down1 | Self::Down8 | Self::Up1 | Self::Up8)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down1 => "bulk to the client, 1 connection",
            Self::Down8 => "bulk to the client, 8 connections",
            Self::Up1 => "bulk to the target, 1 connection",
            Self::Up8 => "bulk to the target, 8 connections",
            Self::RoundTrips => "round trips of 64 bytes",
            Self::Stock1 => "connections of Go's client, one after the other",
            Self::Stock16 => "connections of Go's client, 16 at a time",
            Self::Kept1 => "connections over one kept HTTP/2 front, one after the other",
            Self::Kept16 => "connections over one kept HTTP/2 front, 16 at a time",
        })
    }
}

/// Everything of one run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) samples: BTreeMap<(Measure, Contender), Vec<Sample>>,
    pub(crate) idle: BTreeMap<Contender, Vec<Idle>>,
    pub(crate) idle_connections: usize,
    /// KiB of the hub for one idle agent, and how many agents there were.
    pub(crate) idle_agents: BTreeMap<Kind, (f64, usize)>,
    pub(crate) stalled: BTreeMap<Contender, Stalled>,
}

impl Results {
    pub(crate) fn add(&mut self, measure: Measure, contender: Contender, sample: Sample) {
        self.samples
            .entry((measure, contender))
            .or_default()
            .push(sample);
    }

    /// The median over all rounds of a figure.
    pub(crate) fn median(
        &self,
        measure: Measure,
        contender: Contender,
        figure: fn(&Sample) -> f64,
    ) -> Option<f64> {
        let samples = self.samples.get(&(measure, contender))?;
        median(samples.iter().map(figure))
    }

    pub(crate) fn idle(&self, contender: Contender, figure: fn(&Idle) -> f64) -> Option<f64> {
        median(self.idle.get(&contender)?.iter().map(figure))
    }

    /// In the order in which tables have them.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let mut all: Vec<_> = self
            .samples
            .keys()
            .map(|(_, contender)| *contender)
            .chain(self.idle.keys().copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The value in the middle; of an even number the upper of both.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

const MIB: f64 = 1024.0 * 1024.0;

impl Sample {
    pub(crate) fn mib_per_second(&self) -> f64 {
        self.amount / MIB / self.seconds
    }

    pub(crate) fn cpu_seconds_per_gib(&self) -> f64 {
        self.cpu.total() * 1024.0 * MIB / self.amount
    }

    pub(crate) fn hub_seconds_per_gib(&self) -> f64 {
        self.cpu.hub * 1024.0 * MIB / self.amount
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.amount / self.seconds
    }

    pub(crate) fn cpu_ms_each(&self) -> f64 {
        self.cpu.total() * 1e3 / self.amount
    }

    pub(crate) fn p50(&self) -> f64 {
        self.p50
    }

    pub(crate) fn p99(&self) -> f64 {
        self.p99
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Usage;

    #[test]
    fn figures_of_a_sample() {
        let sample = Sample {
            amount: 512.0 * MIB,
            seconds: 2.0,
            cpu: Usage {
                hub: 0.5,
                agent: 0.25,
            },
            ..Sample::default()
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        close(sample.mib_per_second(), 256.0);
        close(sample.cpu_seconds_per_gib(), 1.5);
        close(sample.hub_seconds_per_gib(), 1.0);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
