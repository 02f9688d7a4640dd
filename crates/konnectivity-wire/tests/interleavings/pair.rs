//! Two clients' streams, the server's table, the agent's table and their targets, with what is on
//! the way between them. Packets arrive in order; everything else in any.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::agent_table::{
    AgentAction, AgentEvent, AgentLimits, AgentTable,
};
use cluster_proxy_konnectivity_wire::client_stream::{ClientAction, ClientEvent, ClientStream};
use cluster_proxy_konnectivity_wire::server_table::{
    ServerAction, ServerEvent, ServerLimits, ServerTable,
};
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, FrontendId, Packet, PeerText};

use crate::explorer::Model;

/// Which agent is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    Ours,
    /// Passes over DIAL_CLS.
    Go,
}

#[derive(Clone, Hash)]
pub(crate) struct World {
    peer: Peer,
    server: ServerTable,
    agent: AgentTable,
    clients: BTreeMap<FrontendId, Client>,
    to_agent: VecDeque<Packet>,
    to_server: VecDeque<Packet>,
    targets: BTreeMap<ConnectId, Target>,
    /// The stream between server and agent, as each end sees it.
    server_lost_agent: bool,
    agent_lost_server: bool,
}

#[derive(Clone, Hash, Default)]
struct Client {
    stream: ClientStream,
    dialled: bool,
    sent_data: bool,
    cancelled: bool,
    asked_close: bool,
    gone: bool,
    outcome: Option<Result<ConnectId, ()>>,
    ended: bool,
}

#[derive(Clone, Hash)]
struct Target {
    address: String,
    state: TargetState,
    sent_data: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum TargetState {
    Dialling,
    Open,
    Finishing,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The client sends a packet of this kind.
    Dial(FrontendId),
    Send(FrontendId),
    Close(FrontendId),
    Cancel(FrontendId),
    Leave(FrontendId),
    /// The next packet arrives.
    AtAgent,
    AtServer,
    Dialled(ConnectId),
    Failed(ConnectId),
    Answer(ConnectId),
    End(ConnectId),
    Break(ConnectId),
    ServerLosesAgent,
    AgentLosesServer,
}

/// Both clients choose the same one.
const DIAL: DialId = DialId::new(7);

const NOW: Duration = Duration::ZERO;

impl World {
    pub(crate) fn new(peer: Peer) -> Self {
        let clients = [1, 2].map(|number| (FrontendId::new(number), Client::default()));
        Self {
            peer,
            server: ServerTable::new(ServerLimits::default()),
            agent: AgentTable::new(AgentLimits::default()),
            clients: BTreeMap::from(clients),
            to_agent: VecDeque::new(),
            to_server: VecDeque::new(),
            targets: BTreeMap::new(),
            server_lost_agent: false,
            agent_lost_server: false,
        }
    }

    fn client(&mut self, frontend: FrontendId, event: ClientEvent) {
        let client = self.clients.get_mut(&frontend).expect("one of two");
        let mut actions = Vec::new();
        client.stream.handle(event, &mut actions);
        for action in actions {
            match action {
                ClientAction::Send(packet) => self.at_client(frontend, packet),
                ClientAction::Dial { address } => {
                    self.at_server(ServerEvent::Dial { frontend, address });
                }
                ClientAction::Data { data } => {
                    self.at_server(ServerEvent::FrontendData { frontend, data });
                }
                ClientAction::Close => self.at_server(ServerEvent::FrontendClose { frontend }),
                ClientAction::Gone => self.at_server(ServerEvent::FrontendGone { frontend }),
                ClientAction::Finish | ClientAction::Count(_) => {}
            }
        }
    }

    fn at_client(&mut self, frontend: FrontendId, packet: Packet) {
        let client = self.clients.get_mut(&frontend).expect("one of two");
        assert!(!client.gone, "{packet:?} to a client that is gone");
        match packet {
            Packet::DialResponse { dial, result } => {
                assert_eq!(dial, DIAL);
                assert!(!client.cancelled, "a cancelled dial is answered");
                assert_eq!(client.outcome, None, "answered twice");
                client.outcome = Some(result.map_err(|_| ()));
            }
            Packet::Data { connect, data } => {
                assert_eq!(client.outcome, Some(Ok(connect)));
                assert!(!client.ended && !client.asked_close, "DATA after the end");
                assert_eq!(data, tag(frontend), "another connection's bytes");
            }
            Packet::CloseResponse { connect, .. } => {
                assert_eq!(client.outcome, Some(Ok(connect)));
                assert!(!client.ended, "ended twice");
                client.ended = true;
            }
            other => panic!("no packet for a client: {other:?}"),
        }
    }

    fn at_server(&mut self, event: ServerEvent) {
        let mut actions = Vec::new();
        self.server.handle(NOW, event, &mut actions);
        for action in actions {
            match action {
                ServerAction::Send(packet) => {
                    assert!(!self.server_lost_agent, "{packet:?} to nobody");
                    self.to_agent.push_back(packet);
                }
                ServerAction::Dialled { frontend, connect } => {
                    self.client(frontend, ClientEvent::Dialled { connect });
                }
                ServerAction::DialFailed { frontend, failure } => {
                    self.client(frontend, ClientEvent::DialFailed { failure });
                }
                ServerAction::Deliver { frontend, data } => {
                    self.client(frontend, ClientEvent::Deliver { data });
                }
                ServerAction::Closed { frontend, reason } => {
                    self.client(frontend, ClientEvent::Closed { reason });
                }
                ServerAction::Draining | ServerAction::Count(_) => {}
            }
        }
    }

    fn at_agent(&mut self, event: AgentEvent) {
        let mut actions = Vec::new();
        self.agent.handle(NOW, event, &mut actions);
        for action in actions {
            match action {
                AgentAction::Send(packet) => {
                    assert!(!self.agent_lost_server, "{packet:?} to nobody");
                    self.to_server.push_back(packet);
                }
                AgentAction::Dial { connect, address } => {
                    let target = Target {
                        address,
                        state: TargetState::Dialling,
                        sent_data: false,
                    };
                    assert!(self.targets.insert(connect, target).is_none());
                }
                AgentAction::Write { connect, data } => {
                    let target = &self.targets[&connect];
                    assert_eq!(target.state, TargetState::Open);
                    assert_eq!(data, target.address, "another client's bytes");
                }
                AgentAction::Finish { connect } => {
                    let target = self.targets.get_mut(&connect).expect("is there");
                    assert_eq!(target.state, TargetState::Open);
                    target.state = TargetState::Finishing;
                }
                AgentAction::Abort { connect } => {
                    assert!(self.targets.remove(&connect).is_some(), "aborted twice");
                }
                AgentAction::Count(_) => {}
            }
        }
    }

    /// Everything that is on its way arrives, and targets finish when told to.
    fn settle(&mut self) {
        loop {
            let finishing = |target: &Target| target.state == TargetState::Finishing;
            let finished = self.targets.iter().find(|(_, target)| finishing(target));
            if let Some((connect, _)) = finished {
                self.take(&Step::End(*connect));
            } else if !self.to_agent.is_empty() {
                self.take(&Step::AtAgent);
            } else if !self.to_server.is_empty() {
                self.take(&Step::AtServer);
            } else {
                break;
            }
        }
    }

    fn dials(&self) -> Vec<ConnectId> {
        let dialling = |target: &Target| target.state == TargetState::Dialling;
        let dials = self.targets.iter().filter(|(_, target)| dialling(target));
        dials.map(|(connect, _)| *connect).collect()
    }
}

impl Model for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, client) in &self.clients {
            if client.gone {
                continue;
            }
            if !client.dialled {
                steps.push(Step::Dial(*id));
                continue;
            }
            let open = matches!(client.outcome, Some(Ok(_))) && !client.ended;
            if open && !client.asked_close && !client.sent_data {
                steps.push(Step::Send(*id));
            }
            if open && !client.asked_close {
                steps.push(Step::Close(*id));
            }
            if !client.cancelled {
                steps.push(Step::Cancel(*id));
            }
            steps.push(Step::Leave(*id));
        }
        if !self.to_agent.is_empty() {
            steps.push(Step::AtAgent);
        }
        if !self.to_server.is_empty() {
            steps.push(Step::AtServer);
        }
        for (connect, target) in &self.targets {
            match target.state {
                TargetState::Dialling => {
                    steps.extend([Step::Dialled(*connect), Step::Failed(*connect)]);
                }
                TargetState::Open | TargetState::Finishing => {
                    if !target.sent_data {
                        steps.push(Step::Answer(*connect));
                    }
                    steps.extend([Step::End(*connect), Step::Break(*connect)]);
                }
            }
        }
        if !self.server_lost_agent {
            steps.push(Step::ServerLosesAgent);
        }
        if !self.agent_lost_server {
            steps.push(Step::AgentLosesServer);
        }
        steps
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Dial(id) => {
                self.clients.get_mut(id).expect("one of two").dialled = true;
                let request = Packet::DialRequest {
                    protocol: "tcp".to_owned(),
                    address: tag(*id),
                    dial: DIAL,
                };
                self.client(*id, ClientEvent::Client(request));
            }
            Step::Send(id) => {
                let client = self.clients.get_mut(id).expect("one of two");
                client.sent_data = true;
                let connect = client.outcome.expect("dialled").expect("open");
                let data = Bytes::from(tag(*id));
                let packet = Packet::Data { connect, data };
                self.client(*id, ClientEvent::Client(packet));
            }
            Step::Close(id) => {
                let client = self.clients.get_mut(id).expect("one of two");
                client.asked_close = true;
                let connect = client.outcome.expect("dialled").expect("open");
                let packet = Packet::CloseRequest { connect };
                self.client(*id, ClientEvent::Client(packet));
            }
            Step::Cancel(id) => {
                self.clients.get_mut(id).expect("one of two").cancelled = true;
                let packet = Packet::CloseDial { dial: DIAL };
                self.client(*id, ClientEvent::Client(packet));
            }
            Step::Leave(id) => {
                self.clients.get_mut(id).expect("one of two").gone = true;
                self.client(*id, ClientEvent::ClientGone);
            }
            Step::AtAgent => {
                let packet = self.to_agent.pop_front().expect("offered with one only");
                let passed_over =
                    self.peer == Peer::Go && matches!(packet, Packet::CloseDial { .. });
                if !self.agent_lost_server && !passed_over {
                    self.at_agent(AgentEvent::Server(packet));
                }
            }
            Step::AtServer => {
                let packet = self.to_server.pop_front().expect("offered with one only");
                if !self.server_lost_agent {
                    self.at_server(ServerEvent::Agent(packet));
                }
            }
            Step::Dialled(connect) => {
                let target = self.targets.get_mut(connect).expect("is there");
                target.state = TargetState::Open;
                self.at_agent(AgentEvent::Dialled { connect: *connect });
            }
            Step::Failed(connect) => {
                self.targets.remove(connect);
                self.at_agent(AgentEvent::DialFailed {
                    connect: *connect,
                    error: PeerText::new("no"),
                });
            }
            Step::Answer(connect) => {
                let target = self.targets.get_mut(connect).expect("is there");
                target.sent_data = true;
                let data = Bytes::from(target.address.clone());
                self.at_agent(AgentEvent::TargetData {
                    connect: *connect,
                    data,
                });
            }
            Step::End(connect) | Step::Break(connect) => {
                self.targets.remove(connect);
                let broke = matches!(step, Step::Break(_));
                self.at_agent(AgentEvent::TargetEnded {
                    connect: *connect,
                    error: PeerText::new(if broke { "reset" } else { "" }),
                });
            }
            Step::ServerLosesAgent => {
                self.server_lost_agent = true;
                self.at_server(ServerEvent::AgentGone);
            }
            Step::AgentLosesServer => {
                self.agent_lost_server = true;
                self.at_agent(AgentEvent::ServerGone);
            }
        }
    }

    fn check(&self) {
        // Whatever has happened: once all clients have left, both ends forget everything by the
        // packets alone, without waiting for a deadline.
        let mut left = self.clone();
        for id in self.clients.keys() {
            if !left.clients[id].gone {
                left.take(&Step::Leave(*id));
            }
        }
        left.settle();
        for connect in left.dials() {
            left.take(&Step::Dialled(connect));
            left.settle();
        }
        if left.server_lost_agent != left.agent_lost_server {
            left.server_lost_agent = true;
            left.agent_lost_server = true;
            left.at_server(ServerEvent::AgentGone);
            left.at_agent(AgentEvent::ServerGone);
        }
        assert!(left.server.is_empty(), "left behind: {:?}", left.server);
        assert!(left.agent.is_empty(), "left behind: {:?}", left.agent);
        assert!(left.targets.is_empty(), "a target is left open");

        // If nobody leaves but the targets end, every client hears of it.
        let mut ended = self.clone();
        ended.settle();
        for connect in ended.dials() {
            ended.take(&Step::Dialled(connect));
        }
        for connect in ended.targets.keys().copied().collect::<Vec<_>>() {
            ended.take(&Step::End(connect));
        }
        ended.settle();
        let lost = ended.server_lost_agent || !ended.agent_lost_server;
        for (id, client) in ended.clients.iter().filter(|_| lost) {
            if client.dialled && !client.gone && !client.cancelled {
                assert!(
                    client.outcome == Some(Err(())) || client.ended,
                    "{id:?} waits for ever"
                );
            }
        }
    }
}

/// The address that a client dials, and the bytes that go to it and come from it.
fn tag(id: FrontendId) -> String {
    format!("{id:?}")
}
