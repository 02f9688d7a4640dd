//! How much one agent's stream may carry, and how long is waited.

use std::time::Duration;

/// Bounds of a [`ServerTable`](super::ServerTable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerLimits {
    /// Dials not yet answered.
    pub dials: usize,
    /// Connections, dials among them, and those being closed.
    pub connections: usize,
    /// For an answer to DIAL_REQ (`--backend-dial-timeout`).
    pub dial_timeout: Duration,
    /// For an answer to CLOSE_REQ.
    pub close_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            dials: MAX_DIALS,
            connections: MAX_CONNECTIONS,
            dial_timeout: DIAL_TIMEOUT,
            close_timeout: CLOSE_TIMEOUT,
        }
    }
}

/// An agent dials for 5 s at most: this many waiting are 200 dials a second to targets of which
/// none answers.
const MAX_DIALS: usize = 1024;

/// More than half of the sockets that an agent can have towards one target (Linux has 28,232
/// ephemeral ports unless told otherwise), at some 200 bytes each here.
const MAX_CONNECTIONS: usize = 16 * 1024;

/// Go's client gives a dial up after 30 s; Go's server waits for ever.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// `CloseTimeout` of Go's client.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
