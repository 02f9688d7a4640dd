//! The server's end of one client's stream: `ProxyService.Proxy`, which carries one connection.
//!
//! ```text
//!  idle ─ DIAL_REQ ▶ dialling ─ DIAL_RSP ▶ open ─ CLOSE_REQ ▶ closing ─ CLOSE_RSP ▶ ended
//! ```
//!
//! A client reaches its own connection and no other. Go's server passes a CLOSE_REQ with any
//! connection id on to the agent, and closes both connections when DATA names another one, so that
//! there one client can end the connections of others; here a foreign id ends nothing but, for
//! DATA, the stream that named it.

use crate::server_table::CloseReason;
use crate::{ConnectId, DialId, MAX_ADDRESS, Packet, PeerText, Stray};

mod event;

pub use event::{ClientAction, ClientEvent};

/// One client's stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClientStream(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum State {
    #[default]
    Idle,
    Dialling(DialId),
    Open {
        dial: DialId,
        connect: ConnectId,
    },
    Closing(ConnectId),
    Ended,
}

impl ClientStream {
    /// Takes what happened and appends what is to be done.
    pub fn handle(&mut self, event: ClientEvent, actions: &mut Vec<ClientAction>) {
        match event {
            ClientEvent::Client(packet) => self.client(packet, actions),
            ClientEvent::ClientGone => {
                if matches!(
                    self.0,
                    State::Dialling(_) | State::Open { .. } | State::Closing(_)
                ) {
                    actions.push(ClientAction::Gone);
                }
                self.0 = State::Ended;
            }
            ClientEvent::Dialled { connect } => match self.0 {
                State::Dialling(dial) => {
                    self.0 = State::Open { dial, connect };
                    let result = Ok(connect);
                    actions.push(ClientAction::Send(Packet::DialResponse { dial, result }));
                }
                _ => actions.push(ClientAction::Count(Stray::LateEvent)),
            },
            ClientEvent::DialFailed { failure } => {
                self.dial_failed(PeerText::new(&failure.to_string()), actions);
            }
            ClientEvent::Refused { why } => self.dial_failed(why, actions),
            ClientEvent::Deliver { data } => match self.0 {
                State::Open { connect, .. } => {
                    actions.push(ClientAction::Send(Packet::Data { connect, data }));
                }
                State::Closing(_) => actions.push(ClientAction::Count(Stray::DataAfterClose)),
                _ => actions.push(ClientAction::Count(Stray::LateEvent)),
            },
            ClientEvent::Closed { reason } => match self.0 {
                State::Open { connect, .. } | State::Closing(connect) => {
                    self.finish(connect, text(&reason), actions);
                }
                _ => actions.push(ClientAction::Count(Stray::LateEvent)),
            },
        }
    }

    fn client(&mut self, packet: Packet, actions: &mut Vec<ClientAction>) {
        if self.0 == State::Ended {
            actions.push(ClientAction::Count(Stray::UnexpectedPacket));
            return;
        }
        match packet {
            Packet::DialRequest {
                protocol,
                address,
                dial,
            } => self.dial(&protocol, address, dial, actions),
            Packet::CloseDial { dial } => match self.0 {
                // Open: the answer and the cancellation crossed.
                State::Dialling(own) | State::Open { dial: own, .. } if own == dial => {
                    self.0 = State::Ended;
                    actions.extend([ClientAction::Gone, ClientAction::Finish]);
                }
                _ => actions.push(ClientAction::Count(Stray::UnknownDial)),
            },
            Packet::Data { connect, data } => self.data(connect, data, actions),
            Packet::CloseRequest { connect } => match self.0 {
                State::Open { connect: own, .. } if own == connect => {
                    self.0 = State::Closing(own);
                    actions.push(ClientAction::Close);
                }
                State::Closing(own) if own == connect => {
                    actions.push(ClientAction::Count(Stray::ClosedTwice));
                }
                _ => {
                    actions.push(ClientAction::Count(Stray::UnknownConnection));
                    actions.push(closed(connect, "not a connection of this stream"));
                }
            },
            Packet::DialResponse { .. } | Packet::CloseResponse { .. } | Packet::Drain => {
                actions.push(ClientAction::Count(Stray::UnexpectedPacket));
            }
        }
    }

    fn dial(
        &mut self,
        protocol: &str,
        address: String,
        dial: DialId,
        actions: &mut Vec<ClientAction>,
    ) {
        match self.0 {
            State::Idle => {}
            // An answer would be taken for that of the first.
            State::Dialling(own) | State::Open { dial: own, .. } if own == dial => {
                actions.push(ClientAction::Count(Stray::IdInUse));
                return;
            }
            _ => {
                actions.push(ClientAction::Count(Stray::UnexpectedPacket));
                let error = PeerText::new("one stream carries one connection");
                actions.push(failed(dial, error));
                return;
            }
        }
        self.0 = State::Dialling(dial);
        if protocol != "tcp" {
            let error = format!("dial {protocol}: only tcp is supported");
            self.dial_failed(PeerText::new(&error), actions);
        } else if address.len() > MAX_ADDRESS {
            self.dial_failed(PeerText::new("the address is too long"), actions);
        } else {
            actions.push(ClientAction::Dial { address });
        }
    }

    fn data(&mut self, connect: ConnectId, data: bytes::Bytes, actions: &mut Vec<ClientAction>) {
        match self.0 {
            State::Open { connect: own, .. } if own == connect => {
                actions.push(ClientAction::Data { data });
            }
            State::Closing(own) if own == connect => {
                actions.push(ClientAction::Count(Stray::DataAfterClose));
            }
            _ => {
                actions.push(ClientAction::Count(Stray::UnknownConnection));
                if self.0 != State::Idle {
                    actions.push(ClientAction::Gone);
                }
                if let State::Open { connect: own, .. } | State::Closing(own) = self.0 {
                    actions.push(closed(own, MISMATCH));
                }
                self.finish(connect, PeerText::new(MISMATCH), actions);
            }
        }
    }

    fn dial_failed(&mut self, error: PeerText, actions: &mut Vec<ClientAction>) {
        match self.0 {
            State::Dialling(dial) => {
                self.0 = State::Ended;
                actions.push(failed(dial, error));
                actions.push(ClientAction::Finish);
            }
            _ => actions.push(ClientAction::Count(Stray::LateEvent)),
        }
    }

    fn finish(&mut self, connect: ConnectId, error: PeerText, actions: &mut Vec<ClientAction>) {
        self.0 = State::Ended;
        actions.push(ClientAction::Send(Packet::CloseResponse { connect, error }));
        actions.push(ClientAction::Finish);
    }
}

/// In Go's words.
const MISMATCH: &str = "mismatched connection IDs";

fn failed(dial: DialId, error: PeerText) -> ClientAction {
    let result = Err(error);
    ClientAction::Send(Packet::DialResponse { dial, result })
}

fn closed(connect: ConnectId, error: &str) -> ClientAction {
    let error = PeerText::new(error);
    ClientAction::Send(Packet::CloseResponse { connect, error })
}

fn text(reason: &CloseReason) -> PeerText {
    match reason {
        CloseReason::Ended => PeerText::default(),
        CloseReason::Failed(error) => error.clone(),
        CloseReason::AgentLost => PeerText::new("the agent was lost"),
        CloseReason::Unanswered => PeerText::new("the agent did not answer in time"),
    }
}

#[cfg(test)]
mod tests;
