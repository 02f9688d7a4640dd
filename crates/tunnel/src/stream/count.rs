//! The streams open on one connection, and which of them are busy: to know which connection a new
//! stream would disturb least, and to keep the sum of their windows below the connection's.
//!
//! A stream is busy when it moved bytes lately, or waits because the peer or the socket takes
//! nothing: then another one on the same connection may have to wait too. Being open is not
//! enough: a thousand idle watches disturb nobody.
//!
//! Nothing runs for this. A stream looks at the clock when it moves bytes, and touches what it
//! shares with others once in a [`PERIOD`].

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The streams of one connection. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamCount(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    /// Those that wait for room to send.
    blocked: AtomicUsize,
    /// Those that moved bytes in the latest period and in the one before it: a [`Moved`].
    moved: AtomicU64,
}

impl StreamCount {
    /// How many are open.
    pub(crate) fn get(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many are busy.
    pub(crate) fn busy(&self) -> usize {
        let moved = Moved::unpack(self.0.moved.load(Ordering::Relaxed)).at(period());
        let blocked = self.0.blocked.load(Ordering::Relaxed);
        blocked + usize::from(moved.before) + usize::from(moved.latest)
    }

    /// Counts one more until it is dropped, unless `max` are counted already. It is busy at first.
    pub(crate) fn add(&self, max: usize) -> Option<CountedStream> {
        self.0
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < max).then_some(count + 1)
            })
            .ok()?;
        let mut counted = CountedStream {
            counts: Arc::clone(&self.0),
            state: State::Idle,
        };
        counted.moved();
        Some(counted)
    }
}

/// One stream of a [`StreamCount`].
#[derive(Debug)]
pub(crate) struct CountedStream {
    counts: Arc<Counts>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Moved nothing yet.
    Idle,
    /// Moved bytes in this period last.
    Moved(u32),
    /// Waits for room to send.
    Blocked,
}

impl CountedStream {
    /// Bytes of the stream went out or came in.
    pub(crate) fn moved(&mut self) {
        let now = period();
        if self.state == State::Moved(now) {
            return;
        }
        self.leave();
        self.counts.change(now, |moved| {
            moved.latest = moved.latest.saturating_add(1);
        });
        self.state = State::Moved(now);
    }

    /// The stream has something to send, and must wait.
    pub(crate) fn blocked(&mut self) {
        if self.state != State::Blocked {
            self.leave();
            self.counts.blocked.fetch_add(1, Ordering::Relaxed);
            self.state = State::Blocked;
        }
    }

    fn leave(&mut self) {
        match self.state {
            State::Idle => {}
            State::Blocked => {
                self.counts.blocked.fetch_sub(1, Ordering::Relaxed);
            }
            State::Moved(last) => self.counts.change(period(), |moved| {
                let count = match moved.period.checked_sub(last) {
                    Some(0) => &mut moved.latest,
                    Some(1) => &mut moved.before,
                    _ => return,
                };
                *count = count.saturating_sub(1);
            }),
        }
        self.state = State::Idle;
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.leave();
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    fn change(&self, now: u32, change: impl Fn(&mut Moved)) {
        // Never fails: the closure always has a new value.
        let _ = self
            .moved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
                let mut moved = Moved::unpack(packed).at(now);
                change(&mut moved);
                Some(moved.pack())
            });
    }
}

/// Streams by when they moved bytes last; each counts once. A connection has at most 32,768
/// streams, whose windows fill it.
#[derive(Debug, Clone, Copy)]
struct Moved {
    period: u32,
    latest: u16,
    before: u16,
}

impl Moved {
    fn unpack(packed: u64) -> Self {
        let [p0, p1, p2, p3, l0, l1, b0, b1] = packed.to_le_bytes();
        Self {
            period: u32::from_le_bytes([p0, p1, p2, p3]),
            latest: u16::from_le_bytes([l0, l1]),
            before: u16::from_le_bytes([b0, b1]),
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.period) | u64::from(self.latest) << 32 | u64::from(self.before) << 48
    }

    /// The same, seen from a later period.
    fn at(self, now: u32) -> Self {
        match now.checked_sub(self.period) {
            // Another thread's clock is ahead by one tick.
            None | Some(0) => self,
            Some(1) => Self {
                period: now,
                latest: 0,
                before: self.latest,
            },
            Some(_) => Self {
                period: now,
                latest: 0,
                before: 0,
            },
        }
    }
}

/// "Lately" is between one and two of these: longer than a lost packet stalls a busy stream on a
/// usual link, shorter than people notice.
const PERIOD: Duration = Duration::from_secs(1);

/// Periods since this process first asked; begins at 1, since 0 is what was never counted.
fn period() -> u32 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let periods = BEGIN.elapsed().as_secs() / PERIOD.as_secs();
    u32::try_from(periods).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_moves_or_waits_is_busy() {
        let streams = StreamCount::default();
        let watches: Vec<_> = (0..1000).map(|_| streams.add(2000).unwrap()).collect();
        assert_eq!((streams.get(), streams.busy()), (1000, 1000));
        tokio::time::advance(2 * PERIOD).await;
        assert_eq!((streams.get(), streams.busy()), (1000, 0));

        let (mut bulk, mut stalled) = (streams.add(2000).unwrap(), streams.add(2000).unwrap());
        for _ in 0..5 {
            tokio::time::advance(PERIOD / 2).await;
            bulk.moved();
            stalled.blocked();
            assert_eq!(streams.busy(), 2);
        }
        tokio::time::advance(10 * PERIOD).await;
        assert_eq!(
            streams.busy(),
            1,
            "what waits is busy for as long as it does"
        );
        stalled.moved();
        assert_eq!(streams.busy(), 1);
        drop(stalled);
        assert_eq!(streams.busy(), 0, "what has ended is not");
        bulk.moved();
        tokio::time::advance(PERIOD).await;
        bulk.moved();
        assert_eq!(streams.busy(), 1, "each counts once");
        drop((bulk, watches));
        assert_eq!((streams.get(), streams.busy()), (0, 0));
    }

    #[test]
    fn no_more_than_fit() {
        let streams = StreamCount::default();
        let one = streams.add(1).unwrap();
        assert!(streams.add(1).is_none());
        drop(one);
        assert!(streams.add(1).is_some());
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let moved = Moved {
            period: 70_000,
            latest: 32_768,
            before: 3,
        };
        let again = Moved::unpack(moved.pack());
        assert_eq!(
            (again.period, again.latest, again.before),
            (70_000, 32_768, 3)
        );
        let next = again.at(70_001);
        assert_eq!((next.latest, next.before), (0, 32_768));
    }
}
