//! What quickstart says: steps with the time they took, on standard output.

use std::fmt::Display;
use std::time::Instant;

/// Tells steps as they are done.
#[derive(Debug)]
pub(super) struct Voice {
    began: Instant,
}

#[expect(clippy::print_stdout, reason = "quickstart is there to tell")]
impl Voice {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// A step that is done.
    pub(super) fn done(&self, what: impl Display) {
        println!("{:>6.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// More about the step before.
    pub(super) fn detail(&self, what: impl Display) {
        println!("{:>10}{what}", "");
    }

    /// A line of its own, to read or to paste.
    pub(super) fn line(&self, what: impl Display) {
        println!("{what}");
    }
}
