//! The task that owns an agent's stream: reads it, writes it, keeps its time.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::link::Link;
use crate::error::TunnelError;
use crate::http2::server::ServerLink;
use crate::konnectivity::clock::Clock;
use crate::konnectivity::grpc::{self, Status};
use crate::konnectivity::inbox::{Inbox, Received};
use crate::konnectivity::packet_counts::Segment;

/// Drives an [`AgentStream`](super::AgentStream): nothing moves unless it is polled; the stream is
/// over when it ends or is dropped.
#[must_use = "the stream moves only while its driver is polled"]
pub struct AgentStreamDriver<T> {
    http2: ServerLink<T>,
    inbox: Inbox,
    link: Link,
    clock: Clock,
    /// The agent has ended its half: until when its connection is waited for.
    ended: Option<Duration>,
}

impl<T> AgentStreamDriver<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(http2: ServerLink<T>, recv: RecvStream, link: Link) -> Self {
        Self {
            http2,
            inbox: Inbox::new(recv, Segment::FromAgent),
            link,
            clock: Clock::new(),
            ended: None,
        }
    }

    /// Drives the stream to its end and says what ended it.
    pub async fn run(&mut self) -> TunnelError {
        let end = poll_fn(|cx| self.poll(cx)).await;
        self.link.end(self.clock.now());
        // However the connection ends once the stream has.
        if self.link.is_finished() {
            TunnelError::Closed
        } else {
            end
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        loop {
            let now = self.clock.now();
            self.link.take_news(cx, now);
            if let Err(end) = self.read(cx) {
                return Poll::Ready(end);
            }
            let crowded = self.link.is_crowded();
            if let Err(end) = self.link.send(cx, self.clock.now()) {
                return Poll::Ready(end);
            }
            if crowded && !self.link.is_crowded() {
                cx.waker().wake_by_ref();
            }
            if self.link.is_finished() {
                self.http2.finish();
            }
            match self.http2.poll_stream(cx) {
                // gRPC lets a client open more calls on one connection; an agent has no use for it.
                Poll::Ready(Ok((_, mut respond))) => {
                    let why = "one stream for each connection";
                    grpc::refuse(&mut respond, Status::ResourceExhausted, why);
                    continue;
                }
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => {}
            }
            let deadline = self.link.next_deadline().into_iter().chain(self.ended);
            if self.clock.poll_over(cx, deadline.min()).is_pending() {
                return Poll::Pending;
            }
            let now = self.clock.now();
            if self.ended.is_some_and(|ended| ended <= now) {
                return Poll::Ready(TunnelError::Closed);
            }
            self.link.tick(now);
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), TunnelError> {
        while self.ended.is_none() && self.link.reads() {
            match self.inbox.poll_next(cx)? {
                Poll::Ready(Received::Packet(packet)) => {
                    self.link.packet(self.clock.now(), packet);
                }
                // Nothing of its connections is left there.
                Poll::Ready(Received::End(_)) => {
                    let now = self.clock.now();
                    self.ended = Some(now + FAREWELL_TIME);
                    self.link.end(now);
                    self.link.finish();
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

impl<T> Drop for AgentStreamDriver<T> {
    fn drop(&mut self) {
        self.link.end(self.clock.now());
    }
}

impl<T> std::fmt::Debug for AgentStreamDriver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentStreamDriver").finish_non_exhaustive()
    }
}

/// An agent that has ended its half closes the connection when it has read the same of ours.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
