//! What a role waits for before it is ready.

use std::sync::{Arc, Mutex, PoisonError};

/// The conditions of a process. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<(&'static str, bool)>>>,
}

impl Readiness {
    /// No condition yet: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new condition, not met. Its name says what is awaited, as in "listeners bound".
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions.push((name, false));
        Condition {
            index: conditions.len() - 1,
            readiness: self.clone(),
        }
    }

    /// The names of the conditions not met: empty means ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .filter(|(_, met)| !met)
            .map(|(name, _)| *name)
            .collect()
    }
}

/// One condition, held by who can tell whether it is met.
#[derive(Debug, Clone)]
pub struct Condition {
    index: usize,
    readiness: Readiness,
}

impl Condition {
    /// Says whether the condition is met now.
    pub fn set(&self, met: bool) {
        let conditions = &self.readiness.conditions;
        conditions.lock().unwrap_or_else(PoisonError::into_inner)[self.index].1 = met;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_condition_is_met() {
        let readiness = Readiness::new();
        assert!(readiness.waiting_for().is_empty());
        let (bound, connected) = (
            readiness.condition("bound"),
            readiness.condition("connected"),
        );
        bound.set(true);
        assert_eq!(readiness.waiting_for(), ["connected"]);
        connected.set(true);
        assert!(readiness.waiting_for().is_empty());
        connected.set(false);
        assert_eq!(readiness.waiting_for(), ["connected"]);
    }
}
