//! How much the readers of all tunnelled connections together may leave unread in this process.
//!
//! A stream's window bounds what one reader can make us hold, and a lane takes so many streams
//! that their windows fit it, but a thousand readers that stop are a thousand windows. Counted is
//! what is really held, not what could be: a window that was promised to an idle connection costs
//! nothing, and promises for all of them would refuse honest ones long before memory is short.
//! When the limit is reached, the connection whose reader has taken nothing for the longest is
//! cut, and room is there for those that move.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The limit and what is held of it; clones share both.
#[derive(Debug, Clone)]
pub struct UnreadBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    ledger: Mutex<Ledger>,
    held: Gauge<i64, AtomicI64>,
    cut: Counter<u64, AtomicU64>,
}

#[derive(Debug, Default)]
struct Ledger {
    held: u64,
    /// The number of the next entry, and of the next sign of life.
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    held: u64,
    /// When its reader last took something, in the order of all such events.
    moved: u64,
    cut: Arc<AtomicBool>,
    waker: Waker,
}

impl UnreadBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                limit,
                ledger: Mutex::default(),
                held: Gauge::default(),
                cut: Counter::default(),
            }),
        }
    }

    /// Adds what is counted to `registry`, under names that begin with `prefix`.
    pub fn register(&self, prefix: &str, registry: &mut Registry) {
        let limit = Gauge::<i64, AtomicI64>::default();
        limit.set(i64::try_from(self.inner.limit).unwrap_or(i64::MAX));
        registry.register_with_unit(
            format!("{prefix}_unread"),
            "Held for readers of tunnelled connections that are slower than their senders",
            Unit::Bytes,
            self.inner.held.clone(),
        );
        registry.register_with_unit(
            format!("{prefix}_unread_limit"),
            "The most that may be held so",
            Unit::Bytes,
            limit,
        );
        registry.register(
            format!("{prefix}_unread_cut"),
            "Tunnelled connections that were cut at that limit, since their readers had taken nothing for the longest",
            self.inner.cut.clone(),
        );
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.ledger().held
    }

    /// An account that holds nothing yet.
    pub(crate) fn account(&self) -> Account {
        Account {
            budget: self.clone(),
            open: None,
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let ledger = &self.inner.ledger;
        ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, ledger: &Ledger) {
        let held = i64::try_from(ledger.held).unwrap_or(i64::MAX);
        self.inner.held.set(held);
    }

    /// Keeps the limit after a change. Tasks are woken without the lock.
    fn settle(&self, mut ledger: MutexGuard<'_, Ledger>) {
        let wakers = ledger.cut_to(self.inner.limit);
        self.publish(&ledger);
        drop(ledger);
        self.inner.cut.inc_by(wakers.len() as u64);
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Ledger {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes entries out until `limit` is kept: those first that have not moved for the longest.
    /// Their tasks are to be woken.
    fn cut_to(&mut self, limit: u64) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.held > limit {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.moved);
            let Some((&number, _)) = oldest else { break };
            if let Some(entry) = self.entries.remove(&number) {
                self.held -= entry.held;
                entry.cut.store(true, Ordering::Relaxed);
                wakers.push(entry.waker);
            }
        }
        wakers
    }
}

/// What one direction of one tunnelled connection holds. Dropped, it holds nothing.
#[derive(Debug)]
pub(crate) struct Account {
    budget: UnreadBudget,
    /// While something is held.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    held: u64,
    cut: Arc<AtomicBool>,
}

impl Account {
    /// Holds `bytes` from now on, for the task of `cx`; `moved` when its reader has taken something
    /// since the last time. What is too much for the budget is taken from others, or from this one.
    pub(crate) fn hold(&mut self, bytes: usize, moved: bool, cx: &Context<'_>) {
        let bytes = bytes as u64;
        let Some(open) = &mut self.open else {
            if bytes > 0 {
                self.begin(bytes, cx.waker().clone());
            }
            return;
        };
        if open.held == bytes && !moved {
            return;
        }
        if bytes == 0 {
            return self.close();
        }
        let mut ledger = self.budget.ledger();
        let now = ledger.number();
        let Some(entry) = ledger.entries.get_mut(&open.number) else {
            return;
        };
        if moved {
            entry.moved = now;
        }
        entry.held = bytes;
        entry.waker.clone_from(cx.waker());
        ledger.held = ledger.held - open.held + bytes;
        open.held = bytes;
        self.budget.settle(ledger);
    }

    /// Whether the connection has to end, to make room for others.
    pub(crate) fn is_cut(&self) -> bool {
        let cut = self.open.as_ref().map(|open| &open.cut);
        cut.is_some_and(|cut| cut.load(Ordering::Relaxed))
    }

    fn begin(&mut self, held: u64, waker: Waker) {
        let mut ledger = self.budget.ledger();
        let number = ledger.number();
        let cut = Arc::new(AtomicBool::new(false));
        let entry = Entry {
            held,
            moved: number,
            cut: Arc::clone(&cut),
            waker,
        };
        ledger.entries.insert(number, entry);
        ledger.held += held;
        self.open = Some(Open { number, held, cut });
        self.budget.settle(ledger);
    }

    fn close(&mut self) {
        let Some(open) = &self.open else { return };
        let mut ledger = self.budget.ledger();
        if let Some(entry) = ledger.entries.remove(&open.number) {
            ledger.held -= entry.held;
            self.budget.publish(&ledger);
            drop(ledger);
            self.open = None;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn who_took_nothing_for_the_longest_makes_room() {
        let budget = UnreadBudget::new(100);
        let mut accounts: Vec<_> = (0..4).map(|_| budget.account()).collect();
        for account in &mut accounts[..3] {
            account.hold(30, false, &context());
        }
        // The first one moves, and so the second is the oldest.
        accounts[0].hold(30, true, &context());
        accounts[3].hold(15, false, &context());
        let cut: Vec<_> = accounts.iter().map(Account::is_cut).collect();
        assert_eq!(cut, [false, true, false, false]);
        assert_eq!(budget.held(), 75);
        assert_eq!(budget.inner.cut.get(), 1);
        // Who was cut holds nothing more, whatever it says.
        accounts[1].hold(1000, true, &context());
        assert_eq!(budget.held(), 75);
        drop(accounts);
        assert_eq!(budget.held(), 0);
        assert!(budget.ledger().entries.is_empty());
    }

    #[test]
    fn one_that_is_too_large_for_the_limit_is_cut_itself() {
        let budget = UnreadBudget::new(100);
        let (mut large, mut small) = (budget.account(), budget.account());
        small.hold(10, false, &context());
        large.hold(101, false, &context());
        assert!(large.is_cut());
        assert_eq!(budget.held(), 0);
        small.hold(0, false, &context());
        assert!(small.is_cut(), "it was older");
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = UnreadBudget::new(100);
        let mut account = budget.account();
        account.hold(0, false, &context());
        for _ in 0..1000 {
            account.hold(100, false, &context());
            account.hold(0, false, &context());
        }
        assert_eq!(budget.held(), 0);
        assert!(!account.is_cut());
        assert_eq!(budget.inner.cut.get(), 0);
    }
}
