//! One client's stream and a client that sends anything.

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::client_stream::{ClientAction, ClientEvent, ClientStream};
use cluster_proxy_konnectivity_wire::server_table::{CloseReason, DialFailure};
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, Packet, PeerText};

use crate::explorer::Model;

#[derive(Clone, Hash)]
pub(crate) struct World {
    stream: ClientStream,
    table: Table,
    /// The id of the dial that was taken, until it is answered.
    unanswered: Option<DialId>,
    dialled: bool,
    finished: bool,
    gone: bool,
}

/// What the server's table knows of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Table {
    Nothing,
    Dialling,
    Open,
    Closing,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            stream: ClientStream::default(),
            table: Table::Nothing,
            unanswered: None,
            dialled: false,
            finished: false,
            gone: false,
        }
    }

    fn obey(&mut self, action: ClientAction, cause: &ClientEvent) {
        if !matches!(action, ClientAction::Count(_) | ClientAction::Gone) {
            assert!(!self.finished && !self.gone, "{action:?} after the end");
        }
        match action {
            ClientAction::Dial { .. } => {
                assert!(!self.dialled, "dialled twice");
                let ClientEvent::Client(Packet::DialRequest { dial, .. }) = cause else {
                    panic!("dialled by {cause:?}");
                };
                self.unanswered = Some(*dial);
                (self.dialled, self.table) = (true, Table::Dialling);
            }
            ClientAction::Data { .. } => {
                assert_eq!(self.table, Table::Open);
                assert!(names(cause, OWN), "{cause:?} reached the connection");
            }
            ClientAction::Close => {
                assert_eq!(self.table, Table::Open);
                assert!(names(cause, OWN), "{cause:?} reached the connection");
                self.table = Table::Closing;
            }
            ClientAction::Gone => {
                assert_ne!(self.table, Table::Nothing);
                (self.table, self.unanswered) = (Table::Nothing, None);
            }
            ClientAction::Finish => self.finished = true,
            ClientAction::Send(Packet::DialResponse { dial, result }) => {
                if self.unanswered == Some(dial) {
                    self.unanswered = None;
                } else {
                    // Another dial on the same stream, or one of another network.
                    assert!(result.is_err(), "{dial:?} was never dialled");
                    assert!(names_dial(cause, dial), "{dial:?} was not asked for");
                }
            }
            ClientAction::Send(Packet::Data { connect, .. }) => {
                assert_eq!((connect, self.table), (id(OWN), Table::Open));
            }
            ClientAction::Send(Packet::CloseResponse { connect, .. }) => {
                let own = self.dialled && connect == id(OWN);
                assert!(
                    own || names(cause, connect.get()),
                    "{connect:?} came from nowhere"
                );
            }
            ClientAction::Send(other) => panic!("no packet for a client: {other:?}"),
            ClientAction::Count(_) => {}
        }
    }
}

impl Model for World {
    type Step = ClientEvent;

    fn steps(&self) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        if !self.gone {
            let mut packets = vec![Packet::Drain];
            for dial in [1, 2].map(DialId::new) {
                for protocol in ["tcp", "udp"] {
                    packets.push(Packet::DialRequest {
                        protocol: protocol.to_owned(),
                        address: "a:1".to_owned(),
                        dial,
                    });
                }
                packets.push(Packet::CloseDial { dial });
            }
            for connect in [OWN, 9].map(id) {
                let data = Bytes::from_static(b"x");
                packets.push(Packet::Data { connect, data });
                packets.push(Packet::CloseRequest { connect });
            }
            events.extend(packets.into_iter().map(ClientEvent::Client));
            events.push(ClientEvent::ClientGone);
        }
        match self.table {
            Table::Nothing => {}
            Table::Dialling => events.extend([
                ClientEvent::Dialled { connect: id(OWN) },
                ClientEvent::DialFailed {
                    failure: DialFailure::TimedOut,
                },
                ClientEvent::Refused {
                    why: PeerText::new("nobody"),
                },
            ]),
            Table::Open => {
                let data = Bytes::from_static(b"y");
                let reason = CloseReason::AgentLost;
                events.extend([
                    ClientEvent::Deliver { data },
                    ClientEvent::Closed { reason },
                ]);
            }
            Table::Closing => {
                let reason = CloseReason::Ended;
                events.push(ClientEvent::Closed { reason });
            }
        }
        events
    }

    fn take(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Dialled { .. } => self.table = Table::Open,
            ClientEvent::DialFailed { .. }
            | ClientEvent::Refused { .. }
            | ClientEvent::Closed { .. } => self.table = Table::Nothing,
            ClientEvent::ClientGone => self.gone = true,
            ClientEvent::Client(_) | ClientEvent::Deliver { .. } => {}
        }
        let mut actions = Vec::new();
        self.stream.handle(event.clone(), &mut actions);
        for action in actions {
            self.obey(action, event);
        }
    }

    fn check(&self) {
        if self.table == Table::Nothing {
            assert_eq!(self.unanswered, None, "a client waits for ever");
            let over = self.finished || self.gone || !self.dialled;
            assert!(over, "a stream is left open");
        } else {
            let mut left = self.clone();
            if !left.gone {
                left.take(&ClientEvent::ClientGone);
            }
            assert_eq!(left.table, Table::Nothing, "a connection without a client");
        }
    }
}

const OWN: i64 = 5;

fn id(number: i64) -> ConnectId {
    ConnectId::new(number).expect("not 0")
}

fn names(event: &ClientEvent, number: i64) -> bool {
    match event {
        ClientEvent::Client(Packet::Data { connect, .. } | Packet::CloseRequest { connect }) => {
            connect.get() == number
        }
        _ => false,
    }
}

fn names_dial(event: &ClientEvent, id: DialId) -> bool {
    matches!(event, ClientEvent::Client(Packet::DialRequest { dial, .. }) if *dial == id)
}
