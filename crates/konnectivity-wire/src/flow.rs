//! When a shared stream is paused, and which connection is closed for the others' sake.
//!
//! konnectivity puts all connections of an agent on one stream and has no flow control for each. So
//! each end queues what a connection's reader has not taken, and:
//!
//! - while a queue is over its limit, the shared stream is not read: honest readers of much data
//!   are nearly always behind, and live;
//! - a full queue whose reader takes nothing for a grace is closed, alone;
//! - the time that others lose by pauses has a budget. Once it is spent, full queues are closed at
//!   once. A pause costs nothing while there is no other connection to lose by it;
//! - all queues together have a limit, too. Over it, the longest one counts as full.
//!
//! Bytes queued are so never more than the limits and one message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod budget;
mod settings;

use budget::Budget;
pub use settings::FlowSettings;

/// The queues of one shared stream, by what names a connection there: `FrontendId` at the server's
/// end, `ConnectId` at the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow<K: Ord> {
    settings: FlowSettings,
    queues: BTreeMap<K, Queue>,
    /// Queues over their own limit.
    full: BTreeSet<K>,
    total: usize,
    /// Since when all together are over theirs.
    over_since: Option<Duration>,
    /// Since when the stream is paused, as far as the budget was not told.
    paused: Option<Duration>,
    budget: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Queue {
    bytes: usize,
    last_taken: Duration,
    full_since: Option<Duration>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowAction<K> {
    /// Stop reading the shared stream.
    Pause,
    /// Read it again.
    Resume,
    /// Close this connection and drop its queue. It is forgotten here.
    Close(K, Stalled),
}

/// Why a connection was closed: a label for metrics and a word for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stalled {
    /// Its reader took nothing for the grace.
    NoProgress,
    /// Its queue was full when no more pauses were to be had.
    BudgetSpent,
}

impl<K: Ord + Copy> Flow<K> {
    /// No queues.
    #[must_use]
    pub fn new(settings: FlowSettings) -> Self {
        Self {
            settings,
            queues: BTreeMap::new(),
            full: BTreeSet::new(),
            total: 0,
            over_since: None,
            paused: None,
            budget: Budget::new(settings.pause_budget, settings.budget_period),
        }
    }

    /// A connection begins.
    pub fn opened(&mut self, now: Duration, key: K) {
        self.charge(now);
        self.queues.entry(key).or_insert(Queue {
            bytes: 0,
            last_taken: now,
            full_since: None,
        });
    }

    /// `bytes` for it came off the shared stream. Of a connection that is not known nothing is
    /// counted: the caller drops them.
    pub fn queued(
        &mut self,
        now: Duration,
        key: K,
        bytes: usize,
        actions: &mut Vec<FlowAction<K>>,
    ) {
        self.charge(now);
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.bytes += bytes;
            self.total += bytes;
            if queue.bytes > self.settings.queue {
                queue.full_since.get_or_insert(now);
                self.full.insert(key);
            }
            if self.total > self.settings.total {
                self.over_since.get_or_insert(now);
            }
        }
        self.judge(now, actions);
    }

    /// Its reader took `bytes`.
    pub fn taken(&mut self, now: Duration, key: K, bytes: usize, actions: &mut Vec<FlowAction<K>>) {
        self.charge(now);
        if let Some(queue) = self.queues.get_mut(&key)
            && bytes > 0
        {
            self.total -= bytes.min(queue.bytes);
            queue.bytes = queue.bytes.saturating_sub(bytes);
            queue.last_taken = now;
            if queue.bytes <= self.settings.queue {
                queue.full_since = None;
                self.full.remove(&key);
            }
        }
        self.judge(now, actions);
    }

    /// It has ended, and its queue with it.
    pub fn ended(&mut self, now: Duration, key: K, actions: &mut Vec<FlowAction<K>>) {
        self.charge(now);
        self.forget(key);
        self.judge(now, actions);
    }

    /// Time has passed: [`Self::next_deadline`] is due.
    pub fn tick(&mut self, now: Duration, actions: &mut Vec<FlowAction<K>>) {
        self.charge(now);
        self.judge(now, actions);
    }

    /// When [`Self::tick`] is due; `None` while the stream is not paused.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let paused = self.paused?;
        let stalled = self.suspects().map(|(_, since)| since).min();
        let graced = stalled.map(|since| since + self.settings.grace);
        let spent = self.is_shared().then(|| paused + self.budget.left());
        graced.into_iter().chain(spent).min()
    }

    /// Whether the shared stream is not to be read.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Bytes in all queues.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    fn judge(&mut self, now: Duration, actions: &mut Vec<FlowAction<K>>) {
        loop {
            if self.total <= self.settings.total {
                self.over_since = None;
            }
            let spent = self.is_shared() && self.budget.left().is_zero();
            let lost = self.suspects().find_map(|(key, since)| {
                if now.saturating_sub(since) >= self.settings.grace {
                    Some((key, Stalled::NoProgress))
                } else {
                    spent.then_some((key, Stalled::BudgetSpent))
                }
            });
            let Some((key, why)) = lost else { break };
            self.forget(key);
            actions.push(FlowAction::Close(key, why));
        }
        let waits = self.suspects().next().is_some();
        match (self.paused, waits) {
            (None, true) => {
                self.paused = Some(now);
                actions.push(FlowAction::Pause);
            }
            (Some(_), false) => {
                self.paused = None;
                actions.push(FlowAction::Resume);
            }
            _ => {}
        }
    }

    /// Whom a pause waits for, and since when each took nothing: the full queues, and the longest
    /// one while all together are over their limit. (To find that one costs a look at each, but
    /// only while the stream is paused.)
    fn suspects(&self) -> impl Iterator<Item = (K, Duration)> {
        let full = self.full.iter().copied();
        let longest = self
            .over_since
            .and_then(|_| self.queues.iter().max_by_key(|(_, queue)| queue.bytes))
            .map(|(key, _)| *key);
        full.chain(longest).map(|key| {
            let queue = &self.queues[&key];
            let since = queue.full_since.or(self.over_since);
            (key, queue.last_taken.max(since.unwrap_or_default()))
        })
    }

    /// Whether anybody else loses by a pause.
    fn is_shared(&self) -> bool {
        self.queues.len() > self.full.len().max(1)
    }

    /// Tells the budget of the pause until now.
    fn charge(&mut self, now: Duration) {
        let lost = match &mut self.paused {
            Some(since) => now.saturating_sub(std::mem::replace(since, now)),
            None => Duration::ZERO,
        };
        let lost = if self.is_shared() {
            lost
        } else {
            Duration::ZERO
        };
        self.budget.spend(now, lost);
    }

    fn forget(&mut self, key: K) {
        self.full.remove(&key);
        if let Some(queue) = self.queues.remove(&key) {
            self.total -= queue.bytes;
        }
    }
}

#[cfg(test)]
mod tests;
