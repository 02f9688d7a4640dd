//! How much of a period may still be spent on pauses.

use std::time::Duration;

/// So much for each period; what is left over is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    limit: Duration,
    period: Duration,
    began: Duration,
    spent: Duration,
}

impl Budget {
    pub(super) fn new(limit: Duration, period: Duration) -> Self {
        Self {
            limit,
            period,
            began: Duration::ZERO,
            spent: Duration::ZERO,
        }
    }

    /// Spends `lost`, which ended at `now`.
    pub(super) fn spend(&mut self, now: Duration, lost: Duration) {
        if now.saturating_sub(self.began) >= self.period {
            self.began = now;
            self.spent = Duration::ZERO;
        }
        self.spent = self.spent.saturating_add(lost);
    }

    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent)
    }
}
