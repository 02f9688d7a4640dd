//! The agent's table, its targets, and a server that sends anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::agent_table::{
    AgentAction, AgentEvent, AgentLimits, AgentTable,
};
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, Packet, PeerText};

use crate::explorer::Model;

/// The table, what its owner holds for it, and what the server was told.
#[derive(Clone, Hash)]
pub(crate) struct World {
    table: AgentTable,
    now: Duration,
    sockets: BTreeMap<ConnectId, Socket>,
    /// Ids that were ever dialled under.
    used: BTreeSet<ConnectId>,
    /// Answers owed for DIAL_REQs.
    owed: BTreeMap<DialId, usize>,
    /// Announced by DIAL_RSP, not yet ended by CLOSE_RSP.
    announced: BTreeSet<ConnectId>,
    /// CLOSE_REQs for what has no connection, not yet answered.
    unknown: BTreeSet<ConnectId>,
    server_gone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Socket {
    Dialling,
    Open,
    /// Told to finish.
    Finishing,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Event(AgentEvent),
    /// Time passes to the next deadline.
    Wait,
}

impl World {
    pub(crate) fn new() -> Self {
        let limits = AgentLimits {
            connections: 2,
            ..AgentLimits::default()
        };
        Self {
            table: AgentTable::new(limits),
            now: Duration::ZERO,
            sockets: BTreeMap::new(),
            used: BTreeSet::new(),
            owed: BTreeMap::new(),
            announced: BTreeSet::new(),
            unknown: BTreeSet::new(),
            server_gone: false,
        }
    }

    fn happen(&mut self, event: AgentEvent) {
        self.note(&event);
        let mut actions = Vec::new();
        self.table.handle(self.now, event, &mut actions);
        for action in actions {
            self.obey(action);
        }
        assert!(self.unknown.is_empty(), "not answered: {:?}", self.unknown);
    }

    fn note(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Server(Packet::DialRequest { dial, .. }) => {
                *self.owed.entry(*dial).or_default() += 1;
            }
            AgentEvent::Server(Packet::CloseRequest { connect } | Packet::Data { connect, .. })
                if !self.used.contains(connect) =>
            {
                self.unknown.insert(*connect);
            }
            AgentEvent::Dialled { connect } => {
                if let Some(socket) = self.sockets.get_mut(connect) {
                    *socket = Socket::Open;
                }
            }
            AgentEvent::DialFailed { connect, .. } | AgentEvent::TargetEnded { connect, .. } => {
                self.sockets.remove(connect);
            }
            AgentEvent::ServerGone => self.server_gone = true,
            _ => {}
        }
    }

    fn obey(&mut self, action: AgentAction) {
        match action {
            AgentAction::Send(packet) => {
                assert!(!self.server_gone, "{packet:?} to a server that is gone");
                self.sent(packet);
            }
            AgentAction::Dial { connect, .. } => {
                assert!(self.used.insert(connect), "{connect:?} used twice");
                self.sockets.insert(connect, Socket::Dialling);
            }
            AgentAction::Write { connect, .. } => {
                assert_eq!(self.sockets.get(&connect), Some(&Socket::Open));
            }
            AgentAction::Finish { connect } => {
                let before = self.sockets.insert(connect, Socket::Finishing);
                assert_eq!(before, Some(Socket::Open), "{connect:?}");
            }
            AgentAction::Abort { connect } => {
                assert!(self.sockets.remove(&connect).is_some(), "{connect:?}");
            }
            AgentAction::Count(_) => {}
        }
    }

    fn sent(&mut self, packet: Packet) {
        match packet {
            Packet::DialResponse { dial, result } => {
                let owed = self.owed.get_mut(&dial).expect("was asked for");
                *owed = owed.checked_sub(1).expect("answered twice");
                if let Ok(connect) = result {
                    assert_eq!(self.sockets[&connect], Socket::Open);
                    assert!(
                        self.announced.insert(connect),
                        "{connect:?} announced twice"
                    );
                }
            }
            Packet::Data { connect, .. } => {
                assert!(self.announced.contains(&connect), "DATA of {connect:?}");
            }
            Packet::CloseResponse { connect, .. } => {
                if self.used.contains(&connect) {
                    let socket = self.sockets.get(&connect);
                    assert_eq!(socket, None, "{connect:?} was said to have ended");
                }
                self.announced.remove(&connect);
                self.unknown.remove(&connect);
            }
            other => panic!("no packet of an agent: {other:?}"),
        }
    }

    /// Its owner lets go of what it has, one by one.
    fn let_go(&mut self) {
        for (connect, socket) in self.sockets.clone() {
            let error = PeerText::default();
            self.happen(match socket {
                Socket::Dialling => AgentEvent::DialFailed {
                    connect,
                    error: PeerText::new("no"),
                },
                Socket::Open | Socket::Finishing => AgentEvent::TargetEnded { connect, error },
            });
        }
    }

    fn answered(&self) {
        assert!(self.table.is_empty(), "left behind: {:?}", self.table);
        assert!(self.sockets.is_empty(), "left open: {:?}", self.sockets);
    }
}

impl Model for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        if self.server_gone {
            return Vec::new();
        }
        let data = Bytes::from_static(b"x");
        let mut events = Vec::new();
        for dial in [1, 2].map(DialId::new) {
            events.push(AgentEvent::Server(Packet::DialRequest {
                protocol: "tcp".to_owned(),
                address: "a:1".to_owned(),
                dial,
            }));
            events.push(AgentEvent::Server(Packet::CloseDial { dial }));
        }
        for connect in [1, 2, 9].map(|number| ConnectId::new(number).expect("not 0")) {
            let data = data.clone();
            events.extend([
                AgentEvent::Server(Packet::Data { connect, data }),
                AgentEvent::Server(Packet::CloseRequest { connect }),
            ]);
        }
        for (connect, socket) in &self.sockets {
            let connect = *connect;
            match socket {
                Socket::Dialling => {
                    let error = PeerText::new("no");
                    events.push(AgentEvent::Dialled { connect });
                    events.push(AgentEvent::DialFailed { connect, error });
                }
                Socket::Open | Socket::Finishing => {
                    let data = data.clone();
                    events.push(AgentEvent::TargetData { connect, data });
                    for error in ["", "reset"].map(PeerText::new) {
                        events.push(AgentEvent::TargetEnded { connect, error });
                    }
                }
            }
        }
        // Late, from tasks that were let go.
        for connect in self.used.iter().filter(|id| !self.sockets.contains_key(id)) {
            let connect = *connect;
            let data = data.clone();
            events.push(AgentEvent::Dialled { connect });
            events.push(AgentEvent::TargetData { connect, data });
        }
        events.extend([AgentEvent::ServerGone, AgentEvent::Server(Packet::Drain)]);
        let waits = self.table.next_deadline().map(|_| Step::Wait);
        events.into_iter().map(Step::Event).chain(waits).collect()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Event(event) => {
                if let AgentEvent::Server(Packet::CloseDial { dial }) = event {
                    self.cancel(*dial);
                }
                self.happen(event.clone());
            }
            Step::Wait => {
                self.now = self.table.next_deadline().expect("offered with one only");
                self.happen(AgentEvent::Tick);
            }
        }
    }

    fn check(&self) {
        let mut alone = self.clone();
        alone.let_go();
        if !self.server_gone {
            assert!(
                alone.owed.values().all(|owed| *owed == 0),
                "{:?}",
                alone.owed
            );
            assert_eq!(alone.announced, BTreeSet::new(), "never ended");
        }
        alone.answered();

        let mut lost = self.clone();
        lost.happen(AgentEvent::ServerGone);
        assert_eq!(lost.table.next_deadline(), None);
        lost.answered();

        // Nothing answers: dials and those told to finish end by time.
        let mut slow = self.clone();
        while let Some(deadline) = slow.table.next_deadline() {
            slow.now = deadline;
            slow.happen(AgentEvent::Tick);
        }
        let open = |socket: &Socket| *socket == Socket::Open;
        assert!(slow.sockets.values().all(open), "{:?}", slow.sockets);
    }
}

impl World {
    /// DIAL_CLS takes the debt of a dial that is under way.
    fn cancel(&mut self, dial: DialId) {
        if let Some(owed) = self.owed.get_mut(&dial) {
            *owed = 0;
        }
    }
}
