//! Waiting between attempts: longer each time up to a cap, and jittered, so that a fleet whose
//! server comes back does not arrive at once.

use std::time::Duration;

use rand::RngExt;

/// See the module.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap: cap.max(first),
            next: first,
        }
    }

    /// The next wait: between half of it and all, the whole growing by half each time.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole + whole / 2).min(self.cap);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// A wait before the first attempt after a loss, which a whole fleet may have seen at the same
    /// moment: up to half of the first wait.
    pub(crate) fn spread(&self) -> Duration {
        self.first.mul_f64(rand::rng().random_range(0.0..=0.5))
    }

    /// An attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        assert!(backoff.next() <= Duration::from_secs(1));
        for _ in 0..10 {
            assert!(backoff.next() <= Duration::from_secs(10));
        }
        assert!(backoff.next() >= Duration::from_secs(5));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
        let spread: Vec<_> = (0..100).map(|_| backoff.spread()).collect();
        let (least, most) = (spread.iter().min().unwrap(), spread.iter().max().unwrap());
        assert!(*most <= Duration::from_millis(500));
        assert!(*most - *least > Duration::from_millis(100), "{spread:?}");
    }
}
