//! How much an agent carries for one server, and how long it waits.

use std::time::Duration;

/// Bounds of an [`AgentTable`](super::AgentTable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AgentLimits {
    /// Dials at the same time.
    pub dials: usize,
    /// Connections, dials among them, and those being closed.
    pub connections: usize,
    /// For a target to answer.
    pub dial_timeout: Duration,
    /// For a target to take what is queued once the connection is to be closed.
    pub finish_timeout: Duration,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            dials: MAX_DIALS,
            connections: MAX_CONNECTIONS,
            dial_timeout: DIAL_TIMEOUT,
            finish_timeout: FINISH_TIMEOUT,
        }
    }
}

/// As many as a server of ours has waiting.
const MAX_DIALS: usize = 1024;

/// As many as a server of ours has with one agent.
const MAX_CONNECTIONS: usize = 16 * 1024;

/// `dialTimeout` of Go's agent.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Half of what Go's client waits for CLOSE_RSP, so that it hears how it ended.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);
