//! One connection of an agent, whichever protocol it speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_proxy_tunnel::konnectivity::{AgentStream, AgentStreamDriver};
use cluster_proxy_tunnel::lane::{AgentHello, HubLane, HubLaneDriver};
use cluster_proxy_tunnel::{DialError, Target, TunnelError, TunnelStream};
use tokio::io::{AsyncRead, AsyncWrite};

/// Clones share it.
#[derive(Debug, Clone)]
pub(crate) enum AgentLink {
    Lane(HubLane),
    Konnectivity {
        stream: AgentStream,
        /// How many of its stalled connections are in the metrics.
        counted: Arc<AtomicU64>,
    },
}

/// What an agent and this server speak with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgentProtocol {
    Lane,
    Konnectivity,
}

impl AgentProtocol {
    /// Its name in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Konnectivity => "konnectivity",
        }
    }
}

impl AgentLink {
    pub(crate) fn konnectivity(stream: AgentStream) -> Self {
        Self::Konnectivity {
            stream,
            counted: Arc::default(),
        }
    }

    pub(crate) fn protocol(&self) -> AgentProtocol {
        match self {
            Self::Lane(_) => AgentProtocol::Lane,
            Self::Konnectivity { .. } => AgentProtocol::Konnectivity,
        }
    }

    /// How the agent introduced itself. It proves nothing: the certificate does.
    pub(crate) fn agent(&self) -> &AgentHello {
        match self {
            Self::Lane(lane) => lane.agent(),
            Self::Konnectivity { stream, .. } => stream.agent(),
        }
    }

    pub(crate) async fn open(
        &self,
        target: &Target,
        limit: Duration,
    ) -> Result<TunnelStream, DialError> {
        match self {
            Self::Lane(lane) => lane.open(target, limit).await,
            Self::Konnectivity { stream, .. } => stream.open(target, limit).await,
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        match self {
            Self::Lane(lane) => lane.is_usable(),
            Self::Konnectivity { stream, .. } => stream.is_usable(),
        }
    }

    /// Whether the agent has not answered for a while: it may be gone without a word.
    pub(crate) fn is_doubtful(&self) -> bool {
        match self {
            Self::Lane(lane) => lane.is_doubtful(),
            Self::Konnectivity { .. } => false,
        }
    }

    pub(crate) fn agent_drains(&self) -> bool {
        match self {
            Self::Lane(lane) => lane.agent_drains(),
            Self::Konnectivity { stream, .. } => stream.agent_drains(),
        }
    }

    /// The last measured round trip; `None` until the first was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        match self {
            Self::Lane(lane) => lane.round_trip(),
            Self::Konnectivity { stream, .. } => stream.round_trip(),
        }
    }

    /// How many tunnelled connections are open.
    pub(crate) fn open_streams(&self) -> usize {
        match self {
            Self::Lane(lane) => lane.open_streams(),
            Self::Konnectivity { stream, .. } => stream.open_streams(),
        }
    }

    /// How many of them another one might have to wait for; on konnectivity's stream any might.
    pub(crate) fn busy_streams(&self) -> usize {
        match self {
            Self::Lane(lane) => lane.busy_streams(),
            Self::Konnectivity { stream, .. } => stream.open_streams(),
        }
    }

    /// Asks the agent to have `count` connections like this one.
    pub(crate) fn ask_for_lanes(&self, count: u32) {
        match self {
            Self::Lane(lane) => lane.ask_for_lanes(count),
            Self::Konnectivity { .. } => {}
        }
    }

    /// Tells the agent that this server ends soon, where the protocol has a word for it.
    pub(crate) fn drain(&self) {
        match self {
            Self::Lane(lane) => lane.drain(),
            Self::Konnectivity { stream, .. } => stream.drain(),
        }
    }

    /// Opens nothing more here; the driver ends when what is open is done.
    pub(crate) fn close(&self) {
        match self {
            Self::Lane(lane) => lane.close(),
            Self::Konnectivity { stream, .. } => stream.close(),
        }
    }

    /// Connections closed for the others' sake since this was asked last.
    pub(crate) fn take_stalled(&self) -> u64 {
        match self {
            // Each stream of a lane has a window of its own.
            Self::Lane(_) => 0,
            Self::Konnectivity { stream, counted } => {
                let stalled = stream.stalled();
                stalled.saturating_sub(counted.fetch_max(stalled, Ordering::Relaxed))
            }
        }
    }
}

/// Drives an [`AgentLink`]: nothing moves unless it is polled.
#[derive(Debug)]
pub(crate) enum AgentLinkDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    Lane(Box<HubLaneDriver<T>>),
    Konnectivity(Box<AgentStreamDriver<T>>),
}

impl<T> AgentLinkDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Drives the link to its end and says what ended it.
    pub(crate) async fn run(&mut self) -> TunnelError {
        match self {
            Self::Lane(driver) => driver.run().await,
            Self::Konnectivity(driver) => driver.run().await,
        }
    }
}
