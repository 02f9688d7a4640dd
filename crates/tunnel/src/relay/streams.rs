//! Between two tunnel streams: chunks are handed over as they came off the wire, without a copy.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Backlog, Broke, Leg, Moved, Pumped, RelayEnd, Turns};
use crate::http2::MAX_SEND_BUFFER;
use crate::stream::TunnelStream;
use crate::unread_budget::UnreadBudget;

/// A relay between two streams, as the proxy-server makes between a frontend and a lane. Dropped
/// before its end, both are aborted.
#[derive(Debug)]
pub struct StreamRelay {
    near: TunnelStream,
    far: TunnelStream,
    to_far: Pump,
    to_near: Pump,
}

impl StreamRelay {
    /// A relay that has moved nothing yet.
    #[must_use]
    pub fn new(near: TunnelStream, far: TunnelStream) -> Self {
        Self {
            near,
            far,
            to_far: Pump::default(),
            to_near: Pump::default(),
        }
    }

    /// The same, and what its ends leave unread counts against `budget`: the relay breaks when the
    /// room is needed.
    #[must_use]
    pub fn within(mut self, budget: &UnreadBudget) -> Self {
        self.to_far.backlog.count_in(budget);
        self.to_near.backlog.count_in(budget);
        self
    }

    /// Moves bytes until both directions have ended or a leg broke.
    pub async fn run(&mut self) -> RelayEnd {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// What was moved so far.
    #[must_use]
    pub fn moved(&self) -> Moved {
        Moved {
            to_far: self.to_far.moved,
            to_near: self.to_near.moved,
        }
    }

    /// As [`run`](Self::run), for who looks at [`moved`](Self::moved) meanwhile.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        self.poll_legs(cx).map(|end| match end {
            RelayEnd::Broken {
                leg: Leg::Near,
                error,
            } if self.to_far.done && error.kind() == io::ErrorKind::ConnectionReset => {
                RelayEnd::Left { error }
            }
            end => end,
        })
    }

    fn poll_legs(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let to_far = match self.to_far.poll(cx, &mut self.near, &mut self.far) {
            Ok(pumped) => pumped,
            Err(broke) => return Poll::Ready(broke.into_end(Leg::Near)),
        };
        let to_near = match self.to_near.poll(cx, &mut self.far, &mut self.near) {
            Ok(pumped) => pumped,
            Err(broke) => return Poll::Ready(broke.into_end(Leg::Far)),
        };
        let near_flushed = match self.near.poll_flushed(cx) {
            Poll::Ready(Err(error)) => return broken(Leg::Near, error),
            flushed => flushed.is_ready(),
        };
        let far_flushed = match self.far.poll_flushed(cx) {
            Poll::Ready(Err(error)) => return broken(Leg::Far, error),
            flushed => flushed.is_ready(),
        };
        if let (Pumped::Done, Pumped::Done) = (&to_far, &to_near)
            && near_flushed
            && far_flushed
        {
            return Poll::Ready(RelayEnd::Finished);
        }
        // A leg whose receiving half is being polled reports its end there; the other one would
        // go unnoticed while its peer is slow or silent.
        if !matches!(to_far, Pumped::Starved)
            && let Poll::Ready(error) = self.near.poll_broken(cx)
        {
            return broken(Leg::Near, error);
        }
        if !matches!(to_near, Pumped::Starved)
            && let Poll::Ready(error) = self.far.poll_broken(cx)
        {
            return broken(Leg::Far, error);
        }
        if matches!(to_far, Pumped::Done)
            && self.near.poll_closed(cx).is_ready()
            && let Err(error) = self.far.close()
        {
            return broken(Leg::Far, error);
        }
        Poll::Pending
    }
}

fn broken(leg: Leg, error: io::Error) -> Poll<RelayEnd> {
    Poll::Ready(RelayEnd::Broken { leg, error })
}

/// One direction.
#[derive(Debug, Default)]
struct Pump {
    /// Read from the source and not yet taken by the sink.
    pending: Bytes,
    /// What came after it while the sink took nothing.
    backlog: Backlog,
    source_ended: bool,
    moved: u64,
    done: bool,
}

impl Pump {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TunnelStream,
        sink: &mut TunnelStream,
    ) -> Result<Pumped, Broke> {
        self.backlog.check().map_err(Broke::Sink)?;
        let mut turns = Turns::new();
        while !self.done {
            if turns.poll_next(cx).is_pending() {
                return Ok(Pumped::Starved);
            }
            if self.pending.is_empty() {
                match self.poll_source(cx, source) {
                    Poll::Ready(Ok(Some(chunk))) => self.pending = chunk,
                    Poll::Ready(Ok(None)) => {
                        sink.end_like(source).map_err(Broke::Sink)?;
                        self.done = true;
                        break;
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => return Ok(Pumped::Starved),
                }
            }
            let taken = match sink.poll_capacity(cx, self.pending.len()) {
                Poll::Ready(Ok(capacity)) => capacity,
                Poll::Ready(Err(error)) => return Err(Broke::Sink(error)),
                Poll::Pending => return self.read_on(cx, source),
            };
            let chunk = self.pending.split_to(taken);
            // The end of the source rides on its last bytes.
            self.done = self.pending.is_empty() && self.backlog.is_empty() && source.at_end();
            sink.send(chunk, self.done).map_err(Broke::Sink)?;
            source.release(taken);
            self.moved += taken as u64;
        }
        self.backlog.hold(0, self.moved, cx);
        Ok(Pumped::Done)
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TunnelStream,
    ) -> Poll<Result<Option<Bytes>, Broke>> {
        if let Some(chunk) = self.backlog.pop() {
            return Poll::Ready(Ok(Some(chunk)));
        }
        self.backlog.hold(0, self.moved, cx);
        if self.source_ended {
            return Poll::Ready(Ok(None));
        }
        match source.poll_chunk(cx) {
            Poll::Ready(Ok(Some(chunk))) if chunk.len() <= SMALL => {
                Poll::Ready(self.gather(cx, source, chunk))
            }
            other => other.map_err(Broke::Source),
        }
    }

    /// Puts small chunks that are there at once into one: a frame costs h2 several hundred bytes
    /// until it has left, and its sender a few.
    fn gather(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TunnelStream,
        first: Bytes,
    ) -> Result<Option<Bytes>, Broke> {
        let mut first = Some(first);
        while source.has_credit_of_its_own() && self.backlog.len() < MAX_GATHERED {
            match source.poll_chunk(cx) {
                Poll::Ready(Ok(Some(next))) => {
                    let is_last = next.len() > SMALL;
                    if let Some(first) = first.take() {
                        self.backlog.push(first);
                    }
                    self.backlog.push(next);
                    if is_last {
                        break;
                    }
                }
                Poll::Ready(Ok(None)) => {
                    self.source_ended = true;
                    break;
                }
                Poll::Ready(Err(error)) => return Err(Broke::Source(error)),
                Poll::Pending => break,
            }
        }
        Ok(first.or_else(|| self.backlog.pop()))
    }

    /// Takes what the source has sent out of the frames it came in while the sink takes nothing:
    /// memory is then as much as the bytes, and counted.
    fn read_on(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TunnelStream,
    ) -> Result<Pumped, Broke> {
        if source.has_credit_of_its_own() {
            if self.backlog.is_empty() {
                self.backlog.push(std::mem::take(&mut self.pending));
            }
            while !self.source_ended {
                match source.poll_chunk(cx) {
                    Poll::Ready(Ok(Some(chunk))) => self.backlog.push(chunk),
                    Poll::Ready(Ok(None)) => self.source_ended = true,
                    Poll::Ready(Err(error)) => return Err(Broke::Source(error)),
                    Poll::Pending => break,
                }
            }
        }
        // As much as the sink may hold back of what it took already, which it does not tell.
        let sent = usize::try_from(self.moved).unwrap_or(usize::MAX);
        let beside = self.pending.len() + sent.min(MAX_SEND_BUFFER);
        self.backlog.hold(beside, self.moved, cx);
        self.backlog.check().map_err(Broke::Sink)?;
        Ok(Pumped::Blocked)
    }
}

/// What is shorter is put together with what comes after it.
const SMALL: usize = 1024;

/// One full TLS record.
const MAX_GATHERED: usize = 16 * 1024;

#[cfg(test)]
mod tests;
