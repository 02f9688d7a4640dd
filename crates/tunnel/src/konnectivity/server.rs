//! The proxy-server's end of an agent's stream (`AgentService.Connect`).
//!
//! The protocol has no half-close, and Go's server closes a connection when its client has written
//! everything: what the target still had to say is lost, and looks like an end of file. Here such a
//! connection stays until its target has been silent for [`HALF_CLOSED`], and is cut then.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cluster_proxy_konnectivity_wire::server_table::ServerLimits;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::pipe::{Pipe, Shared};
use super::ready::Ready;
use crate::dial_error::DialError;
use crate::http2::Http2Settings;
use crate::http2::keepalive::RoundTrip;
use crate::lane::AgentHello;
use crate::stream::{StreamCount, TunnelStream};
use crate::target::Target;

mod driver;
mod link;
mod pending;

pub use driver::AgentStreamDriver;
pub use pending::PendingAgent;

/// A stream of one agent, with the face of a [`HubLane`](crate::lane::HubLane). Clones share it.
#[derive(Debug, Clone)]
pub struct AgentStream {
    shared: Arc<Common>,
}

/// What the users of a stream share with the task that owns it.
#[derive(Debug)]
struct Common {
    agent: AgentHello,
    ready: Arc<Ready>,
    next: AtomicU64,
    streams: StreamCount,
    round_trip: RoundTrip,
    agent_drains: AtomicBool,
    closing: AtomicBool,
    stalled: AtomicU64,
    closed: CancellationToken,
}

impl AgentStream {
    fn new(agent: AgentHello, round_trip: RoundTrip) -> Self {
        Self {
            shared: Arc::new(Common {
                agent,
                ready: Arc::default(),
                next: AtomicU64::new(1),
                streams: StreamCount::default(),
                round_trip,
                agent_drains: AtomicBool::new(false),
                closing: AtomicBool::new(false),
                stalled: AtomicU64::new(0),
                closed: CancellationToken::new(),
            }),
        }
    }

    /// Opens a tunnelled connection to `target` and waits at most `limit` for the agent's answer.
    /// Dropped before it, the dial is cancelled.
    ///
    /// # Errors
    ///
    /// The agent's own error, or [`DialError::AgentLost`], [`DialError::TimedOut`] and
    /// [`DialError::Overloaded`] for what happens on the stream.
    pub async fn open(&self, target: &Target, limit: Duration) -> Result<TunnelStream, DialError> {
        let lost = || DialError::AgentLost {
            details: "the agent's stream has ended".to_owned(),
        };
        if !self.is_usable() {
            return Err(lost());
        }
        let max = ServerLimits::default().connections;
        let Some(counted) = self.shared.streams.add(max) else {
            return Err(DialError::Overloaded {
                details: format!("{max} connections through the agent"),
            });
        };
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let ready = Arc::clone(&self.shared.ready);
        let pipe = Pipe::new(Shared::new(number), ready, Some(counted));
        if !pipe.dial(target.to_string()) {
            return Err(lost());
        }
        let dialled = timeout(limit, poll_fn(|cx| pipe.poll_dialled(cx)));
        dialled.await.map_err(|_| DialError::TimedOut {
            details: format!("the agent did not answer within {} s", limit.as_secs()),
        })??;
        Ok(TunnelStream::over_pipe(pipe))
    }

    /// How the agent introduced itself. It proves nothing.
    #[must_use]
    pub fn agent(&self) -> &AgentHello {
        &self.shared.agent
    }

    /// Whether new tunnelled connections may be opened.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.shared.closed.is_cancelled() && !self.shared.closing.load(Ordering::Relaxed)
    }

    /// Whether the agent said that it ends soon: take it only where there is no other.
    #[must_use]
    pub fn agent_drains(&self) -> bool {
        self.shared.agent_drains.load(Ordering::Relaxed)
    }

    /// How many tunnelled connections are open on the stream.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.shared.streams.get()
    }

    /// The last measured round trip; `None` until the first was measured.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.round_trip.get()
    }

    /// How many connections were closed for the others' sake, since their users took nothing.
    #[must_use]
    pub fn stalled(&self) -> u64 {
        self.shared.stalled.load(Ordering::Relaxed)
    }

    /// Nothing is told to the agent: the protocol has no word for it, and Go's agent cuts a stream
    /// off when HTTP/2's GOAWAY comes. It connects elsewhere once the stream has ended.
    pub fn drain(&self) {}

    /// Opens no more connections here; when those open are done the stream ends, and the driver.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.ready.call();
    }

    /// Returns when the stream has ended.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }
}

/// The same settings with pings as Go's peers allow them.
pub(super) fn towards_go(settings: &Http2Settings) -> Http2Settings {
    Http2Settings {
        ping_interval: settings.ping_interval.max(PING_INTERVAL),
        ..settings.clone()
    }
}

/// Go's servers end a connection that pings faster than every 30 s; two pings may come closer
/// together than they left.
const PING_INTERVAL: Duration = Duration::from_secs(35);

/// How long a target may be silent after its client has written everything: time for an answer, and
/// not so much that clients which wait for the target's end pile up.
const HALF_CLOSED: Duration = Duration::from_secs(10);
