//! The life of one lane: streams are served as the server opens them, and the lane ends in order
//! when either side drains.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_tunnel::TunnelError;
use cluster_proxy_tunnel::lane::LaneEvent;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::connect::Lane;
use crate::serve::Targets;
use crate::servers::ConnectedLane;

/// Runs `lane` to its end and says what ended it. What is still open on it then breaks off. One
/// that carried nothing for `idle_limit` is given up, if there are enough without it.
pub(crate) async fn run(
    mut lane: Lane,
    targets: Arc<Targets>,
    place: &mut ConnectedLane,
    idle_limit: Duration,
    drain: &Drain,
) -> TunnelError {
    // Tokens of its own: this is polled with every frame.
    let drain = drain.child();
    let mut tunnels = JoinSet::new();
    let mut stage = Stage::Serving;
    let mut idle = pin!(sleep(idle_limit));
    loop {
        tokio::select! {
            event = lane.next() => match event {
                Ok(LaneEvent::Connect(incoming)) => {
                    let targets = Arc::clone(&targets);
                    tunnels.spawn(async move { targets.serve(incoming).await });
                }
                Ok(LaneEvent::ServerCount(count)) => place.servers().set_count(count),
                Ok(LaneEvent::Lanes(count)) => place.asked_for(count),
                Ok(LaneEvent::ServerDrains) => {
                    let server = place.server_id();
                    tracing::info!(server, "the server drains: connecting elsewhere");
                    place.drains();
                }
                Ok(LaneEvent::ServerCloses) => {
                    place.drains();
                    stage = stage.finish(&mut lane);
                }
                Err(end) => return end,
            },
            Some(_) = tunnels.join_next() => {
                idle.as_mut().reset(Instant::now() + idle_limit);
            }
            () = &mut idle, if stage == Stage::Serving && tunnels.is_empty() => {
                if place.retire() {
                    stage = stage.finish(&mut lane);
                } else {
                    idle.as_mut().reset(Instant::now() + idle_limit);
                }
            }
            () = stage.over(&drain) => match stage {
                Stage::Serving => {
                    lane.drain();
                    stage = Stage::Draining;
                }
                Stage::Draining => stage = stage.finish(&mut lane),
                Stage::Finishing | Stage::Closed => return TunnelError::Closed,
            },
        }
        if stage == Stage::Finishing && tunnels.is_empty() {
            lane.close();
            stage = Stage::Closed;
        }
    }
}

/// How far the end of a lane has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// The server was told that this agent ends soon.
    Draining,
    /// No more streams are taken.
    Finishing,
    /// The last stream is done, and what was sent is leaving.
    Closed,
}

impl Stage {
    /// Returns when the drain ends this stage; the drain's own stages come in order.
    async fn over(self, drain: &Drain) {
        match self {
            Self::Serving => drain.started().await,
            Self::Draining => drain.closing().await,
            Self::Finishing | Self::Closed => drain.ended().await,
        }
    }

    fn finish(self, lane: &mut Lane) -> Self {
        if self == Self::Closed {
            return self;
        }
        lane.finish();
        Self::Finishing
    }
}
