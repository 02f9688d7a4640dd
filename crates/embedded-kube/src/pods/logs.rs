//! The logs of containers: the last lines of each, and a wake for those who follow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

/// All logs of one cluster, by pod uid and container.
#[derive(Debug, Default)]
pub(crate) struct PodLogs {
    logs: Mutex<BTreeMap<(String, String), Arc<Log>>>,
}

impl PodLogs {
    /// Appends what the host program says.
    pub(crate) fn append(&self, pod_uid: &str, container: &str, text: &str) {
        let log = self.log(pod_uid, container);
        for line in text.lines() {
            log.push(line.to_owned());
        }
    }

    /// Appends the kubelet's own next line.
    pub(crate) fn tick(&self, pod_uid: &str, container: &str, pod: &str) {
        self.log(pod_uid, container).tick(pod);
    }

    /// The log of one container, which may be empty.
    pub(crate) fn log(&self, pod_uid: &str, container: &str) -> Arc<Log> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (pod_uid.to_owned(), container.to_owned());
        Arc::clone(logs.entry(key).or_default())
    }

    /// Ends the logs of pods that are not any more. Who follows one reads it to its end.
    pub(crate) fn retain(&self, stands: impl Fn(&str) -> bool) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|(uid, _), log| {
            let stands = stands(uid);
            if !stands {
                log.end();
            }
            stands
        });
    }
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Mutex<Lines>,
    /// How many lines there ever were; closed with the container.
    written: watch::Sender<Written>,
}

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub(crate) lines: u64,
    pub(crate) ended: bool,
}

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) time: Timestamp,
    pub(crate) text: String,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Line>,
    bytes: usize,
    /// The number of the first line that is kept.
    first: u64,
    ticks: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            written: watch::Sender::new(Written::default()),
        }
    }
}

impl Log {
    /// The lines from number `from` on that are still kept, and the number after the last.
    pub(crate) fn read(&self, from: u64) -> (Vec<Line>, u64) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = usize::try_from(from.saturating_sub(lines.first)).unwrap_or(usize::MAX);
        let found = lines.kept.iter().skip(skipped).cloned().collect();
        (found, lines.first + lines.kept.len() as u64)
    }

    /// Tells of every new line.
    pub(crate) fn follow(&self) -> watch::Receiver<Written> {
        self.written.subscribe()
    }

    fn tick(&self, pod: &str) {
        let number = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.ticks += 1;
            lines.ticks
        };
        self.push(super::tick_line(number, pod));
    }

    fn push(&self, text: String) {
        let written = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(Line {
                time: Timestamp::now(),
                text,
            });
            lines.first + lines.kept.len() as u64
        };
        self.written.send_modify(|it| it.lines = written);
    }

    fn end(&self) {
        self.written.send_modify(|it| it.ended = true);
    }
}

impl Lines {
    fn push(&mut self, line: Line) {
        self.bytes += line.text.len();
        self.kept.push_back(line);
        while self.kept.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(gone) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= gone.text.len();
            self.first += 1;
        }
    }
}

/// Lines kept of one container: more than an hour of ticks.
const MAX_LINES: usize = 2000;

/// Bytes kept of one container: a host program may write long lines.
const MAX_BYTES: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_numbered() {
        let logs = PodLogs::default();
        for number in 0..MAX_LINES + 10 {
            logs.append("p", "c", &format!("line {number}"));
        }
        let log = logs.log("p", "c");
        let (lines, next) = log.read(0);
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(lines[0].text, "line 10");
        assert_eq!(next, 2010);
        let (lines, _) = log.read(2008);
        assert_eq!(lines.len(), 2);
        logs.append("p", "c", &"x".repeat(MAX_BYTES));
        assert_eq!(log.read(0).0.len(), 1);
    }

    #[test]
    fn a_log_ends_with_its_pod() {
        let logs = PodLogs::default();
        logs.append("p", "c", "one\ntwo");
        logs.append("q", "c", "other");
        let log = logs.log("p", "c");
        let follow = log.follow();
        logs.retain(|uid| uid == "q");
        let written = *follow.borrow();
        assert_eq!(
            written,
            Written {
                lines: 2,
                ended: true
            }
        );
        assert!(!logs.log("q", "c").follow().borrow().ended);
    }
}
