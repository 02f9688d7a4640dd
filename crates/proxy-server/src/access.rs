//! The access event: one for each tunnelled connection asked for, at its end, target `access`.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_tunnel::relay::{Leg, Moved, RelayEnd, StreamRelay};
use cluster_proxy_tunnel::{DialError, IncomingConnect};
use tokio::time::Instant;

use crate::agents::Agent;
use crate::link_facts::Meter;
use crate::metrics::{Counted, Metrics};

/// What the access event of one tunnelled connection will say.
#[derive(Debug)]
pub(crate) struct Access {
    client: String,
    target: String,
    agent: Option<Arc<Agent>>,
    begun: Instant,
    /// How long the agent took to connect the target.
    dialled: Option<Duration>,
    pending: Option<Counted>,
    _request: Counted,
    metrics: Metrics,
}

/// How a tunnelled connection ended.
#[derive(Debug)]
struct End {
    reason: &'static str,
    /// `client`, `target`, `agent` or `server`; nobody's where both directions ended.
    fault: Option<&'static str>,
    details: String,
}

impl Access {
    pub(crate) fn new(client: String, incoming: &IncomingConnect, metrics: Metrics) -> Self {
        Self {
            client,
            target: incoming.target().to_string(),
            agent: None,
            begun: Instant::now(),
            dialled: None,
            pending: Some(metrics.pending_dial()),
            _request: metrics.request(incoming.is_grpc()),
            metrics,
        }
    }

    /// This agent is asked to connect the target.
    pub(crate) fn through(&mut self, agent: &Arc<Agent>) {
        self.agent = Some(Arc::clone(agent));
    }

    /// The agent has connected the target.
    pub(crate) fn opened(&mut self) {
        let took = self.begun.elapsed();
        self.dialled = Some(took);
        self.pending = None;
        self.metrics.dialled(took);
    }

    /// Runs `relay` to its end and counts its bytes as they move.
    pub(crate) async fn metered(&self, relay: &mut StreamRelay) -> RelayEnd {
        let Some(agent) = &self.agent else {
            return relay.run().await;
        };
        let mut meter = Meter::new(&agent.facts, &self.metrics);
        poll_fn(|cx| {
            let polled = relay.poll(cx);
            meter.note(relay.moved());
            polled
        })
        .await
    }

    /// The target was not connected.
    pub(crate) fn failed(&self, error: &DialError) {
        self.metrics.not_dialled(error.reason());
        let end = End {
            reason: error.reason(),
            fault: Some(error.fault()),
            details: error.to_string(),
        };
        self.write(&end, Moved::default());
    }

    /// The client went before it could be told that the target is connected.
    pub(crate) fn abandoned(&self) {
        self.metrics.not_dialled("abandoned");
        let end = End {
            reason: "abandoned",
            fault: Some("client"),
            details: "the client did not wait for the answer".to_owned(),
        };
        self.write(&end, Moved::default());
    }

    /// An opened connection has ended.
    pub(crate) fn ended(&self, end: &RelayEnd, moved: Moved) {
        if let Some(agent) = &self.agent {
            self.metrics.stalled(agent.link.take_stalled());
        }
        let (fault, details) = match end {
            RelayEnd::Finished => (None, "both directions ended".to_owned()),
            RelayEnd::Left { error } => (
                None,
                format!("the client ended its direction and left: {error}"),
            ),
            RelayEnd::Broken { leg, error } => {
                (Some(self.fault_of(*leg)), format!("{leg}: {error}"))
            }
        };
        let end = End {
            reason: end.reason(),
            fault,
            details,
        };
        self.write(&end, moved);
    }

    /// A broken leg towards the target may be the agent's whole link.
    fn fault_of(&self, leg: Leg) -> &'static str {
        let agent_is_there = self
            .agent
            .as_ref()
            .is_some_and(|agent| agent.link.is_usable());
        match leg {
            Leg::Near => "client",
            Leg::Far if agent_is_there => "target",
            Leg::Far => "agent",
        }
    }

    fn write(&self, end: &End, moved: Moved) {
        let agent = self.agent.as_deref();
        tracing::info!(
            target: "access",
            client = self.client,
            cluster = agent.and_then(Agent::cluster).map(tracing::field::display),
            agent = agent.map(Agent::id),
            protocol = agent.map(|agent| agent.link.protocol().name()),
            dialled = self.target,
            reason = end.reason,
            fault = end.fault,
            bytes_to_target = moved.to_far,
            bytes_to_client = moved.to_near,
            dial_milliseconds = self.dialled.map(milliseconds),
            milliseconds = milliseconds(self.begun.elapsed()),
            "tunnelled connection: {}",
            end.details
        );
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
