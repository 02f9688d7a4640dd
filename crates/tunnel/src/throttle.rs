//! Keeping a trouble that lasts from filling the log: the first line at once, then one for each
//! interval with the number of those left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Decides which of many like events are logged.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Lets through one event for each `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            state: Mutex::default(),
        }
    }

    /// Whether to log this event: `Some` with the number left out since the last one logged.
    pub fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last
            .is_some_and(|last| last.elapsed() < self.interval)
        {
            state.left_out += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.left_out))
    }

    /// Forgets what was: the trouble is over, and a new one is logged at once.
    pub fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_trouble_is_a_line_a_minute() {
        let throttle = Throttle::new(Duration::from_secs(60));
        let (mut lines, mut told) = (0, 0);
        for _ in 0..3600 {
            if let Some(left_out) = throttle.pass() {
                lines += 1;
                told += left_out;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!((lines, told), (60, 59 * 59));
        throttle.reset();
        assert_eq!(throttle.pass(), Some(0));
    }
}
