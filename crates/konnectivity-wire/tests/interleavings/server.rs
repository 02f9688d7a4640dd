//! The server's table, three frontends, and an agent that sends anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::server_table::{
    ServerAction, ServerEvent, ServerLimits, ServerTable,
};
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, FrontendId, Packet, PeerText};

use crate::explorer::Model;

/// The table, and what it has said so far.
#[derive(Clone, Hash)]
pub(crate) struct World {
    table: ServerTable,
    now: Duration,
    frontends: BTreeMap<FrontendId, Frontend>,
    /// Dials that the agent was asked for and that are neither answered nor taken back.
    asked: BTreeSet<DialId>,
    /// Every dial it was ever asked for.
    ever_asked: BTreeSet<DialId>,
    /// Connections that the agent has spoken of.
    named: BTreeSet<ConnectId>,
    agent_gone: bool,
}

/// What a frontend knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Frontend {
    Dialling,
    Open(ConnectId),
    Closing(ConnectId),
    Done,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Event(ServerEvent),
    /// Time passes to the next deadline.
    Wait,
}

impl World {
    pub(crate) fn new() -> Self {
        let limits = ServerLimits {
            connections: 3,
            dials: 2,
            ..ServerLimits::default()
        };
        Self {
            table: ServerTable::new(limits),
            now: Duration::ZERO,
            frontends: BTreeMap::new(),
            asked: BTreeSet::new(),
            ever_asked: BTreeSet::new(),
            named: BTreeSet::new(),
            agent_gone: false,
        }
    }

    fn happen(&mut self, event: ServerEvent) {
        self.note(&event);
        let mut actions = Vec::new();
        let from = match &event {
            ServerEvent::Agent(Packet::Data { connect, .. }) => Some(*connect),
            _ => None,
        };
        self.table.handle(self.now, event, &mut actions);
        for action in actions {
            self.obey(action, from);
        }
    }

    /// What the event itself changes in what is known.
    fn note(&mut self, event: &ServerEvent) {
        match event {
            ServerEvent::Dial { frontend, .. } => {
                self.frontends
                    .entry(*frontend)
                    .or_insert(Frontend::Dialling);
            }
            ServerEvent::FrontendClose { frontend } => {
                if let Some(state) = self.frontends.get_mut(frontend)
                    && let Frontend::Open(connect) = *state
                {
                    *state = Frontend::Closing(connect);
                }
            }
            ServerEvent::FrontendGone { frontend } => {
                self.frontends
                    .entry(*frontend)
                    .and_modify(|state| *state = Frontend::Done);
            }
            ServerEvent::Agent(packet) => match packet {
                Packet::DialResponse { dial, result } => {
                    self.asked.remove(dial);
                    self.named.extend(result.iter());
                }
                Packet::CloseDial { dial } => {
                    self.asked.remove(dial);
                }
                Packet::Data { connect, .. } | Packet::CloseResponse { connect, .. } => {
                    self.named.insert(*connect);
                }
                _ => {}
            },
            ServerEvent::AgentGone => self.agent_gone = true,
            ServerEvent::FrontendData { .. } | ServerEvent::Tick => {}
        }
    }

    fn obey(&mut self, action: ServerAction, from: Option<ConnectId>) {
        match action {
            ServerAction::Send(packet) => {
                assert!(!self.agent_gone, "{packet:?} to an agent that is gone");
                match packet {
                    Packet::DialRequest { dial, .. } => {
                        assert!(self.ever_asked.insert(dial), "{dial:?} asked for twice");
                        self.asked.insert(dial);
                    }
                    Packet::CloseDial { dial } => {
                        assert!(self.asked.remove(&dial), "{dial:?} is not being dialled");
                    }
                    Packet::CloseRequest { connect } => {
                        assert!(self.named.contains(&connect), "{connect:?} was never named");
                    }
                    Packet::Data { connect, .. } => {
                        let has = |state: &Frontend| *state == Frontend::Open(connect);
                        assert!(self.frontends.values().any(has), "DATA for {connect:?}");
                    }
                    other => panic!("no packet of a server: {other:?}"),
                }
            }
            ServerAction::Dialled { frontend, connect } => {
                assert!(self.named.contains(&connect), "{connect:?} was never named");
                let taken = |state: &Frontend| matches!(state, Frontend::Open(c) | Frontend::Closing(c) if *c == connect);
                assert!(
                    !self.frontends.values().any(taken),
                    "{connect:?} given twice"
                );
                self.outcome(frontend, Frontend::Open(connect));
            }
            ServerAction::DialFailed { frontend, .. } => self.outcome(frontend, Frontend::Done),
            ServerAction::Deliver { frontend, .. } => {
                let connect = from.expect("data comes from the agent only");
                assert_eq!(self.frontends[&frontend], Frontend::Open(connect));
            }
            ServerAction::Closed { frontend, .. } => {
                let before = self.frontends.insert(frontend, Frontend::Done);
                assert!(
                    matches!(before, Some(Frontend::Open(_) | Frontend::Closing(_))),
                    "{frontend:?} was {before:?} and is told of an end"
                );
            }
            ServerAction::Draining | ServerAction::Count(_) => {}
        }
    }

    fn outcome(&mut self, frontend: FrontendId, after: Frontend) {
        let before = self.frontends.insert(frontend, after);
        assert_eq!(
            before,
            Some(Frontend::Dialling),
            "{frontend:?} has an outcome already"
        );
    }

    fn settle(&mut self) {
        while let Some(deadline) = self.table.next_deadline() {
            self.now = deadline;
            self.happen(ServerEvent::Tick);
        }
    }

    fn all_told(&self) {
        assert!(self.table.is_empty(), "left behind: {:?}", self.table);
        for (frontend, state) in &self.frontends {
            assert_eq!(*state, Frontend::Done, "{frontend:?} waits for ever");
        }
    }
}

impl Model for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let data = Bytes::from_static(b"x");
        let mut events = Vec::new();
        for frontend in [1, 2, 3].map(FrontendId::new) {
            // A frontend that nobody dialled for says nothing.
            if self.frontends.contains_key(&frontend) {
                events.extend([
                    ServerEvent::FrontendData {
                        frontend,
                        data: data.clone(),
                    },
                    ServerEvent::FrontendClose { frontend },
                    ServerEvent::FrontendGone { frontend },
                ]);
            } else {
                let address = "a:1".to_owned();
                events.push(ServerEvent::Dial { frontend, address });
            }
        }
        if !self.agent_gone {
            let connects = [1, 2].map(|number| ConnectId::new(number).expect("not 0"));
            for dial in [1, 2, 3, 4].map(DialId::new) {
                let results = connects.map(Ok).into_iter();
                for result in results.chain([Err(PeerText::new("no"))]) {
                    let response = Packet::DialResponse { dial, result };
                    events.push(ServerEvent::Agent(response));
                }
                events.push(ServerEvent::Agent(Packet::CloseDial { dial }));
            }
            for connect in connects {
                let data = data.clone();
                events.push(ServerEvent::Agent(Packet::Data { connect, data }));
                for error in ["", "broke"].map(PeerText::new) {
                    let closed = Packet::CloseResponse { connect, error };
                    events.push(ServerEvent::Agent(closed));
                }
            }
            events.push(ServerEvent::AgentGone);
        }
        let waits = self.table.next_deadline().map(|_| Step::Wait);
        events.into_iter().map(Step::Event).chain(waits).collect()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Event(event) => self.happen(event.clone()),
            Step::Wait => {
                self.now = self.table.next_deadline().expect("offered with one only");
                self.happen(ServerEvent::Tick);
            }
        }
    }

    fn check(&self) {
        let waiting = |state: &&Frontend| **state == Frontend::Dialling;
        let dialling = self.frontends.values().filter(waiting).count();
        assert_eq!(self.table.pending_dials(), dialling);
        let established =
            |state: &&Frontend| matches!(state, Frontend::Open(_) | Frontend::Closing(_));
        let established = self.frontends.values().filter(established).count();
        assert_eq!(self.table.established(), established);

        // Everybody leaves, and an agent that never answers: time alone empties the table.
        let mut left = self.clone();
        for frontend in self.frontends.keys() {
            left.happen(ServerEvent::FrontendGone {
                frontend: *frontend,
            });
        }
        left.settle();
        left.all_told();

        // Nobody leaves, and the agent is gone.
        let mut lost = self.clone();
        lost.happen(ServerEvent::AgentGone);
        assert_eq!(lost.table.next_deadline(), None);
        lost.all_told();
    }
}
