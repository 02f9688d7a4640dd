//! Finding dead peers: a PING when the interval is over, and an end when nothing at all was
//! received within the time-out after it.
//!
//! Any received byte counts as a sign of life, not the answer alone: behind a full socket buffer
//! on a slow link the answer may take longer than the time-out. The check runs in the task that
//! drives the connection and costs nothing per frame.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

use super::Http2Settings;

/// The peer sent nothing for the whole time-out after it was asked for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerSilent;

/// The PING keepalive of one connection.
#[derive(Debug)]
pub(crate) struct Keepalive {
    ping: PingPong,
    round_trip: RoundTrip,
    interval: Duration,
    timeout: Duration,
    asked: Option<Asked>,
    timer: Pin<Box<Sleep>>,
}

/// A PING that was not answered yet.
#[derive(Debug)]
struct Asked {
    at: Instant,
    /// What had been received at the last look.
    received: u64,
}

impl Keepalive {
    /// The first PING goes out at once: it measures the round trip.
    pub(crate) fn new(ping: PingPong, settings: &Http2Settings) -> Self {
        Self {
            ping,
            round_trip: RoundTrip::default(),
            interval: settings.ping_interval,
            timeout: settings.ping_timeout,
            asked: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Asks less or more often from now on.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
        // The first answer may have come before it was known how often this is to be.
        if self.asked.is_none() && self.round_trip.get().is_some() {
            self.timer.as_mut().reset(Instant::now() + interval);
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    pub(crate) fn round_trip(&self) -> RoundTrip {
        self.round_trip.clone()
    }

    /// Ready when the peer is dead; `received` says how many bytes came from it so far. Pending
    /// for ever once the connection itself has ended, which its own driver notices.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        received: impl Fn() -> u64,
    ) -> Poll<PeerSilent> {
        loop {
            if let Some(asked) = &self.asked {
                match self.ping.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.round_trip.set(asked.at.elapsed());
                        self.asked = None;
                        self.timer.as_mut().reset(Instant::now() + self.interval);
                    }
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            ready!(self.timer.as_mut().poll(cx));
            let received = received();
            match &mut self.asked {
                Some(asked) if asked.received == received => return Poll::Ready(PeerSilent),
                Some(asked) => asked.received = received,
                None => {
                    if self.ping.send_ping(Ping::opaque()).is_err() {
                        return Poll::Pending;
                    }
                    self.asked = Some(Asked {
                        at: Instant::now(),
                        received,
                    });
                }
            }
            self.timer.as_mut().reset(Instant::now() + self.timeout);
        }
    }
}

/// The last measured round trip of a connection, shared with those who ask for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoundTrip(Arc<AtomicU64>);

impl RoundTrip {
    /// `None` until the first PING was answered.
    pub(crate) fn get(&self) -> Option<Duration> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros != 0).then(|| Duration::from_micros(micros))
    }

    fn set(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros.max(1), Ordering::Relaxed);
    }
}
