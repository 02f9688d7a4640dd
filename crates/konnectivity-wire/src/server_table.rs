//! The server's end of one agent's stream: which frontend has which connection.
//!
//! ```text
//!            DIAL_REQ            DIAL_RSP             CLOSE_REQ             CLOSE_RSP
//!  (frontend) ──────▶ dialling ───────────▶ connected ──────────▶ closing ───────────▶ (forgotten)
//!                        │ error, DIAL_CLS,     │ CLOSE_RSP          │ no answer in time
//!                        └─ timeout ────────────┴────────────────────┴───────────────▶ (forgotten)
//! ```
//!
//! One table for each stream, not for each agent id: two streams of one agent never share a
//! connection (issue 462 of apiserver-network-proxy), and all that a stream carried ends with it,
//! dials included (issue 126).
//!
//! Dial ids on the agent's stream are the table's own, never a client's: two clients that choose
//! the same `random` cannot get each other's connection.
//!
//! A connection without a frontend stays known until the agent has confirmed its end: DATA that is
//! still on its way is dropped in silence, where Go answers each packet with another CLOSE_REQ.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::deadlines::Deadlines;
use crate::{ConnectId, DialId, FrontendId, Packet, Stray};

mod agent_packets;
mod event;
mod limits;

pub use event::{CloseReason, DialFailure, ServerAction, ServerEvent};
pub use limits::ServerLimits;

/// Connections of one agent's stream. Bounded by [`ServerLimits`]; owns no IO and no clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerTable {
    limits: ServerLimits,
    frontends: BTreeMap<FrontendId, Stage>,
    dials: BTreeMap<DialId, Dial>,
    connections: BTreeMap<ConnectId, Connection>,
    deadlines: Deadlines<Wait>,
    last_dial: i64,
    agent_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Dialling(DialId),
    Connected(ConnectId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Dial {
    frontend: FrontendId,
    deadline: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Connection {
    Open(FrontendId),
    /// CLOSE_REQ is sent; the frontend waits, or is gone.
    Closing {
        frontend: Option<FrontendId>,
        deadline: Duration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Wait {
    Dial(DialId),
    Close(ConnectId),
}

impl ServerTable {
    /// An empty table.
    #[must_use]
    pub fn new(limits: ServerLimits) -> Self {
        Self {
            limits,
            frontends: BTreeMap::new(),
            dials: BTreeMap::new(),
            connections: BTreeMap::new(),
            deadlines: Deadlines::new(),
            last_dial: 0,
            agent_gone: false,
        }
    }

    /// Takes what happened at `now` and appends what is to be done. `now` never goes back.
    pub fn handle(&mut self, now: Duration, event: ServerEvent, actions: &mut Vec<ServerAction>) {
        match event {
            ServerEvent::Dial { frontend, address } => self.dial(now, frontend, address, actions),
            ServerEvent::FrontendData { frontend, data } => match self.open(frontend) {
                Some(connect) => actions.push(ServerAction::Send(Packet::Data { connect, data })),
                None => actions.push(ServerAction::Count(self.stray_data(frontend))),
            },
            ServerEvent::FrontendClose { frontend } => self.close(now, frontend, actions),
            ServerEvent::FrontendGone { frontend } => self.leave(now, frontend, actions),
            ServerEvent::Agent(packet) if !self.agent_gone => {
                self.agent_packet(now, packet, actions);
            }
            ServerEvent::Agent(_) => actions.push(ServerAction::Count(Stray::LateEvent)),
            ServerEvent::AgentGone => self.end(actions),
            ServerEvent::Tick => self.expire(now, actions),
        }
    }

    /// When [`ServerEvent::Tick`] is due; `None` while nothing is waited for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// Dials not yet answered (`pending_backend_dials`).
    #[must_use]
    pub fn pending_dials(&self) -> usize {
        self.dials.len()
    }

    /// Connections that a frontend has (`established_connections`).
    #[must_use]
    pub fn established(&self) -> usize {
        self.frontends.len() - self.dials.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty()
            && self.dials.is_empty()
            && self.connections.is_empty()
            && self.deadlines.len() == 0
    }

    fn dial(
        &mut self,
        now: Duration,
        frontend: FrontendId,
        address: String,
        actions: &mut Vec<ServerAction>,
    ) {
        if self.frontends.contains_key(&frontend) {
            actions.push(ServerAction::Count(Stray::IdInUse));
            return;
        }
        let failure = if self.agent_gone {
            Some(DialFailure::AgentLost)
        } else if self.dials.len() >= self.limits.dials || !self.has_room() {
            Some(DialFailure::Overloaded)
        } else {
            None
        };
        if let Some(failure) = failure {
            actions.push(ServerAction::DialFailed { frontend, failure });
            return;
        }
        self.last_dial += 1;
        let dial = DialId::new(self.last_dial);
        let deadline = now + self.limits.dial_timeout;
        self.frontends.insert(frontend, Stage::Dialling(dial));
        self.dials.insert(dial, Dial { frontend, deadline });
        self.deadlines.insert(deadline, Wait::Dial(dial));
        actions.push(ServerAction::Send(Packet::DialRequest {
            protocol: "tcp".to_owned(),
            address,
            dial,
        }));
    }

    fn close(&mut self, now: Duration, frontend: FrontendId, actions: &mut Vec<ServerAction>) {
        match self.frontends.get(&frontend) {
            Some(Stage::Dialling(dial)) => {
                let dial = *dial;
                self.forget_dial(dial);
                actions.push(ServerAction::Send(Packet::CloseDial { dial }));
                let failure = DialFailure::Cancelled;
                actions.push(ServerAction::DialFailed { frontend, failure });
            }
            Some(Stage::Connected(connect)) => {
                let connect = *connect;
                if self.open(frontend).is_some() {
                    self.begin_close(now, connect, Some(frontend), actions);
                } else {
                    actions.push(ServerAction::Count(Stray::ClosedTwice));
                }
            }
            None => actions.push(ServerAction::Count(Stray::LateEvent)),
        }
    }

    fn leave(&mut self, now: Duration, frontend: FrontendId, actions: &mut Vec<ServerAction>) {
        match self.frontends.get(&frontend) {
            Some(Stage::Dialling(dial)) => {
                let dial = *dial;
                self.forget_dial(dial);
                actions.push(ServerAction::Send(Packet::CloseDial { dial }));
            }
            Some(Stage::Connected(connect)) => {
                let connect = *connect;
                self.frontends.remove(&frontend);
                match self.connections.get_mut(&connect) {
                    Some(Connection::Closing { frontend, .. }) => *frontend = None,
                    _ => self.begin_close(now, connect, None, actions),
                }
            }
            // The last word to the frontend and its end crossed.
            None => actions.push(ServerAction::Count(Stray::LateEvent)),
        }
    }

    fn end(&mut self, actions: &mut Vec<ServerAction>) {
        self.agent_gone = true;
        for (frontend, stage) in std::mem::take(&mut self.frontends) {
            actions.push(match stage {
                Stage::Dialling(_) => ServerAction::DialFailed {
                    frontend,
                    failure: DialFailure::AgentLost,
                },
                Stage::Connected(_) => ServerAction::Closed {
                    frontend,
                    reason: CloseReason::AgentLost,
                },
            });
        }
        self.dials.clear();
        self.connections.clear();
        self.deadlines.clear();
    }

    fn expire(&mut self, now: Duration, actions: &mut Vec<ServerAction>) {
        while let Some(wait) = self.deadlines.pop(now) {
            match wait {
                Wait::Dial(dial) => {
                    let Some(frontend) = self.forget_dial(dial) else {
                        continue;
                    };
                    actions.push(ServerAction::Send(Packet::CloseDial { dial }));
                    let failure = DialFailure::TimedOut;
                    actions.push(ServerAction::DialFailed { frontend, failure });
                }
                Wait::Close(connect) => {
                    actions.push(ServerAction::Count(Stray::CloseUnanswered));
                    self.forget_connection(connect, CloseReason::Unanswered, actions);
                }
            }
        }
    }

    /// Asks the agent to end a connection and remembers that, for `frontend` to be told.
    fn begin_close(
        &mut self,
        now: Duration,
        connect: ConnectId,
        frontend: Option<FrontendId>,
        actions: &mut Vec<ServerAction>,
    ) {
        let deadline = now + self.limits.close_timeout;
        let closing = Connection::Closing { frontend, deadline };
        self.connections.insert(connect, closing);
        self.deadlines.insert(deadline, Wait::Close(connect));
        actions.push(ServerAction::Send(Packet::CloseRequest { connect }));
    }

    /// The connection has ended: tells its frontend. False when it was not known.
    fn forget_connection(
        &mut self,
        connect: ConnectId,
        reason: CloseReason,
        actions: &mut Vec<ServerAction>,
    ) -> bool {
        let frontend = match self.connections.remove(&connect) {
            None => return false,
            Some(Connection::Open(frontend)) => Some(frontend),
            Some(Connection::Closing { frontend, deadline }) => {
                self.deadlines.remove(deadline, Wait::Close(connect));
                frontend
            }
        };
        if let Some(frontend) = frontend {
            self.frontends.remove(&frontend);
            actions.push(ServerAction::Closed { frontend, reason });
        }
        true
    }

    fn forget_dial(&mut self, dial: DialId) -> Option<FrontendId> {
        let Dial { frontend, deadline } = self.dials.remove(&dial)?;
        self.deadlines.remove(deadline, Wait::Dial(dial));
        self.frontends.remove(&frontend);
        Some(frontend)
    }

    /// The frontend's connection, while bytes may be sent on it.
    fn open(&self, frontend: FrontendId) -> Option<ConnectId> {
        match self.frontends.get(&frontend) {
            Some(Stage::Connected(connect)) => {
                let open = matches!(self.connections.get(connect), Some(Connection::Open(_)));
                open.then_some(*connect)
            }
            _ => None,
        }
    }

    fn stray_data(&self, frontend: FrontendId) -> Stray {
        match self.frontends.get(&frontend) {
            Some(Stage::Connected(_)) => Stray::DataAfterClose,
            Some(Stage::Dialling(_)) => Stray::UnexpectedPacket,
            None => Stray::LateEvent,
        }
    }

    fn has_room(&self) -> bool {
        self.dials.len() + self.connections.len() < self.limits.connections
    }
}

#[cfg(test)]
mod tests;
