//! The queues of one shared stream, three connections, and readers that do as they like.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_proxy_konnectivity_wire::flow::{Flow, FlowAction, FlowSettings, Stalled};

use crate::explorer::Model;

#[derive(Clone, Hash)]
pub(crate) struct World {
    flow: Flow<u8>,
    now: Duration,
    /// As the caller keeps them: bytes, and when the reader took some last.
    queues: BTreeMap<u8, (usize, Duration)>,
    paused: bool,
    /// How long others lost by pauses, in the first period.
    lost: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Open(u8),
    Queue(u8, usize),
    Take(u8, usize),
    End(u8),
    /// Time passes, though no deadline is due.
    Pass,
    /// Time passes to the next deadline.
    Wait,
}

const SETTINGS: FlowSettings = FlowSettings {
    queue: 10,
    total: 18,
    grace: Duration::from_millis(200),
    pause_budget: Duration::from_millis(300),
    budget_period: Duration::from_secs(60),
};

const MESSAGE: usize = 7;

impl World {
    pub(crate) fn new() -> Self {
        Self {
            flow: Flow::new(SETTINGS),
            now: Duration::ZERO,
            queues: BTreeMap::new(),
            paused: false,
            lost: Duration::ZERO,
        }
    }

    fn pass(&mut self, until: Duration) {
        let full = self
            .queues
            .values()
            .filter(|(bytes, _)| *bytes > SETTINGS.queue);
        if self.paused && self.queues.len() > full.count().max(1) {
            self.lost += until - self.now;
        }
        self.now = until;
    }

    fn obey(&mut self, actions: Vec<FlowAction<u8>>) {
        for action in actions {
            match action {
                FlowAction::Pause => assert!(!std::mem::replace(&mut self.paused, true)),
                FlowAction::Resume => assert!(std::mem::replace(&mut self.paused, false)),
                FlowAction::Close(key, why) => {
                    let (bytes, taken) = self.queues.remove(&key).expect("is known");
                    let total = bytes + self.total();
                    assert!(
                        bytes > SETTINGS.queue || total > SETTINGS.total,
                        "closed with {bytes} bytes of {total}"
                    );
                    match why {
                        Stalled::NoProgress => assert!(self.now - taken >= SETTINGS.grace),
                        Stalled::BudgetSpent => assert!(self.lost >= SETTINGS.pause_budget),
                    }
                }
            }
        }
    }

    fn total(&self) -> usize {
        self.queues.values().map(|(bytes, _)| bytes).sum()
    }
}

impl Model for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for key in [1, 2, 3] {
            let Some((bytes, _)) = self.queues.get(&key) else {
                steps.push(Step::Open(key));
                continue;
            };
            if !self.paused {
                steps.push(Step::Queue(key, MESSAGE));
            }
            if *bytes > 0 {
                steps.extend([Step::Take(key, 1), Step::Take(key, *bytes)]);
            }
            steps.push(Step::End(key));
        }
        let next = self.flow.next_deadline();
        let soon = self.now + Duration::from_millis(150);
        if next.is_none_or(|deadline| deadline > soon) {
            steps.push(Step::Pass);
        }
        steps.extend(next.map(|_| Step::Wait));
        steps
    }

    fn take(&mut self, step: &Step) {
        let mut actions = Vec::new();
        match *step {
            Step::Open(key) => {
                self.flow.opened(self.now, key);
                self.queues.insert(key, (0, self.now));
            }
            Step::Queue(key, bytes) => {
                self.queues.get_mut(&key).expect("is there").0 += bytes;
                self.flow.queued(self.now, key, bytes, &mut actions);
            }
            Step::Take(key, bytes) => {
                let queue = self.queues.get_mut(&key).expect("is there");
                *queue = (queue.0 - bytes, self.now);
                self.flow.taken(self.now, key, bytes, &mut actions);
            }
            Step::End(key) => {
                self.queues.remove(&key);
                self.flow.ended(self.now, key, &mut actions);
            }
            Step::Pass => self.pass(self.now + Duration::from_millis(150)),
            Step::Wait => {
                let deadline = self.flow.next_deadline().expect("offered with one only");
                self.pass(deadline.max(self.now));
                self.flow.tick(self.now, &mut actions);
                assert!(!actions.is_empty(), "woken for nothing");
            }
        }
        self.obey(actions);
    }

    fn check(&self) {
        assert_eq!(self.flow.total(), self.total());
        assert_eq!(self.flow.is_paused(), self.paused);
        assert_eq!(self.flow.next_deadline().is_some(), self.paused);
        let over = |(bytes, _): &(usize, Duration)| *bytes > SETTINGS.queue;
        let over = self.queues.values().any(over) || self.total() > SETTINGS.total;
        assert_eq!(self.paused, over, "{:?}", self.queues);
        assert!(self.total() <= SETTINGS.total + MESSAGE);
        assert!(self.lost <= SETTINGS.pause_budget);

        // Nobody reads any more: the stream is read again all the same, and soon.
        let mut stalled = self.clone();
        for _ in 0..=self.queues.len() {
            if stalled.paused {
                stalled.take(&Step::Wait);
            }
        }
        assert!(!stalled.paused, "paused for ever");
        assert!(stalled.now - self.now <= SETTINGS.grace * 3);
    }
}
