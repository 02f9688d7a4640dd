//! Waiting between attempts that fail: longer each time up to a cap, and jittered, so that a fleet
//! whose kube-apiserver comes back does not arrive at once.

use std::time::Duration;

use rand::RngExt;

/// See the module.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait: between half of it and all, the whole doubling each time.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(CAP);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// An attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

const FIRST: Duration = Duration::from_secs(1);

/// Half of the renewal interval: one outage costs no more than one renewal.
const CAP: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new();
        assert!(backoff.next() <= FIRST);
        for _ in 0..10 {
            assert!(backoff.next() <= CAP);
        }
        assert!(backoff.next() >= CAP / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
