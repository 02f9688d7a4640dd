//! What an agent's packets do to the table. The agent is another trust domain: whatever it sends,
//! it reaches only connections of its own stream.

use std::time::Duration;

use bytes::Bytes;

use super::{CloseReason, Connection, Dial, DialFailure, ServerAction, ServerTable, Stage, Wait};
use crate::{ConnectId, DialId, Packet, PeerText, Stray};

impl ServerTable {
    pub(super) fn agent_packet(
        &mut self,
        now: Duration,
        packet: Packet,
        actions: &mut Vec<ServerAction>,
    ) {
        match packet {
            Packet::DialResponse { dial, result } => self.dialled(now, dial, result, actions),
            Packet::Data { connect, data } => self.data(now, connect, data, actions),
            Packet::CloseResponse { connect, error } => {
                let reason = if error.is_empty() {
                    CloseReason::Ended
                } else {
                    CloseReason::Failed(error)
                };
                if !self.forget_connection(connect, reason, actions) {
                    actions.push(ServerAction::Count(Stray::UnknownConnection));
                }
            }
            Packet::CloseDial { dial } => match self.forget_dial(dial) {
                Some(frontend) => actions.push(ServerAction::DialFailed {
                    frontend,
                    failure: DialFailure::GivenUp,
                }),
                None => actions.push(ServerAction::Count(Stray::UnknownDial)),
            },
            Packet::Drain => actions.push(ServerAction::Draining),
            Packet::DialRequest { .. } | Packet::CloseRequest { .. } => {
                actions.push(ServerAction::Count(Stray::UnexpectedPacket));
            }
        }
    }

    fn dialled(
        &mut self,
        now: Duration,
        dial: DialId,
        result: Result<ConnectId, PeerText>,
        actions: &mut Vec<ServerAction>,
    ) {
        let Some(Dial { frontend, deadline }) = self.dials.remove(&dial) else {
            actions.push(ServerAction::Count(Stray::UnknownDial));
            // Cancelled or timed out here, while the agent dialled: it must not keep the connection.
            if let Ok(connect) = result {
                self.refuse(now, connect, actions);
            }
            return;
        };
        self.deadlines.remove(deadline, Wait::Dial(dial));
        let failure = match result {
            Ok(connect) if !self.connections.contains_key(&connect) => {
                let open = Connection::Open(frontend);
                self.connections.insert(connect, open);
                self.frontends.insert(frontend, Stage::Connected(connect));
                actions.push(ServerAction::Dialled { frontend, connect });
                return;
            }
            // No CLOSE_REQ: it would end the connection that has the id.
            Ok(_) => {
                actions.push(ServerAction::Count(Stray::IdInUse));
                DialFailure::IdInUse
            }
            Err(error) => DialFailure::Target(error),
        };
        self.frontends.remove(&frontend);
        actions.push(ServerAction::DialFailed { frontend, failure });
    }

    fn data(
        &mut self,
        now: Duration,
        connect: ConnectId,
        data: Bytes,
        actions: &mut Vec<ServerAction>,
    ) {
        match self.connections.get(&connect) {
            Some(Connection::Open(frontend)) => {
                let frontend = *frontend;
                actions.push(ServerAction::Deliver { frontend, data });
            }
            Some(Connection::Closing { .. }) => {
                actions.push(ServerAction::Count(Stray::DataAfterClose));
            }
            None => {
                actions.push(ServerAction::Count(Stray::UnknownConnection));
                self.refuse(now, connect, actions);
            }
        }
    }

    /// Asks the agent to end a connection that nobody here has. Remembered while there is room, so
    /// that a burst of DATA is answered once; an agent that invents ids fills no memory.
    fn refuse(&mut self, now: Duration, connect: ConnectId, actions: &mut Vec<ServerAction>) {
        if self.connections.contains_key(&connect) {
            actions.push(ServerAction::Count(Stray::IdInUse));
        } else if self.has_room() {
            self.begin_close(now, connect, None, actions);
        } else {
            actions.push(ServerAction::Send(Packet::CloseRequest { connect }));
        }
    }
}
