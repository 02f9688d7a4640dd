//! Any order of packets and events at both ends of konnectivity, longer than the interleavings that
//! are tried one by one: bounds hold, nobody is told of what was never announced, and all is
//! forgotten in the end.

#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use cluster_proxy_konnectivity_wire::agent_table::{
    AgentAction, AgentEvent, AgentLimits, AgentTable,
};
use cluster_proxy_konnectivity_wire::server_table::{
    ServerAction, ServerEvent, ServerLimits, ServerTable,
};
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, FrontendId, Packet, PeerText};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Op {
    Server(Kind),
    Agent(Kind),
    Dial(u8),
    FrontendData(u8),
    FrontendClose(u8),
    FrontendGone(u8),
    Dialled(u8),
    DialFailed(u8),
    TargetData(u8),
    TargetEnded(u8, bool),
    Time(u16),
}

#[derive(Debug, Arbitrary)]
enum Kind {
    DialRequest(u8),
    DialResponse(u8, Option<u8>),
    CloseRequest(u8),
    CloseResponse(u8, bool),
    Data(u8),
    CloseDial(u8),
    Drain,
}

const DIALS: usize = 8;
const CONNECTIONS: usize = 16;

fuzz_target!(|ops: Vec<Op>| {
    server(&ops);
    agent(&ops);
});

fn server(ops: &[Op]) {
    let mut table = ServerTable::new(ServerLimits {
        dials: DIALS,
        connections: CONNECTIONS,
        ..ServerLimits::default()
    });
    let mut now = Duration::ZERO;
    let (mut dialling, mut connected) = (BTreeSet::new(), BTreeSet::new());
    let mut happen = |table: &mut ServerTable, now, event: ServerEvent| {
        let known = |frontend: &FrontendId, connected: &BTreeSet<_>, dialling: &BTreeSet<_>| {
            connected.contains(frontend) || dialling.contains(frontend)
        };
        match &event {
            ServerEvent::Dial { frontend, .. } if !known(frontend, &connected, &dialling) => {
                dialling.insert(*frontend);
            }
            ServerEvent::FrontendGone { frontend } => {
                dialling.remove(frontend);
                connected.remove(frontend);
            }
            _ => {}
        }
        let mut actions = Vec::new();
        table.handle(now, event, &mut actions);
        for action in actions {
            match action {
                ServerAction::Dialled { frontend, .. } => {
                    assert!(dialling.remove(&frontend), "an outcome for nobody");
                    connected.insert(frontend);
                }
                ServerAction::DialFailed { frontend, .. } => {
                    assert!(dialling.remove(&frontend), "an outcome for nobody");
                }
                ServerAction::Deliver { frontend, .. } => assert!(connected.contains(&frontend)),
                ServerAction::Closed { frontend, .. } => assert!(connected.remove(&frontend)),
                ServerAction::Send(_) | ServerAction::Draining | ServerAction::Count(_) => {}
            }
        }
        assert!(table.pending_dials() <= DIALS && table.established() <= CONNECTIONS);
        assert_eq!(table.pending_dials(), dialling.len());
        assert_eq!(table.established(), connected.len());
    };
    for op in ops {
        let event = match op {
            Op::Agent(kind) => ServerEvent::Agent(kind.packet()),
            Op::Dial(number) => ServerEvent::Dial {
                frontend: frontend(*number),
                address: "a:1".to_owned(),
            },
            Op::FrontendData(number) => ServerEvent::FrontendData {
                frontend: frontend(*number),
                data: Bytes::from_static(b"x"),
            },
            Op::FrontendClose(number) => ServerEvent::FrontendClose {
                frontend: frontend(*number),
            },
            Op::FrontendGone(number) => ServerEvent::FrontendGone {
                frontend: frontend(*number),
            },
            Op::Time(passed) => {
                now += Duration::from_millis(u64::from(*passed));
                ServerEvent::Tick
            }
            _ => continue,
        };
        happen(&mut table, now, event);
    }
    for number in 0..=u8::MAX {
        let frontend = frontend(number);
        happen(&mut table, now, ServerEvent::FrontendGone { frontend });
    }
    while let Some(deadline) = table.next_deadline() {
        happen(&mut table, deadline, ServerEvent::Tick);
    }
    assert!(table.is_empty(), "{table:?}");
}

fn agent(ops: &[Op]) {
    let mut table = AgentTable::new(AgentLimits {
        dials: DIALS,
        connections: CONNECTIONS,
        ..AgentLimits::default()
    });
    let mut now = Duration::ZERO;
    let mut sockets = BTreeSet::new();
    let mut happen = |table: &mut AgentTable, now, event: AgentEvent| {
        if let AgentEvent::DialFailed { connect, .. } | AgentEvent::TargetEnded { connect, .. } =
            &event
        {
            sockets.remove(connect);
        }
        let mut actions = Vec::new();
        table.handle(now, event, &mut actions);
        for action in actions {
            match action {
                AgentAction::Dial { connect, .. } => assert!(sockets.insert(connect)),
                AgentAction::Abort { connect } => assert!(sockets.remove(&connect)),
                AgentAction::Write { connect, .. } | AgentAction::Finish { connect } => {
                    assert!(sockets.contains(&connect));
                }
                AgentAction::Send(_) | AgentAction::Count(_) => {}
            }
        }
        assert!(sockets.len() <= CONNECTIONS);
        sockets.clone()
    };
    let mut held = BTreeSet::new();
    let mut opened = BTreeSet::new();
    for op in ops {
        // A task speaks of its own connection only, and of a dial or a socket as it has it.
        let dialling =
            |number: u8| connect(number).filter(|id| held.contains(id) && !opened.contains(id));
        let open =
            |number: u8| connect(number).filter(|id| held.contains(id) && opened.contains(id));
        let event = match op {
            Op::Server(kind) => AgentEvent::Server(kind.packet()),
            Op::Dialled(number) => match dialling(*number) {
                Some(connect) => {
                    opened.insert(connect);
                    AgentEvent::Dialled { connect }
                }
                None => continue,
            },
            Op::DialFailed(number) => match dialling(*number) {
                Some(connect) => AgentEvent::DialFailed {
                    connect,
                    error: PeerText::new("no"),
                },
                None => continue,
            },
            Op::TargetData(number) => match open(*number) {
                Some(connect) => AgentEvent::TargetData {
                    connect,
                    data: Bytes::from_static(b"x"),
                },
                None => continue,
            },
            Op::TargetEnded(number, broke) => match open(*number) {
                Some(connect) => AgentEvent::TargetEnded {
                    connect,
                    error: PeerText::new(if *broke { "reset" } else { "" }),
                },
                None => continue,
            },
            Op::Time(passed) => {
                now += Duration::from_millis(u64::from(*passed));
                AgentEvent::Tick
            }
            _ => continue,
        };
        held = happen(&mut table, now, event);
    }
    let held = happen(&mut table, now, AgentEvent::ServerGone);
    assert!(held.is_empty() && table.is_empty(), "{table:?}");
}

impl Kind {
    fn packet(&self) -> Packet {
        let connect = |number: u8| ConnectId::new(i64::from(number) + 1).expect("not 0");
        let dial = |number: u8| DialId::new(i64::from(number));
        let error = |broke: bool| PeerText::new(if broke { "reset" } else { "" });
        match *self {
            Self::DialRequest(number) => Packet::DialRequest {
                protocol: if number == u8::MAX { "udp" } else { "tcp" }.to_owned(),
                address: "a:1".to_owned(),
                dial: dial(number),
            },
            Self::DialResponse(number, result) => Packet::DialResponse {
                dial: dial(number),
                result: result.map(connect).ok_or_else(|| error(true)),
            },
            Self::CloseRequest(number) => Packet::CloseRequest {
                connect: connect(number),
            },
            Self::CloseResponse(number, broke) => Packet::CloseResponse {
                connect: connect(number),
                error: error(broke),
            },
            Self::Data(number) => Packet::Data {
                connect: connect(number),
                data: Bytes::from_static(b"x"),
            },
            Self::CloseDial(number) => Packet::CloseDial { dial: dial(number) },
            Self::Drain => Packet::Drain,
        }
    }
}

fn frontend(number: u8) -> FrontendId {
    FrontendId::new(u64::from(number))
}

fn connect(number: u8) -> Option<ConnectId> {
    ConnectId::new(i64::from(number))
}
