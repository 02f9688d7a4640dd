//! How a process ends without dropping what it carries.
//!
//! ```text
//! running ─start─▶ started ──min──▶ closing ──all tasks done, or limit──▶ ended
//!                  readyz 503        no new connections,                   what is left
//!                  peers are told    GOAWAY on open ones                   is cut
//! ```
//! Every task is spawned through [`Drain::spawn`], so that the end waits for all of them.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What tasks get after the end to let go of their connections.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// The stages of an ending process, and the owner of its tasks. Clones are the same drain.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    started: CancellationToken,
    closing: CancellationToken,
    ended: CancellationToken,
    tasks: TaskTracker,
    background: TaskTracker,
}

/// How long the stages take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainLimits {
    /// From SIGTERM until no new connection is accepted: what load balancers need to notice.
    pub min: Duration,
    /// From then until what still runs is cut.
    pub limit: Duration,
}

impl Drain {
    /// A running process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain of its own for one part of a process, which also ends with this one: it takes each
    /// stage when this does, and may take it earlier.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            started: self.started.child_token(),
            closing: self.closing.child_token(),
            ended: self.ended.child_token(),
            tasks: TaskTracker::new(),
            background: TaskTracker::new(),
        }
    }

    /// The process is asked to end: readiness goes, peers are told.
    pub fn start(&self) {
        self.started.cancel();
    }

    /// Nothing new is accepted.
    pub fn close(&self) {
        self.start();
        self.closing.cancel();
    }

    /// What is left is cut.
    pub fn end(&self) {
        self.close();
        self.ended.cancel();
    }

    /// Resolves once the process is asked to end.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// Resolves once nothing new may be accepted.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Resolves once everything must stop at once.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the process is asked to end.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.is_cancelled()
    }

    /// Whether nothing new is accepted.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Whether everything must stop at once.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Spawns a task that the drain waits for. The task must watch [`Self::ended`].
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Spawns a task that serves the others (a refresh, a cache's upkeep): the drain does not wait
    /// for it, and it is dropped at [`Self::ended`], wherever it stands.
    pub fn spawn_until_ended<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let ended = self.ended.clone();
        self.background.spawn(async move {
            ended.run_until_cancelled_owned(task).await;
        })
    }

    /// How many tasks run that the drain waits for.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Goes through all stages; `true` when every task ended by itself within the limit.
    pub async fn run(&self, limits: DrainLimits) -> bool {
        self.start();
        self.tasks.close();
        if timeout(limits.min, self.tasks.wait()).await.is_err() {
            self.close();
        }
        self.close();
        let clean = timeout(limits.limit, self.tasks.wait()).await.is_ok();
        self.end();
        self.background.close();
        let last = timeout(LAST_GRACE, async {
            self.tasks.wait().await;
            self.background.wait().await;
        });
        if last.await.is_err() {
            let tasks = self.tasks.len() + self.background.len();
            tracing::warn!(tasks, "tasks did not stop at the end of the drain");
        }
        clean
    }
}

/// Resolves with the signal's name at the first SIGTERM or SIGINT.
///
/// # Errors
/// When the process cannot listen for signals.
pub async fn terminated() -> std::io::Result<&'static str> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Waits for SIGTERM or SIGINT, then drains; a second signal ends at once.
///
/// # Errors
/// When the process cannot listen for signals.
pub async fn drain_on_signal(drain: &Drain, limits: DrainLimits) -> std::io::Result<()> {
    let name = terminated().await?;
    tracing::info!(
        signal = name,
        min_seconds = limits.min.as_secs(),
        limit_seconds = limits.limit.as_secs(),
        "draining"
    );
    tokio::select! {
        clean = drain.run(limits) => {
            tracing::info!(clean, "drained");
        }
        again = terminated() => {
            tracing::warn!(signal = again?, "second signal: ending at once");
            drain.end();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DrainLimits = DrainLimits {
        min: Duration::from_secs(10),
        limit: Duration::from_secs(30),
    };

    #[tokio::test(start_paused = true)]
    async fn stages_come_in_order_and_the_last_cuts() {
        let drain = Drain::new();
        let stubborn = drain.clone();
        drain.spawn(async move { stubborn.ended().await });
        let begin = tokio::time::Instant::now();
        let watched = drain.clone();
        let stages = tokio::spawn(async move {
            watched.started().await;
            let started = begin.elapsed();
            watched.closing().await;
            let closing = begin.elapsed();
            watched.ended().await;
            (started, closing, begin.elapsed())
        });
        assert!(!drain.run(LIMITS).await);
        assert_eq!(
            stages.await.unwrap(),
            (
                Duration::ZERO,
                Duration::from_secs(10),
                Duration::from_secs(40)
            )
        );
        assert_eq!(drain.tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_process_ends_at_once() {
        let drain = Drain::new();
        let begin = tokio::time::Instant::now();
        assert!(drain.run(LIMITS).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(drain.is_ended());
    }

    #[tokio::test(start_paused = true)]
    async fn background_tasks_hold_nothing_up() {
        let drain = Drain::new();
        let background = drain.spawn_until_ended(std::future::pending());
        let begin = tokio::time::Instant::now();
        assert!(drain.run(LIMITS).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        background.await.unwrap();
    }

    #[tokio::test]
    async fn a_part_ends_alone_or_with_the_whole() {
        let whole = Drain::new();
        let (one, two) = (whole.child(), whole.child());
        one.end();
        assert!(one.is_ended() && !two.is_started() && !whole.is_started());
        whole.close();
        assert!(two.is_closing() && !two.is_ended());
    }
}
