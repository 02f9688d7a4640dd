//! What a server's packets do to the table.

use std::time::Duration;

use bytes::Bytes;

use super::{AgentAction, AgentTable, Stage, failed};
use crate::{ConnectId, DialFailureKind, DialId, MAX_ADDRESS, Packet, PeerText, Stray};

impl AgentTable {
    pub(super) fn server_packet(
        &mut self,
        now: Duration,
        packet: Packet,
        actions: &mut Vec<AgentAction>,
    ) {
        match packet {
            Packet::DialRequest {
                protocol,
                address,
                dial,
            } => self.dial(now, &protocol, address, dial, actions),
            Packet::Data { connect, data } => self.data(connect, data, actions),
            Packet::CloseRequest { connect } => self.close(now, connect, actions),
            Packet::CloseDial { dial } => match self.dials.get(&dial) {
                Some(connect) => {
                    let connect = *connect;
                    self.end_dial(connect);
                    actions.push(AgentAction::Abort { connect });
                }
                // Answered already: the server meets the answer with CLOSE_REQ.
                None => actions.push(AgentAction::Count(Stray::UnknownDial)),
            },
            Packet::DialResponse { .. } | Packet::CloseResponse { .. } | Packet::Drain => {
                actions.push(AgentAction::Count(Stray::UnexpectedPacket));
            }
        }
    }

    fn dial(
        &mut self,
        now: Duration,
        protocol: &str,
        address: String,
        dial: DialId,
        actions: &mut Vec<AgentAction>,
    ) {
        // Two clients of a Go server chose the same id. That server now has the second one under
        // it: an error is answered to the right one, while a second connection could be taken for
        // the first.
        if self.dials.contains_key(&dial) {
            actions.push(AgentAction::Count(Stray::IdInUse));
            actions.push(failed(dial, PeerText::new("the dial's id is in use")));
            return;
        }
        if protocol != "tcp" {
            let error = PeerText::new(&format!("dial {protocol}: only tcp is supported"));
            actions.push(failed(dial, error));
            return;
        }
        if address.len() > MAX_ADDRESS {
            actions.push(failed(
                dial,
                PeerText::new("dial tcp: the address is too long"),
            ));
            return;
        }
        if self.dials.len() >= self.limits.dials
            || self.connections.len() >= self.limits.connections
        {
            actions.push(failed(dial, DialFailureKind::Exhausted.wording(&address)));
            return;
        }
        self.last_connect += 1;
        let connect = ConnectId::new(self.last_connect).expect("counts from 1");
        let deadline = now + self.limits.dial_timeout;
        self.dials.insert(dial, connect);
        self.deadlines.insert(deadline, connect);
        let stage = Stage::Dialling {
            dial,
            address: address.clone(),
            deadline,
        };
        self.connections.insert(connect, stage);
        actions.push(AgentAction::Dial { connect, address });
    }

    fn data(&self, connect: ConnectId, data: Bytes, actions: &mut Vec<AgentAction>) {
        match self.connections.get(&connect) {
            Some(Stage::Open) => actions.push(AgentAction::Write { connect, data }),
            Some(Stage::Finishing { .. }) => {
                actions.push(AgentAction::Count(Stray::DataAfterClose));
            }
            // Not announced: nobody can know the id.
            Some(Stage::Dialling { .. }) => {
                actions.push(AgentAction::Count(Stray::UnknownConnection));
            }
            // CLOSE_RSP is on its way already.
            None if self.was_used(connect) => {
                actions.push(AgentAction::Count(Stray::DataAfterClose));
            }
            None => {
                actions.push(AgentAction::Count(Stray::UnknownConnection));
                actions.push(unknown(connect));
            }
        }
    }

    fn close(&mut self, now: Duration, connect: ConnectId, actions: &mut Vec<AgentAction>) {
        match self.connections.get(&connect) {
            Some(Stage::Open) => {
                let deadline = now + self.limits.finish_timeout;
                self.connections
                    .insert(connect, Stage::Finishing { deadline });
                self.deadlines.insert(deadline, connect);
                actions.push(AgentAction::Finish { connect });
            }
            Some(Stage::Finishing { .. }) => actions.push(AgentAction::Count(Stray::ClosedTwice)),
            Some(Stage::Dialling { .. }) => {
                actions.push(AgentAction::Count(Stray::UnknownConnection));
            }
            // Asked again, it is answered again, as Go does: a server that forgot must not wait.
            None => {
                actions.push(AgentAction::Count(Stray::UnknownConnection));
                actions.push(unknown(connect));
            }
        }
    }

    fn was_used(&self, connect: ConnectId) -> bool {
        (1..=self.last_connect).contains(&connect.get())
    }
}

fn unknown(connect: ConnectId) -> AgentAction {
    let error = PeerText::new("unknown connectID");
    AgentAction::Send(Packet::CloseResponse { connect, error })
}
