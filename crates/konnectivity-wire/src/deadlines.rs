//! What is waited for, and until when.

use std::collections::BTreeSet;
use std::time::Duration;

/// Deadlines of many waits, the next one first. A wait that has ended is taken out, so that there
/// are never more than waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Deadlines<K: Ord>(BTreeSet<(Duration, K)>);

impl<K: Ord + Copy> Deadlines<K> {
    pub(crate) fn new() -> Self {
        Self(BTreeSet::new())
    }

    pub(crate) fn insert(&mut self, deadline: Duration, key: K) {
        self.0.insert((deadline, key));
    }

    pub(crate) fn remove(&mut self, deadline: Duration, key: K) {
        self.0.remove(&(deadline, key));
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out one that has passed.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<K> {
        let due = self.next().is_some_and(|deadline| deadline <= now);
        due.then(|| self.0.pop_first().map(|(_, key)| key))
            .flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
