//! Time as the state machines of `konnectivity-wire` want it: since a fixed moment.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A clock with one alarm.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    alarm: Pin<Box<Sleep>>,
    set_to: Option<Duration>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
            set_to: None,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ready when `deadline` is over; never without one.
    pub(super) fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<Duration>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if self.set_to != Some(deadline) {
            self.set_to = Some(deadline);
            self.alarm.as_mut().reset(self.start + deadline);
        }
        self.alarm.as_mut().poll(cx)
    }
}
