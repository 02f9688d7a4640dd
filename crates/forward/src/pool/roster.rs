//! Which connection a request rides on: the bookkeeping of one class, without IO.
//!
//! Everything here runs under one short lock. Whoever finds no free stream waits in line and is
//! given a slot when one is free or a connection has been made; nobody is woken in vain.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connection::{Connection, Slot};
use super::settings::{Class, MAX_WAITING, PoolSettings};
use crate::error::DialFailure;

/// Connections and waiting requests of one class.
#[derive(Debug)]
pub(crate) struct Roster<E> {
    class: Class,
    entries: Vec<Entry>,
    dialling: usize,
    waiting: VecDeque<oneshot::Sender<Granted<E>>>,
    /// The peer speaks HTTP/1.1, as the last dial found.
    http1: bool,
}

/// What a waiting request is told.
pub(crate) type Granted<E> = Result<Slot, DialFailure<E>>;

/// How a request's wish for a slot went.
#[derive(Debug)]
pub(crate) enum Taken<E> {
    Slot(Slot),
    Wait {
        granted: oneshot::Receiver<Granted<E>>,
        connections: usize,
    },
    Full {
        connections: usize,
    },
}

#[derive(Debug)]
struct Entry {
    connection: Arc<Connection>,
    busy: usize,
    made: Instant,
    idle_since: Instant,
}

/// What the choice of a connection looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    busy: usize,
    limit: usize,
    stalled: bool,
    settled: bool,
}

/// Slots that could not be handed over. Drop them only after the roster's lock is released:
/// giving a slot back takes it.
#[must_use]
#[derive(Debug, Default)]
pub(crate) struct Leftover(Vec<Slot>);

impl Leftover {
    pub(crate) fn give_back(self) {
        drop(self.0);
    }
}

impl<E> Roster<E> {
    pub(crate) const fn new(class: Class) -> Self {
        Self {
            class,
            entries: Vec::new(),
            dialling: 0,
            waiting: VecDeque::new(),
            http1: false,
        }
    }

    /// A slot for one request, or a place in line.
    pub(crate) fn take(&mut self, settings: &PoolSettings) -> Taken<E> {
        // Who already waits goes first.
        if self.waiting.is_empty()
            && let Some(slot) = self.pick(settings)
        {
            return Taken::Slot(slot);
        }
        let connections = self.entries.len();
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|sender| !sender.is_closed());
            if self.waiting.len() >= MAX_WAITING {
                return Taken::Full { connections };
            }
        }
        let (sender, granted) = oneshot::channel();
        self.waiting.push_back(sender);
        Taken::Wait {
            granted,
            connections,
        }
    }

    /// How many dials to start now. The caller starts them; each ends in [`Self::add`] or
    /// [`Self::dial_failed`].
    pub(crate) fn dials_to_start(&mut self, settings: &PoolSettings) -> usize {
        let wanted = if self.http1 {
            let room = settings
                .max_http1_connections
                .saturating_sub(self.entries.len() + self.dialling);
            self.waiting.len().saturating_sub(self.dialling).min(room)
        } else {
            let room = self.entries.len() + self.dialling < settings.max_connections;
            let one =
                room && self.dialling == 0 && all_busy(self.loads(settings), self.class, settings);
            usize::from(one)
        };
        self.dialling += wanted;
        wanted
    }

    /// As [`Self::dials_to_start`], when it is not a new request that asks.
    pub(crate) fn dials_if_waited_for(&mut self, settings: &PoolSettings) -> usize {
        if self.waiting.is_empty() {
            0
        } else {
            self.dials_to_start(settings)
        }
    }

    pub(crate) const fn connections(&self) -> usize {
        self.entries.len()
    }

    /// A dial has made `connection`.
    pub(crate) fn add(&mut self, connection: Arc<Connection>, settings: &PoolSettings) -> Leftover {
        self.dialling -= 1;
        self.http1 = connection.is_http1();
        let now = Instant::now();
        self.entries.push(Entry {
            connection,
            busy: 0,
            made: now,
            idle_since: now,
        });
        self.serve(settings)
    }

    /// A dial has failed. Those who wait are told only when nothing else can serve them.
    pub(crate) fn dial_failed(&mut self, failure: &DialFailure<E>) {
        self.dialling -= 1;
        if !self.entries.is_empty() || self.dialling > 0 {
            return;
        }
        for sender in self.waiting.drain(..) {
            // A receiver that is gone has stopped waiting.
            let _ = sender.send(Err(failure.clone()));
        }
    }

    /// A request on `connection` is over.
    pub(crate) fn released(
        &mut self,
        connection: &Arc<Connection>,
        settings: &PoolSettings,
    ) -> Leftover {
        if let Some(entry) = self.entry(connection) {
            entry.busy -= 1;
            if entry.busy == 0 {
                entry.idle_since = Instant::now();
            }
        }
        self.serve(settings)
    }

    /// Lets go of a connection; requests on it go on.
    pub(crate) fn remove(&mut self, connection: &Arc<Connection>) {
        self.entries
            .retain(|entry| !Arc::ptr_eq(&entry.connection, connection));
    }

    /// Lets go of `connection` if it has been idle for long enough, or is too old.
    pub(crate) fn remove_if_due(&mut self, connection: &Arc<Connection>, settings: &PoolSettings) {
        let alone = self.entries.len() == 1;
        let idle_allowed = if alone {
            settings.last_idle_timeout
        } else {
            settings.idle_timeout
        };
        if let Some(entry) = self.entry(connection) {
            let idle = entry.busy == 0 && entry.idle_since.elapsed() >= idle_allowed;
            let old = settings
                .max_age
                .is_some_and(|max_age| entry.made.elapsed() >= max_age);
            if idle || old {
                self.remove(connection);
            }
        }
    }

    /// Hands free slots to those who wait, in order.
    pub(crate) fn serve(&mut self, settings: &PoolSettings) -> Leftover {
        let mut leftover = Leftover::default();
        while !self.waiting.is_empty() {
            let Some(slot) = self.pick(settings) else {
                break;
            };
            if let Some(unclaimed) = self.offer(slot) {
                leftover.0.push(unclaimed);
            }
        }
        leftover
    }

    /// Gives `slot` to the first in line that still waits.
    fn offer(&mut self, mut slot: Slot) -> Option<Slot> {
        while let Some(sender) = self.waiting.pop_front() {
            match sender.send(Ok(slot)) {
                Ok(()) => return None,
                Err(Ok(back)) => slot = back,
                Err(Err(_)) => unreachable!("what comes back is what was sent"),
            }
        }
        Some(slot)
    }

    /// Requests on all connections, and the time of the last one if there is none.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        if self.dialling > 0 || self.entries.iter().any(|entry| entry.busy > 0) {
            return None;
        }
        self.entries.iter().map(|entry| entry.idle_since).max()
    }

    /// Whether nothing is connected, dialling or waiting.
    pub(crate) fn is_unused(&self) -> bool {
        self.entries.is_empty() && self.dialling == 0 && self.waiting.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn all_settled(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| entry.connection.is_settled())
    }

    #[cfg(test)]
    pub(crate) fn any_stalled(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.connection.is_stalled())
    }

    #[cfg(test)]
    pub(crate) fn busy(&self) -> usize {
        self.entries.iter().map(|entry| entry.busy).sum()
    }

    fn pick(&mut self, settings: &PoolSettings) -> Option<Slot> {
        let chosen = choose(self.loads(settings))?;
        let entry = &mut self.entries[chosen];
        entry.busy += 1;
        Some(Slot::new(Arc::clone(&entry.connection)))
    }

    fn loads(&self, settings: &PoolSettings) -> impl Iterator<Item = Load> {
        self.entries.iter().map(move |entry| Load {
            busy: entry.busy,
            limit: entry.connection.limit(settings.max_streams),
            stalled: entry.connection.is_stalled(),
            settled: entry.connection.is_settled(),
        })
    }

    fn entry(&mut self, connection: &Arc<Connection>) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| Arc::ptr_eq(&entry.connection, connection))
    }
}

/// The connection for the next request: one whose peer reads, with the fewest requests; of equals
/// the first, so that a quiet time leaves the others idle and they close.
fn choose(loads: impl Iterator<Item = Load>) -> Option<usize> {
    loads
        .enumerate()
        .filter(|(_, load)| load.busy < load.limit)
        .min_by_key(|(index, load)| (load.stalled, load.busy, *index))
        .map(|(index, _)| index)
}

/// Whether it is time for another connection: every one is busy enough, or does not move. One whose
/// limits are not known yet is given the time to tell them.
fn all_busy(loads: impl Iterator<Item = Load>, class: Class, settings: &PoolSettings) -> bool {
    let mut loads = loads;
    loads.all(|load| {
        // Before the limit: at three quarters of it.
        let nearly_full = (load.limit - load.limit / 4).max(1);
        let comfortable = match class {
            Class::Short => settings.comfortable_streams.min(nearly_full),
            // A long request costs a connection next to nothing while it is open.
            Class::Long => nearly_full,
        };
        load.settled && (load.stalled || load.busy >= comfortable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Load = Load {
        busy: 0,
        limit: 90,
        stalled: false,
        settled: true,
    };

    fn busy(busy: usize) -> Load {
        Load { busy, ..FREE }
    }

    #[test]
    fn chooses_the_least_busy_that_moves() {
        assert_eq!(choose([busy(3), busy(1), busy(1)].into_iter()), Some(1));
        let stalled = Load {
            stalled: true,
            ..FREE
        };
        assert_eq!(choose([stalled, busy(5)].into_iter()), Some(1));
        assert_eq!(choose([stalled].into_iter()), Some(0));
        assert_eq!(choose([busy(90)].into_iter()), None);
        assert_eq!(choose(std::iter::empty()), None);
    }

    #[test]
    fn another_connection_is_wanted_before_the_limit() {
        let settings = PoolSettings::default();
        let wanted = |loads: &[Load], class| all_busy(loads.iter().copied(), class, &settings);
        assert!(wanted(&[], Class::Short));
        assert!(!wanted(&[busy(31)], Class::Short));
        assert!(wanted(&[busy(32)], Class::Short));
        assert!(!wanted(&[busy(32), busy(2)], Class::Short));
        assert!(!wanted(&[busy(67)], Class::Long));
        assert!(wanted(&[busy(68)], Class::Long));
        // A small limit counts before the comfortable number.
        assert!(wanted(
            &[Load {
                busy: 6,
                limit: 8,
                ..FREE
            }],
            Class::Short
        ));
        assert!(wanted(
            &[Load {
                stalled: true,
                ..FREE
            }],
            Class::Short
        ));
        assert!(!wanted(
            &[Load {
                settled: false,
                busy: 8,
                limit: 8,
                ..FREE
            }],
            Class::Short
        ));
    }
}
