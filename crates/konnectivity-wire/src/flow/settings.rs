//! How much is queued and how long others wait.

use std::time::Duration;

/// Bounds of a [`Flow`](super::Flow).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowSettings {
    /// Bytes over which a connection's queue is full.
    pub queue: usize,
    /// Bytes over which all queues together are.
    pub total: usize,
    /// How long a reader of a full queue may take nothing.
    pub grace: Duration,
    /// How long others may be paused within a period.
    pub pause_budget: Duration,
    /// After which the budget is whole again.
    pub budget_period: Duration,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            queue: QUEUE,
            total: TOTAL,
            grace: GRACE,
            pause_budget: PAUSE_BUDGET,
            budget_period: BUDGET_PERIOD,
        }
    }
}

/// One message of the longest kind (`framing::MAX_MESSAGE`); with it a stalled reader cost a server
/// 8 MiB and honest bulk came through whole, measured.
const QUEUE: usize = 4 * 1024 * 1024;

/// Sixteen full queues for each agent.
const TOTAL: usize = 16 * QUEUE;

/// Long enough for a reader that is alive to be scheduled on a busy machine, short enough that
/// nobody else's request times out.
const GRACE: Duration = Duration::from_millis(200);

/// Half of a minute: what an agent's other connections may lose to one slow reader.
const PAUSE_BUDGET: Duration = Duration::from_secs(30);

/// Counted by the minute, as people read logs and dashboards.
const BUDGET_PERIOD: Duration = Duration::from_secs(60);
