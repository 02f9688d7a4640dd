//! Assertions with a deadline: a test waits for what it is about to see, never
//! for a fixed time.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// Between two looks: short against any deadline, long enough to leave the two
/// cores of a test machine to what is waited for.
const INTERVAL: Duration = Duration::from_millis(50);

/// What a look may answer: a value, or not yet and why.
pub trait Outcome {
    type Value;

    /// The value, or why there is none yet.
    fn settle(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn settle(self) -> Result<(), String> {
        if self {
            Ok(())
        } else {
            Err("false".to_owned())
        }
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        // With its causes, where the error is one that has them (anyhow).
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Looks again and again until it gets a value (`true`, `Some`, `Ok`), and
/// returns it. Panics once the deadline has passed, with what was waited for
/// and the last answer; a look that hangs counts as an answer too.
///
/// ```
/// # use std::time::Duration;
/// # use cluster_proxy_testkit::eventually;
/// # async fn connected() -> usize { 3 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// eventually(Duration::from_secs(5), "three agents are connected", async || {
///     connected().await == 3
/// })
/// .await;
/// # }
/// ```
#[track_caller]
pub fn eventually<O: Outcome>(
    deadline: Duration,
    what: impl Display,
    mut look: impl AsyncFnMut() -> O,
) -> impl Future<Output = O::Value> {
    // Taken here: inside of the future it would be a line of this file.
    let caller = Location::caller();
    async move {
        let end = tokio::time::Instant::now() + deadline;
        let mut last = "no answer".to_owned();
        loop {
            match tokio::time::timeout_at(end, look())
                .await
                .map(Outcome::settle)
            {
                Ok(Ok(value)) => return value,
                Ok(Err(reason)) => last = reason,
                Err(_elapsed) => fail(caller, deadline, &what, &format!("{last} (still looking)")),
            }
            if tokio::time::Instant::now() + INTERVAL > end {
                fail(caller, deadline, &what, &last);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// [`eventually`] for tests without a runtime. A look that hangs hangs the test.
#[track_caller]
pub fn eventually_blocking<O: Outcome>(
    deadline: Duration,
    what: impl Display,
    mut look: impl FnMut() -> O,
) -> O::Value {
    let end = Instant::now() + deadline;
    loop {
        match look().settle() {
            Ok(value) => return value,
            Err(last) if Instant::now() + INTERVAL > end => {
                fail(Location::caller(), deadline, &what, &last);
            }
            Err(_not_yet) => std::thread::sleep(INTERVAL),
        }
    }
}

fn fail(caller: &Location<'_>, deadline: Duration, what: &dyn Display, last: &str) -> ! {
    panic!("{caller}: not within {deadline:?}: {what}; last answer: {last}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn returns_the_value_of_the_first_look_that_has_one() {
        let mut looks = 0;
        let value = eventually(Duration::from_secs(1), "a value", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: the pod runs; last answer: Pending")]
    async fn says_what_was_waited_for_and_the_last_answer() {
        let look = async || Err::<(), _>("Pending");
        eventually(Duration::from_secs(1), "the pod runs", look).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: an answer; last answer: no answer (still looking)")]
    async fn a_look_that_hangs_ends_at_the_deadline() {
        eventually(
            Duration::from_secs(1),
            "an answer",
            std::future::pending::<bool>,
        )
        .await;
    }

    #[test]
    #[should_panic(expected = "eventually.rs")]
    fn names_the_line_of_the_test() {
        eventually_blocking(Duration::ZERO, "never", || false);
    }

    #[test]
    fn blocking_returns_the_value() {
        let begin = Instant::now();
        eventually_blocking(Duration::from_secs(5), "100 ms to pass", || {
            begin.elapsed() > Duration::from_millis(100)
        });
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
