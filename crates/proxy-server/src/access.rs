//! The access event: one for each tunnelled connection asked for, at its end, target `access`.

use std::sync::Arc;

use cluster_proxy_tunnel::relay::{Moved, RelayEnd};
use cluster_proxy_tunnel::{DialError, Target};
use tokio::time::Instant;

use crate::agents::Agent;
use crate::metrics::Metrics;

/// What the access event of one tunnelled connection will say.
#[derive(Debug)]
pub(crate) struct Access {
    client: String,
    target: String,
    agent: Option<Arc<Agent>>,
    begun: Instant,
    metrics: Metrics,
}

impl Access {
    pub(crate) fn new(client: String, target: &Target, metrics: Metrics) -> Self {
        Self {
            client,
            target: target.to_string(),
            agent: None,
            begun: Instant::now(),
            metrics,
        }
    }

    /// The agent has connected the target.
    pub(crate) fn opened(&mut self, agent: &Arc<Agent>) {
        self.agent = Some(Arc::clone(agent));
        self.metrics.tunnel("opened");
    }

    /// The target was not connected.
    pub(crate) fn failed(&self, error: &DialError) {
        self.metrics.tunnel(error.reason());
        self.write(error.reason(), error, Moved::default());
    }

    /// The client went before the target was connected.
    pub(crate) fn abandoned(&self) {
        self.metrics.tunnel("abandoned");
        self.write(
            "abandoned",
            "the client did not wait for the answer",
            Moved::default(),
        );
    }

    /// An opened connection has ended.
    pub(crate) fn ended(&self, end: &RelayEnd, moved: Moved) {
        self.metrics.moved(moved);
        if let Some(agent) = &self.agent {
            self.metrics.stalled(agent.link.take_stalled());
        }
        match end {
            RelayEnd::Finished => self.write(end.reason(), "both directions ended", moved),
            RelayEnd::Broken { leg, error } => {
                self.write(end.reason(), format_args!("{leg}: {error}"), moved);
            }
        }
    }

    fn write(&self, reason: &'static str, details: impl std::fmt::Display, moved: Moved) {
        let agent = self.agent.as_deref();
        tracing::info!(
            target: "access",
            client = self.client,
            cluster = agent.and_then(Agent::cluster).map(tracing::field::display),
            agent = agent.map(Agent::id),
            dialled = self.target,
            reason,
            bytes_to_target = moved.to_far,
            bytes_to_client = moved.to_near,
            milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "tunnelled connection: {details}"
        );
    }
}
