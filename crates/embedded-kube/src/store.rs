//! Where the cluster's objects are: in memory, under one lock, with one counter of versions.
//!
//! Every change goes through [`Store::write`], which sees a consistent state and whose changes
//! become visible together; what is checked there (does the namespace exist, is the version the
//! newest) cannot be outdated when it counts. Nothing outlives the process.

mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch as latest;

use crate::failure::Failure;
use crate::object;

pub(crate) use watch::{Change, Start, Subscription};
use watch::{Filter, Watcher};

/// All objects of one cluster.
pub(crate) struct Store {
    state: Mutex<State>,
    /// The newest version, for those who look at the whole state after each change.
    version: latest::Sender<u64>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let state = State {
            version: 1,
            shelves: BTreeMap::new(),
        };
        Self {
            state: Mutex::new(state),
            version: latest::Sender::new(1),
        }
    }

    /// Looks at one consistent state.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Transaction<'_>) -> T) -> T {
        let mut state = self.lock();
        look(&Transaction {
            state: &mut state,
            dry_run: true,
        })
    }

    /// Changes the state. With `dry_run` everything is checked and answered, and nothing changes.
    ///
    /// The closure checks first and changes last: what it changed before it fails stays changed.
    ///
    /// # Errors
    /// What the closure refuses.
    pub(crate) fn write<T>(
        &self,
        dry_run: bool,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut state = self.lock();
        let before = state.version;
        let result = change(&mut Transaction {
            state: &mut state,
            dry_run,
        });
        let after = state.version;
        drop(state);
        if after != before {
            self.version.send_replace(after);
        }
        result
    }

    /// One object.
    pub(crate) fn get(&self, shelf: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.read(|view| view.get(shelf, namespace, name))
    }

    /// Changes on one shelf, in one namespace or in all, from `start` on.
    ///
    /// # Errors
    /// 410 when the history does not reach back to the version asked for.
    pub(crate) fn subscribe(
        &self,
        shelf: &str,
        namespace: Option<&str>,
        start: Start,
    ) -> Result<Subscription, Failure> {
        self.lock().subscribe(shelf, Filter::new(namespace), start)
    }

    /// Wakes after every change; several changes may be one wake.
    pub(crate) fn changes(&self) -> latest::Receiver<u64> {
        self.version.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside a change is a bug that its own request shows; the state behind the lock
        // is replaced object by object and never half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consistent state, and the right to change it.
pub(crate) struct Transaction<'a> {
    state: &'a mut State,
    dry_run: bool,
}

impl Transaction<'_> {
    /// The version that the newest change got.
    pub(crate) fn version(&self) -> u64 {
        self.state.version
    }

    pub(crate) fn get(&self, shelf: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.state.shelves.get(shelf)?.objects.get(&key).cloned()
    }

    /// The objects of one namespace or of all, by namespace and name.
    pub(crate) fn list(&self, shelf: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(shelf) = self.state.shelves.get(shelf) else {
            return Vec::new();
        };
        match namespace {
            None => shelf.objects.values().cloned().collect(),
            Some(namespace) => shelf
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((of, _), _)| of == namespace)
                .map(|(_, object)| Arc::clone(object))
                .collect(),
        }
    }

    /// Every shelf's name and objects.
    pub(crate) fn everything(&self) -> impl Iterator<Item = (&str, &Arc<Value>)> {
        self.state
            .shelves
            .iter()
            .flat_map(|(name, shelf)| shelf.objects.values().map(|it| (&**name, it)))
    }

    /// Puts an object where its metadata says, with the next version.
    pub(crate) fn put(&mut self, shelf: &str, mut object: Value) -> Arc<Value> {
        if self.dry_run {
            return Arc::new(object);
        }
        let version = self.state.next_version();
        set_version(&mut object, version);
        let object = Arc::new(object);
        let key = key_of(&object);
        let shelf = self.state.shelf(shelf);
        let before = shelf.objects.insert(key, Arc::clone(&object));
        shelf.publish(Change {
            version,
            before,
            after: Some(Arc::clone(&object)),
        });
        object
    }

    /// Takes an object away. What comes back has the version of its deletion.
    pub(crate) fn remove(&mut self, shelf: &str, object: &Value) -> Arc<Value> {
        let mut last = object.clone();
        if self.dry_run {
            return Arc::new(last);
        }
        let version = self.state.next_version();
        set_version(&mut last, version);
        let last = Arc::new(last);
        let shelf = self.state.shelf(shelf);
        if shelf.objects.remove(&key_of(object)).is_some() {
            shelf.publish(Change {
                version,
                before: Some(Arc::clone(&last)),
                after: None,
            });
        }
        last
    }
}

struct State {
    version: u64,
    shelves: BTreeMap<Arc<str>, Shelf>,
}

impl State {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn shelf(&mut self, name: &str) -> &mut Shelf {
        if !self.shelves.contains_key(name) {
            self.shelves.insert(name.into(), Shelf::default());
        }
        self.shelves
            .get_mut(name)
            .expect("inserted just above when it was missing")
    }
}

/// The objects of one kind, what lately became of them, and who watches.
#[derive(Default)]
struct Shelf {
    objects: BTreeMap<(String, String), Arc<Value>>,
    history: VecDeque<Arc<Change>>,
    /// The newest change that the history has forgotten.
    forgotten: u64,
    watchers: Vec<Watcher>,
}

fn key_of(object: &Value) -> (String, String) {
    (
        object::namespace(object).to_owned(),
        object::name(object).to_owned(),
    )
}

fn set_version(object: &mut Value, version: u64) {
    object::metadata_mut(object).insert("resourceVersion".to_owned(), version.to_string().into());
}

#[cfg(test)]
mod tests;
