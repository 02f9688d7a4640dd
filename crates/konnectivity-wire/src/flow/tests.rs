use super::*;

const SETTINGS: FlowSettings = FlowSettings {
    queue: 100,
    total: 250,
    grace: Duration::from_millis(200),
    pause_budget: Duration::from_secs(1),
    budget_period: Duration::from_secs(60),
};

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A flow with these connections since time 0.
fn flow(keys: &[u8]) -> Flow<u8> {
    let mut flow = Flow::new(SETTINGS);
    for key in keys {
        flow.opened(at(0), *key);
    }
    flow
}

fn queued(flow: &mut Flow<u8>, now: u64, key: u8, bytes: usize) -> Vec<FlowAction<u8>> {
    let mut actions = Vec::new();
    flow.queued(at(now), key, bytes, &mut actions);
    actions
}

fn taken(flow: &mut Flow<u8>, now: u64, key: u8, bytes: usize) -> Vec<FlowAction<u8>> {
    let mut actions = Vec::new();
    flow.taken(at(now), key, bytes, &mut actions);
    actions
}

/// Ticks at each deadline until there is none, or `limit` is reached.
fn run(flow: &mut Flow<u8>, limit: u64) -> Vec<(Duration, FlowAction<u8>)> {
    let mut seen = Vec::new();
    while let Some(deadline) = flow.next_deadline().filter(|due| *due <= at(limit)) {
        let mut actions = Vec::new();
        flow.tick(deadline, &mut actions);
        assert!(!actions.is_empty(), "woken for nothing at {deadline:?}");
        seen.extend(actions.into_iter().map(|action| (deadline, action)));
    }
    seen
}

use FlowAction::{Close, Pause, Resume};
use Stalled::{BudgetSpent, NoProgress};

#[test]
fn an_honest_reader_that_is_behind_pauses_the_stream_and_lives() {
    let mut flow = flow(&[1]);
    assert_eq!(queued(&mut flow, 0, 1, 100), []);
    assert_eq!(queued(&mut flow, 1, 1, 50), [Pause]);
    // A minute of a reader that takes something every 100 ms.
    for step in 1..600 {
        assert_eq!(taken(&mut flow, step * 100, 1, 50), [Resume]);
        assert_eq!(queued(&mut flow, step * 100 + 1, 1, 50), [Pause]);
    }
    assert_eq!(flow.total(), 150);
}

#[test]
fn a_reader_that_stalls_is_closed_alone_after_the_grace() {
    let mut flow = flow(&[1, 2]);
    queued(&mut flow, 0, 2, 30);
    assert_eq!(queued(&mut flow, 10, 1, 101), [Pause]);
    assert_eq!(flow.next_deadline(), Some(at(210)));
    assert_eq!(
        taken(&mut flow, 50, 2, 30),
        [],
        "another's progress is not its own"
    );
    assert_eq!(
        run(&mut flow, 1000),
        [(at(210), Close(1, NoProgress)), (at(210), Resume)]
    );
    assert_eq!((flow.total(), flow.is_paused()), (0, false));
    assert_eq!(queued(&mut flow, 300, 1, 500), [], "it is forgotten");
    assert_eq!(flow.total(), 0);
}

#[test]
fn progress_begins_the_grace_anew() {
    let mut flow = flow(&[1]);
    queued(&mut flow, 0, 1, 300);
    assert_eq!(taken(&mut flow, 199, 1, 1), []);
    assert_eq!(flow.next_deadline(), Some(at(399)));
    assert_eq!(taken(&mut flow, 250, 1, 0), [], "nothing is no progress");
    assert_eq!(flow.next_deadline(), Some(at(399)));
    assert_eq!(taken(&mut flow, 398, 1, 199), [Resume]);
}

#[test]
fn a_reader_that_was_idle_has_its_whole_grace() {
    let mut flow = flow(&[1]);
    assert_eq!(queued(&mut flow, 3_600_000, 1, 101), [Pause]);
    assert_eq!(flow.next_deadline(), Some(at(3_600_200)));
}

#[test]
fn a_reader_that_was_behind_before_has_its_whole_grace() {
    let mut flow = flow(&[1]);
    assert_eq!(queued(&mut flow, 0, 1, 101), [Pause]);
    assert_eq!(taken(&mut flow, 10, 1, 50), [Resume]);
    // It takes nothing, but its queue is not full: nobody waits for it.
    assert_eq!(queued(&mut flow, 5000, 1, 50), [Pause]);
    assert_eq!(flow.next_deadline(), Some(at(5200)));
}

#[test]
fn pauses_that_others_lose_by_have_a_budget() {
    let mut flow = flow(&[1, 2]);
    assert_eq!(queued(&mut flow, 0, 1, 150), [Pause]);
    // It moves, but never gets below its limit: the other one waits all the time.
    for now in (100..1000).step_by(100) {
        assert_eq!(taken(&mut flow, now, 1, 1), []);
        assert_eq!(queued(&mut flow, now, 1, 1), []);
    }
    assert_eq!(flow.next_deadline(), Some(at(1000)));
    assert_eq!(
        run(&mut flow, 2000),
        [(at(1000), Close(1, BudgetSpent)), (at(1000), Resume)]
    );
    // The next full queue is closed at once, until the period is over.
    flow.opened(at(2000), 3);
    assert_eq!(queued(&mut flow, 2000, 3, 101), [Close(3, BudgetSpent)]);
    flow.opened(at(61_000), 4);
    assert_eq!(queued(&mut flow, 61_000, 4, 101), [Pause]);
}

#[test]
fn a_pause_that_nobody_loses_by_costs_nothing() {
    let mut flow = flow(&[1]);
    queued(&mut flow, 0, 1, 150);
    for now in (100..10_000).step_by(100) {
        assert_eq!(taken(&mut flow, now, 1, 1), []);
        assert_eq!(queued(&mut flow, now, 1, 1), []);
    }
    // Another one begins: from here on it costs.
    flow.opened(at(10_000), 2);
    assert_eq!(flow.budget.left(), SETTINGS.pause_budget);
    assert_eq!(taken(&mut flow, 10_100, 1, 1), []);
    assert_eq!(
        flow.budget.left(),
        SETTINGS.pause_budget - at(100),
        "the other one lost 100 ms"
    );
}

#[test]
fn those_who_cause_a_pause_lose_nothing_by_it() {
    let mut flow = flow(&[1, 2]);
    queued(&mut flow, 0, 1, 110);
    queued(&mut flow, 0, 2, 110);
    for now in (100..=400).step_by(100) {
        assert_eq!(taken(&mut flow, now, 1, 1), []);
        assert_eq!(taken(&mut flow, now, 2, 1), []);
    }
    assert_eq!(flow.budget.left(), SETTINGS.pause_budget);
}

#[test]
fn a_spent_budget_does_not_hurt_who_is_alone() {
    let mut flow = flow(&[1, 2]);
    queued(&mut flow, 0, 1, 150);
    for now in (100..=1000).step_by(100) {
        taken(&mut flow, now, 1, 1);
    }
    assert_eq!(flow.budget.left(), Duration::ZERO);
    let mut actions = Vec::new();
    flow.ended(at(1100), 2, &mut actions);
    flow.opened(at(1200), 3);
    assert_eq!(queued(&mut flow, 1200, 3, 101), [Pause]);
}

#[test]
fn all_queues_together_have_a_limit() {
    let mut flow = flow(&[1, 2, 3]);
    queued(&mut flow, 0, 1, 90);
    queued(&mut flow, 0, 2, 95);
    // None is full, and together they are too much: the longest stands for it.
    assert_eq!(queued(&mut flow, 1000, 3, 80), [Pause]);
    assert_eq!(flow.next_deadline(), Some(at(1200)));
    assert_eq!(
        run(&mut flow, 5000),
        [(at(1200), Close(2, NoProgress)), (at(1200), Resume)]
    );
    assert_eq!(flow.total(), 170);
}

#[test]
fn the_end_of_the_slow_one_resumes() {
    let mut flow = flow(&[1, 2]);
    queued(&mut flow, 0, 1, 101);
    queued(&mut flow, 0, 2, 101);
    let mut actions = Vec::new();
    flow.ended(at(50), 1, &mut actions);
    assert_eq!(actions, []);
    flow.ended(at(60), 2, &mut actions);
    assert_eq!(actions, [Resume]);
    assert_eq!((flow.total(), flow.next_deadline()), (0, None));
}

/// A hundred readers of which none reads, as each would get a gigabyte: what is queued stays within
/// the limits, each is closed, and the stream is never paused longer than the budget.
#[test]
fn a_hundred_stalled_readers_cost_no_more_than_the_budget() {
    let keys: Vec<u8> = (0..100).collect();
    let mut flow = flow(&keys);
    flow.opened(at(0), 200);
    let (mut now, mut paused, mut closed) = (0, Duration::ZERO, 0);
    while closed < 100 {
        let mut actions = Vec::new();
        if let Some(deadline) = flow.next_deadline() {
            paused += deadline - at(now);
            now = u64::try_from(deadline.as_millis()).unwrap();
            flow.tick(deadline, &mut actions);
        } else {
            let key = keys[closed % keys.len()];
            now += 1;
            actions = queued(&mut flow, now, key, 60);
        }
        closed += actions
            .iter()
            .filter(|action| matches!(action, Close(..)))
            .count();
        assert!(flow.total() <= SETTINGS.total + 60);
    }
    assert!(paused <= SETTINGS.pause_budget, "{paused:?}");
    assert!(!flow.is_paused());
}
