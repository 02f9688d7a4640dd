//! The agent's end of its stream to one server: which connection is which target's.
//!
//! ```text
//!           DIAL_REQ           dialled            CLOSE_REQ            target ended
//!  (server) ───────▶ dialling ─────────▶ connected ────────▶ finishing ────────────▶ (forgotten)
//!                       │ failed, DIAL_CLS,  │ target ended      │ too slow
//!                       └─ timeout ──────────┴───────────────────┴─────────────────▶ (forgotten)
//! ```
//!
//! Every dial is answered by one DIAL_RSP unless DIAL_CLS ended it, and every connection that was
//! announced so ends with one CLOSE_RSP, which is sent after its last byte. Connection ids count up
//! and are never used twice, so a packet for one that has ended is known as such.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::deadlines::Deadlines;
use crate::{ConnectId, DialFailureKind, DialId, Packet, PeerText, Stray};

mod event;
mod limits;
mod server_packets;

pub use event::{AgentAction, AgentEvent};
pub use limits::AgentLimits;

/// Connections that an agent has for one server. Bounded by [`AgentLimits`]; owns no IO and no
/// clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentTable {
    limits: AgentLimits,
    connections: BTreeMap<ConnectId, Stage>,
    dials: BTreeMap<DialId, ConnectId>,
    deadlines: Deadlines<ConnectId>,
    last_connect: i64,
    server_gone: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Dialling {
        dial: DialId,
        address: String,
        deadline: Duration,
    },
    Open,
    /// The server asked for the end; what is queued for the target is still written.
    Finishing {
        deadline: Duration,
    },
}

impl AgentTable {
    /// An empty table.
    #[must_use]
    pub fn new(limits: AgentLimits) -> Self {
        Self {
            limits,
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            deadlines: Deadlines::new(),
            last_connect: 0,
            server_gone: false,
        }
    }

    /// Takes what happened at `now` and appends what is to be done. `now` never goes back.
    pub fn handle(&mut self, now: Duration, event: AgentEvent, actions: &mut Vec<AgentAction>) {
        if self.server_gone {
            actions.push(AgentAction::Count(Stray::LateEvent));
            return;
        }
        match event {
            AgentEvent::Server(packet) => self.server_packet(now, packet, actions),
            AgentEvent::Dialled { connect } => match self.end_dial(connect) {
                Some((dial, _)) => {
                    self.connections.insert(connect, Stage::Open);
                    let result = Ok(connect);
                    let response = Packet::DialResponse { dial, result };
                    actions.push(AgentAction::Send(response));
                }
                None => actions.push(AgentAction::Count(Stray::LateEvent)),
            },
            AgentEvent::DialFailed { connect, error } => match self.end_dial(connect) {
                Some((dial, _)) => actions.push(failed(dial, error)),
                None => actions.push(AgentAction::Count(Stray::LateEvent)),
            },
            AgentEvent::TargetData { connect, data } => match self.connections.get(&connect) {
                Some(Stage::Open) => {
                    actions.push(AgentAction::Send(Packet::Data { connect, data }))
                }
                Some(Stage::Finishing { .. }) => {
                    actions.push(AgentAction::Count(Stray::DataAfterClose));
                }
                Some(Stage::Dialling { .. }) | None => {
                    actions.push(AgentAction::Count(Stray::LateEvent));
                }
            },
            AgentEvent::TargetEnded { connect, error } => {
                if !self.end_connection(connect, error, actions) {
                    actions.push(AgentAction::Count(Stray::LateEvent));
                }
            }
            AgentEvent::Drain => actions.push(AgentAction::Send(Packet::Drain)),
            AgentEvent::ServerGone => self.end(actions),
            AgentEvent::Tick => self.expire(now, actions),
        }
    }

    /// When [`AgentEvent::Tick`] is due; `None` while nothing is waited for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// Connections to targets (`open_endpoint_connections`), those being closed among them.
    #[must_use]
    pub fn established(&self) -> usize {
        self.connections.len() - self.dials.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.dials.is_empty() && self.deadlines.len() == 0
    }

    fn end(&mut self, actions: &mut Vec<AgentAction>) {
        self.server_gone = true;
        for (connect, _) in std::mem::take(&mut self.connections) {
            actions.push(AgentAction::Abort { connect });
        }
        self.dials.clear();
        self.deadlines.clear();
    }

    fn expire(&mut self, now: Duration, actions: &mut Vec<AgentAction>) {
        while let Some(connect) = self.deadlines.pop(now) {
            if let Some((dial, address)) = self.end_dial(connect) {
                actions.push(AgentAction::Abort { connect });
                actions.push(failed(dial, DialFailureKind::TimedOut.wording(&address)));
            } else {
                actions.push(AgentAction::Abort { connect });
                let error = PeerText::new("the target did not take the last bytes in time");
                self.end_connection(connect, error, actions);
            }
        }
    }

    /// Takes a dial out that has an outcome; `None` when it is none any more.
    fn end_dial(&mut self, connect: ConnectId) -> Option<(DialId, String)> {
        let dialling = |stage: &Stage| matches!(stage, Stage::Dialling { .. });
        if !self.connections.get(&connect).is_some_and(dialling) {
            return None;
        }
        let Some(Stage::Dialling {
            dial,
            address,
            deadline,
        }) = self.connections.remove(&connect)
        else {
            return None;
        };
        self.deadlines.remove(deadline, connect);
        self.dials.remove(&dial);
        Some((dial, address))
    }

    /// Tells the server that a connection has ended. False when it has none such.
    fn end_connection(
        &mut self,
        connect: ConnectId,
        error: PeerText,
        actions: &mut Vec<AgentAction>,
    ) -> bool {
        match self.connections.get(&connect) {
            Some(Stage::Open) => {}
            Some(Stage::Finishing { deadline }) => self.deadlines.remove(*deadline, connect),
            Some(Stage::Dialling { .. }) | None => return false,
        }
        self.connections.remove(&connect);
        let response = Packet::CloseResponse { connect, error };
        actions.push(AgentAction::Send(response));
        true
    }
}

fn failed(dial: DialId, error: PeerText) -> AgentAction {
    let result = Err(error);
    AgentAction::Send(Packet::DialResponse { dial, result })
}

#[cfg(test)]
mod tests;
