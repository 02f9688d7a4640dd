//! Which connections have something to say to the task that owns their stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use super::pipe::Shared;

/// Connections of one stream whose users did something. Each is here once at most (its own mark
/// says so): the list never grows beyond the connections there are.
#[derive(Debug, Default)]
pub(super) struct Ready {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Arc<Shared>>,
    waker: Option<Waker>,
    closed: bool,
}

impl Ready {
    /// Puts `shared` on the list; false when the stream has ended.
    pub(super) fn push(&self, shared: Arc<Shared>) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.waiting.push_back(shared);
        wake(inner);
        true
    }

    /// Lets the owner look at what else has changed.
    pub(super) fn call(&self) {
        wake(self.lock());
    }

    /// The next connection; when there is none, the owner is woken for the next.
    pub(super) fn pop(&self, cx: &Context<'_>) -> Option<Arc<Shared>> {
        let mut inner = self.lock();
        let next = inner.waiting.pop_front();
        if next.is_none() {
            inner.waker = Some(cx.waker().clone());
        }
        next
    }

    /// Takes nothing more, and gives what is left.
    pub(super) fn close(&self) -> VecDeque<Arc<Shared>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waker = None;
        std::mem::take(&mut inner.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}
