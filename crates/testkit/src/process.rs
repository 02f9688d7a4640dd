//! Programs that run beside a test: their log is kept, they end with the test,
//! and a test that fails shows what they said last.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// How long a program may take over SIGTERM before SIGKILL.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(10);

/// Lines kept in memory; all are in the log file. A program that logs each
/// request of a load test must not fill the test's memory.
const LINES_KEPT: usize = 10_000;

/// Lines shown when a test fails.
const LINES_SHOWN: usize = 50;

/// After a program's end, until its last lines are read. A grandchild that
/// still holds the pipe is not waited for.
const LAST_LINES_DEADLINE: Duration = Duration::from_secs(1);

/// A started program. Killed when dropped; if that happens in a test that
/// fails, its last log lines are printed first.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: Arc<Log>,
    log_path: PathBuf,
}

impl Running {
    /// Starts the command with stdout and stderr in one log, in the order
    /// written, and no stdin. The command is taken, since it would keep the
    /// log's pipe open.
    ///
    /// # Errors
    /// When the program cannot be started or its log file not be made.
    pub fn start(name: impl Into<String>, mut command: Command) -> anyhow::Result<Self> {
        let name = name.into();
        let log_path = new_log_path(&name)?;
        let file =
            File::create(&log_path).with_context(|| format!("log file {}", log_path.display()))?;
        let (reader, writer) = std::io::pipe().context("pipe for a program's log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("pipe for a program's log")?)
            .stderr(writer)
            .spawn()
            .inspect_err(|_| drop(std::fs::remove_file(&log_path)))
            .with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        drop(command);
        let log = Arc::new(Log::default());
        let kept = Arc::clone(&log);
        std::thread::Builder::new()
            .name(format!("log of {name}"))
            .spawn(move || kept.fill(reader, file))
            .context("thread for a program's log")?;
        Ok(Self {
            name,
            child,
            ended: None,
            log,
            log_path,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The whole log. Removed with the program, but for a test that fails.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// The lines so far (the last 10,000).
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().lines.iter().cloned().collect()
    }

    /// The first line so far that contains the text.
    #[must_use]
    pub fn find_line(&self, text: &str) -> Option<String> {
        self.log.lock().find(text)
    }

    /// Waits until a line contains the text, and returns it; lines from before
    /// the call count. Blocks the thread: a test that itself serves the program
    /// from the same thread polls [`Running::find_line`] instead.
    ///
    /// # Errors
    /// When the deadline passes, or as soon as the program has closed its
    /// output (it ended) without that line.
    pub fn wait_for_line(&self, text: &str, deadline: Duration) -> anyhow::Result<String> {
        let end = Instant::now() + deadline;
        let mut lines = self.log.lock();
        loop {
            if let Some(line) = lines.find(text) {
                return Ok(line);
            }
            let left = end.saturating_duration_since(Instant::now());
            if lines.complete || left.is_zero() {
                let why = if lines.complete {
                    "it ended"
                } else {
                    "the deadline passed"
                };
                bail!(
                    "{}: no line with {text:?}: {why} ({deadline:?}); its last lines:\n{}",
                    self.name,
                    lines.tail(LINES_SHOWN)
                );
            }
            lines = self
                .log
                .changed
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        match self.wait_until(Instant::now() + deadline)? {
            Some(status) => Ok(status),
            None => bail!("{} still runs after {deadline:?}", self.name),
        }
    }

    /// Sends a signal. One that has already ended gets none.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // Reaped or not is known here, so the pid cannot be another program's.
        if self.exited()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("{signal:?} to {}", self.name))
    }

    /// SIGTERM, and SIGKILL when it still runs after 10 s: the status then
    /// tells by `signal() == Some(9)` that it did not end by itself.
    ///
    /// # Errors
    /// When the system refuses the signal or cannot say how it ended.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.terminate_within(TERMINATE_DEADLINE)
    }

    /// [`Running::terminate`] with a deadline of the caller's.
    ///
    /// # Errors
    /// As for [`Running::terminate`].
    pub fn terminate_within(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let status = match self.wait_until(Instant::now() + deadline)? {
            Some(status) => status,
            None => self.kill()?,
        };
        self.log.wait_complete(LAST_LINES_DEADLINE);
        Ok(status)
    }

    /// SIGKILL, as a machine that fails does it.
    ///
    /// # Errors
    /// When the system cannot say how it ended.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        let status = self
            .child
            .wait()
            .with_context(|| format!("wait for {}", self.name))?;
        self.ended = Some(status);
        Ok(status)
    }

    fn wait_until(&mut self, end: Instant) -> anyhow::Result<Option<ExitStatus>> {
        loop {
            let ended = self.exited()?;
            if ended.is_some() || Instant::now() >= end {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let ended = self.exited().ok().flatten();
        // Whatever fails here: the test has its result already.
        let _ = self.kill();
        if failing {
            self.log.wait_complete(LAST_LINES_DEADLINE);
            let state = ended.map_or_else(|| "running".to_owned(), |status| status.to_string());
            show_log(
                &self.name,
                &state,
                &self.log_path,
                &self.log.lock().tail(LINES_SHOWN),
            );
        } else {
            let _ = std::fs::remove_file(&self.log_path);
        }
    }
}

/// On the test's own thread, so that the test harness shows it with the test.
#[expect(
    clippy::print_stderr,
    reason = "the reader is who looks at a failed test"
)]
fn show_log(name: &str, state: &str, path: &Path, tail: &str) {
    eprintln!(
        "--- {name} ({state}), last lines of {}:\n{tail}---",
        path.display()
    );
}

/// What a program has written, filled by a thread of its own.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    complete: bool,
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, reader: PipeReader, mut file: File) {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            // A full disk loses the file, not the test.
            let _ = file.write_all(&line);
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let mut lines = self.lock();
            if lines.lines.len() == LINES_KEPT {
                lines.lines.pop_front();
            }
            lines.lines.push_back(text);
            drop(lines);
            self.changed.notify_all();
        }
        self.lock().complete = true;
        self.changed.notify_all();
    }

    fn wait_complete(&self, deadline: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), deadline, |lines| !lines.complete);
        drop(waited);
    }
}

impl Lines {
    fn find(&self, text: &str) -> Option<String> {
        self.lines.iter().find(|line| line.contains(text)).cloned()
    }

    fn tail(&self, count: usize) -> String {
        let skipped = self.lines.len().saturating_sub(count);
        self.lines
            .iter()
            .skip(skipped)
            .fold(String::new(), |tail, line| tail + line + "\n")
    }
}

fn new_log_path(name: &str) -> anyhow::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join("cluster-proxy-tests");
    std::fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(folder.join(format!("{}-{number}-{name}.log", std::process::id())))
}

#[cfg(test)]
mod tests;
