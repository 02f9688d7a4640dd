//! What the task that owns a stream to a server knows, and what it does about what happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::agent_table::{
    AgentAction, AgentEvent, AgentLimits, AgentTable,
};
use cluster_proxy_konnectivity_wire::flow::{Flow, FlowAction, FlowSettings};
use cluster_proxy_konnectivity_wire::{ConnectId, Packet, PeerText};
use h2::SendStream;

use crate::error::TunnelError;
use crate::http2::IncomingConnect;
use crate::konnectivity::outbox::Outbox;
use crate::konnectivity::packet_counts::Segment;
use crate::konnectivity::pipe::{DialRequest, News, Pipe, Shared};
use crate::konnectivity::ready::Ready;
use crate::target::Target;

/// Everything of a stream but its receiving half and the connection under it.
#[derive(Debug)]
pub(super) struct Link {
    ready: Arc<Ready>,
    table: AgentTable,
    flow: Flow<ConnectId>,
    outbox: Outbox,
    entries: BTreeMap<ConnectId, Entry>,
    /// A dial that nobody has seen yet: while there is one, the server is not read.
    dial: Option<IncomingConnect>,
    /// Who has bytes for the server, each once, in turn.
    senders: VecDeque<ConnectId>,
    refusing: bool,
    closing: bool,
    closed: bool,
    stalled: u64,
    actions: Vec<AgentAction>,
    flow_actions: Vec<FlowAction<ConnectId>>,
}

#[derive(Debug)]
struct Entry {
    shared: Arc<Shared>,
    /// Whether it is in `senders`.
    sending: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dialling,
    Open,
    /// The server wants it ended: its target gets what is queued, and an end of file.
    Finishing,
    /// The server has been told of its end; what it sent is still being taken.
    Ended,
}

impl Link {
    pub(super) fn new(send: SendStream<Bytes>, limits: AgentLimits, flow: FlowSettings) -> Self {
        Self {
            ready: Arc::default(),
            table: AgentTable::new(limits),
            flow: Flow::new(flow),
            outbox: Outbox::new(send, Segment::FromAgent),
            entries: BTreeMap::new(),
            dial: None,
            senders: VecDeque::new(),
            refusing: false,
            closing: false,
            closed: false,
            stalled: 0,
            actions: Vec::new(),
            flow_actions: Vec::new(),
        }
    }

    pub(super) fn stalled(&self) -> u64 {
        self.stalled
    }

    /// Takes what the users did.
    pub(super) fn take_news(&mut self, cx: &Context<'_>, now: Duration) {
        while let Some(shared) = self.ready.pop(cx) {
            self.news_of(now, &shared);
        }
    }

    /// A packet of the server's.
    pub(super) fn packet(&mut self, now: Duration, packet: Packet) {
        self.handle(now, AgentEvent::Server(packet));
    }

    /// A target that is to be dialled.
    pub(super) fn next_dial(&mut self) -> Option<IncomingConnect> {
        self.dial.take()
    }

    /// Whether the server may be read.
    pub(super) fn reads(&self) -> bool {
        !self.flow.is_paused() && !self.outbox.is_crowded() && self.dial.is_none()
    }

    /// Whether the server is not read until what waits for it has left.
    pub(super) fn is_crowded(&self) -> bool {
        self.outbox.is_crowded()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let both = [self.table.next_deadline(), self.flow.next_deadline()];
        both.into_iter().flatten().min()
    }

    /// What is due at `now`.
    pub(super) fn tick(&mut self, now: Duration) {
        self.handle(now, AgentEvent::Tick);
        self.flow.tick(now, &mut self.flow_actions);
        self.obey_flow(now);
    }

    pub(super) fn drain(&mut self, now: Duration) {
        self.handle(now, AgentEvent::Drain);
    }

    pub(super) fn refuse_dials(&mut self) {
        self.refusing = true;
    }

    pub(super) fn close(&mut self) {
        self.refusing = true;
        self.closing = true;
    }

    /// Sends what there is until the server takes no more.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, now: Duration) -> Result<(), TunnelError> {
        while self.outbox.poll_flush(cx)?.is_ready() {
            let Some(connect) = self.senders.pop_front() else {
                break;
            };
            let Some(entry) = self.entries.get_mut(&connect) else {
                continue;
            };
            entry.sending = false;
            if let Some((data, more)) = entry.shared.take_outbound() {
                if more {
                    entry.sending = true;
                    self.senders.push_back(connect);
                }
                self.handle(now, AgentEvent::TargetData { connect, data });
            }
            self.end_finished(now, connect);
        }
        if self.closing && !self.closed && self.outbox.poll_flush(cx)?.is_ready() {
            self.closed = true;
            self.outbox.finish(None);
        }
        Ok(())
    }

    /// The stream has ended: every connection on it breaks off.
    pub(super) fn end(&mut self, now: Duration) {
        self.handle(now, AgentEvent::ServerGone);
        self.dial = None;
        for shared in self.ready.close() {
            shared.break_off(SERVER_LOST);
        }
    }

    fn news_of(&mut self, now: Duration, shared: &Arc<Shared>) {
        let mut news = shared.news();
        let number = i64::try_from(shared.number).ok();
        let Some(connect) = number.and_then(ConnectId::new) else {
            return;
        };
        self.flow
            .taken(now, connect, news.taken, &mut self.flow_actions);
        self.obey_flow(now);
        if let Some(answer) = news.answer.take()
            && self.entries.contains_key(&connect)
        {
            match answer {
                Ok(()) => {
                    self.handle(now, AgentEvent::Dialled { connect });
                    if let Some(entry) = self.entries.get_mut(&connect) {
                        entry.stage = Stage::Open;
                        self.flow.opened(now, connect);
                    }
                }
                Err(error) => {
                    self.entries.remove(&connect);
                    self.handle(now, AgentEvent::DialFailed { connect, error });
                }
            }
        }
        self.bytes_and_end(now, connect, &news);
    }

    fn bytes_and_end(&mut self, now: Duration, connect: ConnectId, news: &News) {
        let Some(entry) = self.entries.get_mut(&connect) else {
            return;
        };
        if entry.stage == Stage::Ended {
            if news.dropped || !entry.shared.has_unread() {
                self.forget(now, connect);
            }
            return;
        }
        if news.dropped {
            // What was asked for is done, however the target took it.
            let error = match entry.stage {
                Stage::Finishing => PeerText::default(),
                _ => PeerText::new("the connection to the target broke"),
            };
            self.forget(now, connect);
            self.handle(now, AgentEvent::TargetEnded { connect, error });
            return;
        }
        if news.has_data && !entry.sending {
            entry.sending = true;
            self.senders.push_back(connect);
        }
        self.end_finished(now, connect);
    }

    /// Ends a connection whose target has said everything, once all of it was sent.
    fn end_finished(&mut self, now: Duration, connect: ConnectId) {
        let Some(entry) = self.entries.get_mut(&connect) else {
            return;
        };
        let over = !entry.sending && entry.stage != Stage::Ended && entry.shared.is_finished();
        if !over {
            return;
        }
        entry.stage = Stage::Ended;
        // The target still gets what came before.
        entry.shared.end();
        let unread = entry.shared.has_unread();
        let error = PeerText::default();
        self.handle(now, AgentEvent::TargetEnded { connect, error });
        if !unread {
            self.forget(now, connect);
        }
    }

    fn handle(&mut self, now: Duration, event: AgentEvent) {
        let mut actions = std::mem::take(&mut self.actions);
        self.table.handle(now, event, &mut actions);
        for action in actions.drain(..) {
            self.obey(now, action);
        }
        self.actions = actions;
        self.obey_flow(now);
    }

    fn obey(&mut self, now: Duration, action: AgentAction) {
        match action {
            AgentAction::Send(packet) => self.outbox.push(&packet),
            AgentAction::Dial { connect, address } => self.dial(connect, address),
            AgentAction::Write { connect, data } => {
                let length = data.len();
                if let Some(entry) = self.entries.get(&connect) {
                    entry.shared.deliver(data);
                    self.flow
                        .queued(now, connect, length, &mut self.flow_actions);
                }
            }
            AgentAction::Finish { connect } => {
                if let Some(entry) = self.entries.get_mut(&connect) {
                    entry.stage = Stage::Finishing;
                    entry.shared.end();
                }
            }
            AgentAction::Abort { connect } => {
                if let Some(entry) = self.entries.get(&connect) {
                    entry.shared.break_off("the server ended it");
                }
                self.forget(now, connect);
            }
            AgentAction::Count(stray) => {
                tracing::trace!(stray = stray.as_str(), "konnectivity: not obeyed");
            }
        }
    }

    /// Hands a dial on. One that cannot be is answered by way of the list, as any other.
    fn dial(&mut self, connect: ConnectId, address: String) {
        let shared = Shared::new(connect.get().unsigned_abs());
        let entry = Entry {
            shared: Arc::clone(&shared),
            sending: false,
            stage: Stage::Dialling,
        };
        self.entries.insert(connect, entry);
        let pipe = Pipe::new(shared, Arc::clone(&self.ready), None);
        let target = address.parse::<Target>();
        let request = DialRequest::new(pipe, address);
        match target {
            _ if self.refusing => request.refuse_as(PeerText::new("the agent is ending")),
            Ok(target) => self.dial = Some(IncomingConnect::of_agent(target, request)),
            Err(error) => {
                request.refuse_as(PeerText::new(&format!("dial tcp: not a target: {error}")));
            }
        }
    }

    fn obey_flow(&mut self, now: Duration) {
        while let Some(action) = self.flow_actions.pop() {
            // A pause is what `reads` says.
            let FlowAction::Close(connect, why) = action else {
                continue;
            };
            self.stalled += 1;
            tracing::info!(
                ?why,
                "a connection was closed for the others' sake: its target takes nothing"
            );
            let Some(entry) = self.entries.get(&connect) else {
                continue;
            };
            entry.shared.break_off(STALLED);
            let ended = entry.stage == Stage::Ended;
            self.forget(now, connect);
            if !ended {
                let error = PeerText::new(STALLED);
                let mut actions = Vec::new();
                let event = AgentEvent::TargetEnded { connect, error };
                self.table.handle(now, event, &mut actions);
                for action in actions {
                    self.obey(now, action);
                }
            }
        }
    }

    fn forget(&mut self, now: Duration, connect: ConnectId) {
        self.entries.remove(&connect);
        self.flow.ended(now, connect, &mut self.flow_actions);
    }
}

const SERVER_LOST: &str = "the stream to the server has ended";

const STALLED: &str = "the target took nothing while others of the same agent waited";
