//! What one direction of a relay has read and its sink has not taken.

use std::io;
use std::task::Context;

use bytes::Bytes;

use crate::unread::Unread;
use crate::unread_budget::{Account, UnreadBudget};

/// A queue that counts against the process's budget, once it has one.
#[derive(Debug)]
pub(super) struct Backlog {
    queue: Unread,
    account: Option<Account>,
    /// What the sink had taken when this was counted last.
    moved: u64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            queue: Unread::gathering(GATHERED),
            account: None,
            moved: 0,
        }
    }
}

impl Backlog {
    pub(super) fn count_in(&mut self, budget: &UnreadBudget) {
        self.account = Some(budget.account());
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.queue.push(chunk);
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.queue.pop()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes in the queue.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Counts what is in the queue and `beside` it, when the sink has taken `moved` bytes so far and
    /// takes none now, or when nothing is left.
    pub(super) fn hold(&mut self, beside: usize, moved: u64, cx: &Context<'_>) {
        if let Some(account) = &mut self.account {
            account.hold(self.queue.len() + beside, moved != self.moved, cx);
            self.moved = moved;
        }
    }

    /// # Errors
    ///
    /// `QuotaExceeded` when the budget takes back what is held here.
    pub(super) fn check(&self) -> io::Result<()> {
        match &self.account {
            Some(account) if account.is_cut() => {
                Err(io::Error::new(io::ErrorKind::QuotaExceeded, NOT_READ))
            }
            _ => Ok(()),
        }
    }
}

/// A quarter of the largest piece of memory that frames are cut from: what is longer holds on to
/// four times its length at most.
const GATHERED: usize = 16 * 1024;

const NOT_READ: &str = "cut, since it took nothing for the longest and the limit for bytes that \
                        readers leave unread (--unread-limit) was reached";
