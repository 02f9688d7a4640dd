//! What the task that owns an agent's stream knows, and what it does about what happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::flow::{Flow, FlowAction, FlowSettings, Stalled};
use cluster_proxy_konnectivity_wire::server_table::{
    CloseReason, ServerAction, ServerEvent, ServerLimits, ServerTable,
};
use cluster_proxy_konnectivity_wire::{FrontendId, Packet};
use h2::SendStream;

use super::{Common, HALF_CLOSED};
use crate::error::TunnelError;
use crate::konnectivity::dial_words;
use crate::konnectivity::grpc::{self, Status};
use crate::konnectivity::outbox::Outbox;
use crate::konnectivity::packet_counts::Segment;
use crate::konnectivity::pipe::Shared;

/// Everything of a stream but its receiving half and the connection under it.
#[derive(Debug)]
pub(super) struct Link {
    common: Arc<Common>,
    table: ServerTable,
    flow: Flow<FrontendId>,
    outbox: Outbox,
    entries: BTreeMap<FrontendId, Entry>,
    /// Who has bytes for the agent, each once, in turn.
    senders: VecDeque<FrontendId>,
    /// Who has written everything, by when it is closed at the latest.
    half_closed: BTreeSet<(Duration, FrontendId)>,
    finished: bool,
    actions: Vec<ServerAction>,
    flow_actions: Vec<FlowAction<FrontendId>>,
}

#[derive(Debug)]
struct Entry {
    shared: Arc<Shared>,
    /// Whether it is in `senders`.
    sending: bool,
    /// Its place in `half_closed`.
    closes_at: Option<Duration>,
    /// Whether the agent was asked to close it.
    close_asked: bool,
    /// The agent has ended it; what it sent is still being taken.
    ended: bool,
}

impl Link {
    pub(super) fn new(
        common: Arc<Common>,
        send: SendStream<Bytes>,
        limits: ServerLimits,
        flow: FlowSettings,
    ) -> Self {
        Self {
            common,
            table: ServerTable::new(limits),
            flow: Flow::new(flow),
            outbox: Outbox::new(send, Segment::ToAgent),
            entries: BTreeMap::new(),
            senders: VecDeque::new(),
            half_closed: BTreeSet::new(),
            finished: false,
            actions: Vec::new(),
            flow_actions: Vec::new(),
        }
    }

    /// Takes what the users did.
    pub(super) fn take_news(&mut self, cx: &Context<'_>, now: Duration) {
        while let Some(shared) = self.common.ready.pop(cx) {
            self.news_of(now, shared);
        }
    }

    /// A packet of the agent's.
    pub(super) fn packet(&mut self, now: Duration, packet: Packet) {
        self.handle(now, ServerEvent::Agent(packet));
    }

    /// Whether the agent may be read.
    pub(super) fn reads(&self) -> bool {
        !self.flow.is_paused() && !self.outbox.is_crowded()
    }

    /// Whether the agent is not read until what waits for it has left.
    pub(super) fn is_crowded(&self) -> bool {
        self.outbox.is_crowded()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let half_closed = self.half_closed.first().map(|(deadline, _)| *deadline);
        [
            self.table.next_deadline(),
            self.flow.next_deadline(),
            half_closed,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is due at `now`.
    pub(super) fn tick(&mut self, now: Duration) {
        self.handle(now, ServerEvent::Tick);
        self.flow.tick(now, &mut self.flow_actions);
        self.obey_flow(now);
        while let Some((deadline, frontend)) = self.half_closed.first().copied()
            && deadline <= now
        {
            self.half_closed.remove(&(deadline, frontend));
            if let Some(entry) = self.entries.get_mut(&frontend) {
                entry.closes_at = None;
                // What the target might still have said is not known: this is no end of file.
                entry.shared.break_off(NO_HALF_CLOSE);
                self.forget(now, frontend);
                self.handle(now, ServerEvent::FrontendGone { frontend });
            }
        }
    }

    /// Sends what there is until the agent takes no more.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, now: Duration) -> Result<(), TunnelError> {
        while self.outbox.poll_flush(cx)?.is_ready() {
            let Some(frontend) = self.senders.pop_front() else {
                break;
            };
            let Some(entry) = self.entries.get_mut(&frontend) else {
                continue;
            };
            entry.sending = false;
            if let Some((data, more)) = entry.shared.take_outbound() {
                if more {
                    entry.sending = true;
                    self.senders.push_back(frontend);
                }
                self.handle(now, ServerEvent::FrontendData { frontend, data });
            }
            self.close_finished(now, frontend);
        }
        if self.common.closing.load(Ordering::Relaxed)
            && self.entries.is_empty()
            && self.outbox.poll_flush(cx)?.is_ready()
        {
            self.finish();
        }
        Ok(())
    }

    /// Ends the stream in order.
    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.outbox.finish(Some(grpc::trailers(Status::Ok, "")));
        }
    }

    /// Whether this end has ended the stream in order.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The stream has ended: every connection on it breaks off.
    pub(super) fn end(&mut self, now: Duration) {
        self.common.closed.cancel();
        self.handle(now, ServerEvent::AgentGone);
        for shared in self.common.ready.close() {
            shared.break_off(AGENT_LOST);
        }
    }

    fn news_of(&mut self, now: Duration, shared: Arc<Shared>) {
        let news = shared.news();
        let frontend = FrontendId::new(shared.number);
        if let Some(address) = news.address
            && !news.dropped
        {
            let entry = Entry {
                shared: Arc::clone(&shared),
                sending: false,
                closes_at: None,
                close_asked: false,
                ended: false,
            };
            self.entries.insert(frontend, entry);
            self.handle(now, ServerEvent::Dial { frontend, address });
        }
        self.flow
            .taken(now, frontend, news.taken, &mut self.flow_actions);
        self.obey_flow(now);
        let Some(entry) = self.entries.get_mut(&frontend) else {
            return;
        };
        if news.dropped || (entry.ended && !shared.has_unread()) {
            let ended = entry.ended;
            self.forget(now, frontend);
            if !ended {
                self.handle(now, ServerEvent::FrontendGone { frontend });
            }
            return;
        }
        if news.has_data && !entry.sending && !entry.ended {
            entry.sending = true;
            self.senders.push_back(frontend);
        }
        self.close_finished(now, frontend);
    }

    /// Sees to the end of a connection whose user has written everything, once all of it was sent.
    fn close_finished(&mut self, now: Duration, frontend: FrontendId) {
        if let Some(entry) = self.entries.get_mut(&frontend)
            && !entry.sending
            && !entry.ended
            && entry.shared.is_finished()
        {
            let asks =
                entry.shared.is_closing() && !std::mem::replace(&mut entry.close_asked, true);
            if entry.closes_at.is_none() {
                self.close_later(now, frontend);
            }
            if asks {
                self.handle(now, ServerEvent::FrontendClose { frontend });
            }
        }
    }

    fn handle(&mut self, now: Duration, event: ServerEvent) {
        let mut actions = std::mem::take(&mut self.actions);
        self.table.handle(now, event, &mut actions);
        for action in actions.drain(..) {
            self.obey(now, action);
        }
        self.actions = actions;
        self.obey_flow(now);
    }

    fn obey(&mut self, now: Duration, action: ServerAction) {
        match action {
            ServerAction::Send(packet) => self.outbox.push(&packet),
            ServerAction::Dialled { frontend, .. } => {
                self.flow.opened(now, frontend);
                if let Some(entry) = self.entries.get(&frontend) {
                    entry.shared.dialled(Ok(()));
                }
            }
            ServerAction::DialFailed { frontend, failure } => {
                if let Some(entry) = self.entries.remove(&frontend) {
                    entry.shared.dialled(Err(dial_words::read(failure)));
                }
            }
            ServerAction::Deliver { frontend, data } => self.deliver(now, frontend, data),
            ServerAction::Closed { frontend, reason } => self.closed(now, frontend, &reason),
            ServerAction::Draining => self.common.agent_drains.store(true, Ordering::Relaxed),
            ServerAction::Count(stray) => {
                tracing::trace!(
                    agent = self.common.agent.agent_id,
                    stray = stray.as_str(),
                    "konnectivity: not obeyed"
                );
            }
        }
    }

    fn deliver(&mut self, now: Duration, frontend: FrontendId, data: Bytes) {
        let Some(entry) = self.entries.get(&frontend) else {
            return;
        };
        let length = data.len();
        entry.shared.deliver(data);
        if entry.closes_at.is_some() {
            self.close_later(now, frontend);
        }
        self.flow
            .queued(now, frontend, length, &mut self.flow_actions);
    }

    fn closed(&mut self, now: Duration, frontend: FrontendId, reason: &CloseReason) {
        let Some(entry) = self.entries.get_mut(&frontend) else {
            return;
        };
        match reason {
            CloseReason::Ended => {
                entry.shared.end();
                // Its queue counts until it is taken.
                if entry.shared.has_unread() {
                    entry.ended = true;
                    if let Some(deadline) = entry.closes_at.take() {
                        self.half_closed.remove(&(deadline, frontend));
                    }
                    return;
                }
            }
            CloseReason::Failed(why) => entry.shared.break_off(why.as_str()),
            CloseReason::AgentLost => entry.shared.break_off(AGENT_LOST),
            CloseReason::Unanswered => entry.shared.break_off("the agent did not confirm its end"),
        }
        self.forget(now, frontend);
    }

    fn obey_flow(&mut self, now: Duration) {
        while let Some(action) = self.flow_actions.pop() {
            // A pause is what `reads` says.
            let FlowAction::Close(frontend, why) = action else {
                continue;
            };
            self.common.stalled.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                agent = self.common.agent.agent_id,
                why = why_stalled(why),
                "a connection was closed for the others' sake: its client takes nothing"
            );
            let Some(entry) = self.entries.get(&frontend) else {
                continue;
            };
            entry.shared.break_off(STALLED);
            let ended = entry.ended;
            self.forget(now, frontend);
            if !ended {
                let event = ServerEvent::FrontendGone { frontend };
                let mut actions = Vec::new();
                self.table.handle(now, event, &mut actions);
                for action in actions {
                    self.obey(now, action);
                }
            }
        }
    }

    fn close_later(&mut self, now: Duration, frontend: FrontendId) {
        if let Some(entry) = self.entries.get_mut(&frontend) {
            let deadline = now + HALF_CLOSED;
            if let Some(former) = entry.closes_at.replace(deadline) {
                self.half_closed.remove(&(former, frontend));
            }
            self.half_closed.insert((deadline, frontend));
        }
    }

    fn forget(&mut self, now: Duration, frontend: FrontendId) {
        if let Some(entry) = self.entries.remove(&frontend)
            && let Some(deadline) = entry.closes_at
        {
            self.half_closed.remove(&(deadline, frontend));
        }
        self.flow.ended(now, frontend, &mut self.flow_actions);
    }
}

/// The word of the flow policy, for logs.
fn why_stalled(why: Stalled) -> &'static str {
    match why {
        Stalled::NoProgress => "no progress",
        Stalled::BudgetSpent => "no more pauses to be had",
    }
}

const NO_HALF_CLOSE: &str =
    "konnectivity has no half-close, and the target said nothing after its client had ended";

const AGENT_LOST: &str = "the agent's stream has ended";

const STALLED: &str = "it took nothing while others of the same agent waited";
