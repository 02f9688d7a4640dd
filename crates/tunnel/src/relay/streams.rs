//! Between two tunnel streams: chunks are handed over as they came off the wire, without a copy.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Broke, Leg, Moved, Pumped, RelayEnd, Turns};
use crate::stream::TunnelStream;

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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
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
        let mut turns = Turns::new();
        while !self.done {
            if turns.poll_next(cx).is_pending() {
                return Ok(Pumped::Starved);
            }
            if self.pending.is_empty() {
                match source.poll_chunk(cx) {
                    Poll::Ready(Ok(Some(chunk))) => self.pending = chunk,
                    Poll::Ready(Ok(None)) => {
                        sink.end_like(source).map_err(Broke::Sink)?;
                        self.done = true;
                        break;
                    }
                    Poll::Ready(Err(error)) => return Err(Broke::Source(error)),
                    Poll::Pending => return Ok(Pumped::Starved),
                }
            }
            let taken = match sink.poll_capacity(cx, self.pending.len()) {
                Poll::Ready(Ok(capacity)) => capacity,
                Poll::Ready(Err(error)) => return Err(Broke::Sink(error)),
                Poll::Pending => return Ok(Pumped::Blocked),
            };
            let chunk = self.pending.split_to(taken);
            // The end of the source rides on its last bytes.
            self.done = self.pending.is_empty() && source.at_end();
            sink.send(chunk, self.done).map_err(Broke::Sink)?;
            source.release(taken);
            self.moved += taken as u64;
        }
        Ok(Pumped::Done)
    }
}
