//! Changes as watchers see them: in order, each once, and never more than a bounded number kept
//! for anybody.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::{Shelf, State};
use crate::failure::Failure;
use crate::object;

/// What became of one object. Created without `before`, gone without `after`.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    /// With the version of its deletion where the object is gone.
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

impl Change {
    fn namespace(&self) -> &str {
        let object = self.after.as_ref().or(self.before.as_ref());
        object.map_or("", |object| object::namespace(object))
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With what is there, then every change.
    Now,
    /// After a version.
    After(u64),
}

/// What is there, what happened since, and what happens from now on.
pub(crate) struct Subscription {
    /// The objects at `version`; empty for [`Start::After`].
    pub(crate) objects: Vec<Arc<Value>>,
    /// Changes up to `version` for [`Start::After`].
    pub(crate) missed: VecDeque<Arc<Change>>,
    /// The version that the two lists above lead to.
    pub(crate) version: u64,
    /// Ends when this watcher was too slow: watch again from the last version seen.
    pub(crate) changes: mpsc::Receiver<Arc<Change>>,
}

pub(super) struct Filter {
    namespace: Option<String>,
}

impl Filter {
    pub(super) fn new(namespace: Option<&str>) -> Self {
        Self {
            namespace: namespace.map(str::to_owned),
        }
    }

    fn matches(&self, change: &Change) -> bool {
        self.namespace
            .as_deref()
            .is_none_or(|namespace| namespace == change.namespace())
    }
}

pub(super) struct Watcher {
    filter: Filter,
    queue: mpsc::Sender<Arc<Change>>,
}

impl State {
    pub(super) fn subscribe(
        &mut self,
        shelf: &str,
        filter: Filter,
        start: Start,
    ) -> Result<Subscription, Failure> {
        let version = self.version;
        let shelf = self.shelf(shelf);
        let (objects, missed) = match start {
            Start::Now => {
                let namespace = filter.namespace.as_deref();
                let objects = shelf
                    .objects
                    .iter()
                    .filter(|((of, _), _)| namespace.is_none_or(|it| it == of))
                    .map(|(_, object)| Arc::clone(object))
                    .collect();
                (objects, VecDeque::new())
            }
            Start::After(seen) => {
                // A version from the future is another life's: this store began anew, and
                // the client has to as well.
                if seen < shelf.forgotten || seen > version {
                    return Err(Failure::expired(seen, shelf.forgotten));
                }
                let missed = shelf
                    .history
                    .iter()
                    .filter(|change| change.version > seen && filter.matches(change))
                    .cloned()
                    .collect();
                (Vec::new(), missed)
            }
        };
        let (queue, changes) = mpsc::channel(WATCH_QUEUE);
        shelf.watchers.push(Watcher { filter, queue });
        Ok(Subscription {
            objects,
            missed,
            version,
            changes,
        })
    }
}

impl Shelf {
    pub(super) fn publish(&mut self, change: Change) {
        let change = Arc::new(change);
        // Whoever went away or cannot keep up is dropped; the end of the queue tells it.
        self.watchers.retain(|watcher| {
            !watcher.queue.is_closed()
                && (!watcher.filter.matches(&change)
                    || watcher.queue.try_send(Arc::clone(&change)).is_ok())
        });
        self.history.push_back(change);
        if self.history.len() > HISTORY
            && let Some(forgotten) = self.history.pop_front()
        {
            self.forgotten = forgotten.version;
        }
    }
}

/// Changes of one kind that a watch can go back by. The kube-apiserver's watch cache holds 100 to
/// 102,400; ten thousand changes of small objects are some ten megabytes.
pub(super) const HISTORY: usize = 1024;

/// Changes that wait for one watcher. A burst of a few hundred (a namespace deleted with all that
/// is in it) must not end a healthy watch.
pub(super) const WATCH_QUEUE: usize = 1024;
