//! The port that agents dial: each connection becomes a lane, or a stream of konnectivity, in the
//! table of agents.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::PeerIdentity;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_tunnel::lane::ServerHello;
use cluster_proxy_tunnel::throttle::Throttle;
use cluster_proxy_tunnel::tls::{Accepted, ServerStream};
use cluster_proxy_tunnel::{Http2Settings, TunnelError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Admitted, NotAdmitted, admit};
use crate::agent_link::AgentLink;
use crate::agent_tokens::AgentTokens;
use crate::agents::{Agents, ConnectedAgent};
use crate::link_facts::LinkFacts;
use crate::metrics::Metrics;
use crate::ownership::{Claims, Refusal, Rule};

/// What every agent's connection shares.
#[derive(Debug)]
pub(crate) struct AgentPort {
    pub(crate) hello: ServerHello,
    pub(crate) rule: Rule,
    pub(crate) tokens: Option<AgentTokens>,
    pub(crate) http2: Http2Settings,
    pub(crate) agents: Arc<Agents>,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
    pub(crate) refusals: Throttle,
    /// Agents whose foreign announcements were logged: each is once.
    pub(crate) blamed: Mutex<HashSet<String>>,
    /// Ends every one, once nothing needs them any more.
    pub(crate) stop: CancellationToken,
}

/// Agent ids are chosen by agents; this bounds what they can make us remember and log.
const MAX_BLAMED: usize = 4096;

/// Who is refused for its certificate tries again for ever, and may be a whole fleet.
pub(crate) const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What is on its way to the agent gets this long to leave.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// An agent that was let in, and what says how long it may stay.
struct Staying {
    admitted: Admitted<ServerStream>,
    /// As it is now, and all its changes.
    rule: Rule,
    identity: PeerIdentity,
}

impl AgentPort {
    /// Serves one connection to its end.
    ///
    /// What is needed at its beginning has room of its own, which is given back: a connection stays
    /// for days. An async function would keep what it was called with.
    pub(crate) fn serve(
        self: Arc<Self>,
        accepted: Accepted,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send {
        let admitting = Box::pin(Arc::clone(&self).admit(accepted, peer));
        async move {
            let staying = admitting.await;
            if let Some(staying) = staying {
                let stay = Box::pin(self.stay(staying, peer));
                stay.await;
            }
        }
    }

    /// Lets the agent in, or says why not.
    async fn admit(self: Arc<Self>, accepted: Accepted, peer: SocketAddr) -> Option<Box<Staying>> {
        let Accepted {
            stream,
            alpn,
            identity,
        } = accepted;
        let protocol = admission::protocol(alpn.as_deref());
        // From here on every change of the rule is seen.
        let rule = self.rule.clone();
        let admitting = admit(
            stream,
            protocol,
            (&rule, &identity, self.tokens.as_ref()),
            &self.hello,
            &self.http2,
        );
        let admitted = tokio::select! {
            () = self.stop.cancelled() => return None,
            admitted = admitting => admitted,
        };
        match admitted {
            Ok(admitted) => Some(Box::new(Staying {
                admitted,
                rule,
                identity,
            })),
            Err(not) => {
                self.note_not_admitted(&not, &identity, peer);
                None
            }
        }
    }

    /// Keeps the agent until it goes, or is not to be had any more.
    async fn stay(self: Arc<Self>, staying: Box<Staying>, peer: SocketAddr) {
        let Staying {
            admitted: (link, mut driver, claims),
            mut rule,
            identity,
        } = *staying;
        self.note_connected(&link, &claims, peer);
        let agent_id = link.agent().agent_id.clone();
        let cluster = claims.cluster.clone();
        let facts = Arc::new(LinkFacts::new(peer));
        let mut place = self.agents.connect(link, &identity, facts, claims);
        // It may have come into the table after all in there were told.
        if self.drain.is_started() {
            place.link().drain();
        }
        // A child of its own: this is polled with every frame.
        let stop = self.stop.child_token();
        let end = loop {
            tokio::select! {
                () = stop.cancelled() => {
                    place.link().close();
                    drop(place);
                    break timeout(CLOSING_TIME, driver.run())
                        .await
                        .unwrap_or(TunnelError::Closed);
                }
                end = driver.run() => break end,
                () = rule.changed() => match self.placed_anew(place, &rule, &identity) {
                    Ok(anew) => place = anew,
                    // With the driver goes all that is open on it.
                    Err(refusal) => {
                        self.metrics.agents_refused.inc();
                        tracing::warn!(
                            cluster = cluster.as_ref().map(tracing::field::display),
                            agent = agent_id,
                            %peer,
                            "agent cut off: {refusal}"
                        );
                        return;
                    }
                },
            }
        };
        tracing::info!(
            cluster = cluster.as_ref().map(tracing::field::display),
            agent = agent_id,
            %peer,
            reason = end.reason(),
            "agent disconnected: {}",
            end.in_full()
        );
    }

    fn note_not_admitted(&self, not: &NotAdmitted, identity: &PeerIdentity, peer: SocketAddr) {
        match not {
            NotAdmitted::Refused(refusal) => {
                self.metrics.agents_refused.inc();
                if let Some(left_out) = self.refusals.pass() {
                    tracing::warn!(%peer, ?identity, left_out, "agent refused: {refusal}");
                }
            }
            NotAdmitted::Unauthenticated(refusal) => {
                self.metrics.token_refused(refusal.reason());
                if let Some(left_out) = self.refusals.pass() {
                    let cause = refusal.cause();
                    tracing::warn!(%peer, ?identity, left_out, cause, "agent refused: {refusal}");
                }
            }
            NotAdmitted::Failed(error @ TunnelError::Unwanted { .. }) => {
                tracing::debug!(%peer, ?identity, "{error}");
            }
            NotAdmitted::Failed(error) => {
                let (reason, error) = (error.reason(), error.in_full());
                tracing::info!(%peer, ?identity, reason, "an agent did not connect: {error}");
            }
        }
    }

    /// The agent's place under the names it may have now.
    fn placed_anew(
        &self,
        place: ConnectedAgent,
        rule: &Rule,
        identity: &PeerIdentity,
    ) -> Result<ConnectedAgent, Refusal> {
        let claims = rule.claims(identity, &place.link().agent().identifiers)?;
        if claims == *place.claims() {
            return Ok(place);
        }
        // First the new one: there is no moment in which nobody is found.
        let link = place.link().clone();
        Ok(self.agents.connect(link, identity, place.facts(), claims))
    }

    fn note_connected(&self, link: &AgentLink, claims: &Claims, peer: SocketAddr) {
        let agent = link.agent();
        tracing::info!(
            cluster = claims.cluster.as_ref().map(tracing::field::display),
            agent = agent.agent_id,
            version = agent.version,
            protocol = link.protocol().name(),
            %peer,
            hosts = ?claims.hosts,
            "agent connected"
        );
        if !claims.dropped.is_empty() {
            self.metrics
                .announcements_dropped
                .inc_by(claims.dropped.len() as u64);
            if !self.is_first_blame(&agent.agent_id) {
                return;
            }
            tracing::warn!(
                cluster = claims.cluster.as_ref().map(tracing::field::display),
                agent = agent.agent_id,
                dropped = ?claims.dropped,
                "the agent announced names that are not its own; it is not found under them"
            );
        }
    }

    fn is_first_blame(&self, agent_id: &str) -> bool {
        let mut blamed = self.blamed.lock().unwrap_or_else(PoisonError::into_inner);
        blamed.len() < MAX_BLAMED && blamed.insert(agent_id.to_owned())
    }
}
