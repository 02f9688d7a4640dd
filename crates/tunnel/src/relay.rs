//! Moving bytes between the two legs of a tunnelled connection, both ways in one task, until both
//! directions ended or one leg broke.
//!
//! An end of file on one leg becomes the end of that direction on the other (half-close
//! survives). A broken leg breaks the other too: nobody downstream may take a truncated transfer
//! for a complete one. Credit goes back to a tunnel's sender only for what the other leg took, so
//! back-pressure runs from the slow end to the source and a relay holds one window at most. What it
//! holds is counted for the whole process ([`crate::UnreadBudget`]).
//!
//! The pumps are polled by hand: no task, timer or channel stands between two legs.

mod backlog;
mod streams;
mod tcp;

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use backlog::Backlog;
pub use streams::StreamRelay;
pub use tcp::TcpRelay;

/// A leg of a relay: the one towards the user of the tunnel, or the one towards the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// Towards who opened the tunnelled connection.
    Near,
    /// Towards the target.
    Far,
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near => "client",
            Self::Far => "target",
        })
    }
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both directions came to their end of file.
    Finished,
    /// The user of the tunnel ended its direction, and then went without waiting for the other
    /// one's end, as whoever closes a TLS or HTTP connection may; the target's leg was aborted.
    Left {
        /// What happened to the near leg.
        error: io::Error,
    },
    /// A leg broke; the other one was aborted.
    Broken {
        /// The leg whose fault it is.
        leg: Leg,
        /// What happened to it.
        error: io::Error,
    },
}

impl RelayEnd {
    /// A short constant name, for metric labels and log fields.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Left { .. } => "client_left",
            Self::Broken { leg: Leg::Near, .. } => "client_broken",
            Self::Broken { leg: Leg::Far, .. } => "target_broken",
        }
    }
}

/// Bytes a relay has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Towards the target.
    pub to_far: u64,
    /// Towards the user of the tunnel.
    pub to_near: u64,
}

/// What polling one direction came to.
enum Pumped {
    /// There is nothing to read.
    Starved,
    /// The receiving leg takes nothing at the moment.
    Blocked,
    /// The direction has ended.
    Done,
}

/// A broken leg, seen from one direction.
enum Broke {
    Source(io::Error),
    Sink(io::Error),
}

impl Broke {
    /// The end of the relay, when the direction runs from `source` to the other leg.
    fn into_end(self, source: Leg) -> RelayEnd {
        let sink = match source {
            Leg::Near => Leg::Far,
            Leg::Far => Leg::Near,
        };
        match self {
            Self::Source(error) => RelayEnd::Broken { leg: source, error },
            Self::Sink(error) => RelayEnd::Broken { leg: sink, error },
        }
    }
}

/// Lets other tasks of this thread run when a direction has moved [`TURNS`] chunks without a
/// pause: h2's polls know nothing of tokio's cooperative budget.
struct Turns(u32);

impl Turns {
    fn new() -> Self {
        Self(TURNS)
    }

    /// Ready until the turns are used up; then the task is woken again and must return.
    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0 -= 1;
        Poll::Ready(())
    }
}

/// About 2 MiB of full frames.
const TURNS: u32 = 32;
