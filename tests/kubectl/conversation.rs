//! A program that is spoken to line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Lines not yet asked for; beyond them the program waits.
const LINES_KEPT: usize = 1_000;

/// Between two looks whether it has ended.
const INTERVAL: Duration = Duration::from_millis(20);

/// Killed when it is dropped.
pub(crate) struct Conversation {
    child: Child,
    /// None once everything is said.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Conversation {
    /// The errors go where the suite's go.
    pub(crate) fn begin(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("begin a conversation")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = sync_channel(LINES_KEPT);
        // Ends with the program, or with the first line that nobody is there for.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            stdin,
            lines,
        })
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("no standard input")?;
        writeln!(stdin, "{line}").with_context(|| format!("say {line:?}"))
    }

    /// The end of its standard input, which is to be its own end too.
    pub(crate) fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.stdin = None;
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "it has not ended within {limit:?}");
            std::thread::sleep(INTERVAL);
        }
    }

    /// Waits for a line with this text.
    pub(crate) fn hear(&self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("no {text:?} within {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended without {text:?}"),
            }
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
