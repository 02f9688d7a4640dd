//! Text that the other side wrote for people.

use std::fmt;

/// A line from another trust domain, made fit for logs and answers: at most 512 characters, control
/// characters replaced. Nothing decides by it but [`DialFailureKind`](crate::DialFailureKind).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PeerText(String);

impl PeerText {
    /// What of `text` is fit to be passed on.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let printable = |c: char| if c.is_control() { '?' } else { c };
        Self(text.chars().take(MAX_CHARACTERS).map(printable).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none: in DIAL_RSP and CLOSE_RSP that means "no error".
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Go's dial errors have a host name and two addresses at most; 512 hold them, and a log line.
const MAX_CHARACTERS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bounded_line() {
        assert_eq!(PeerText::new("a\nb\u{1b}[0mü").as_str(), "a?b?[0mü");
        assert_eq!(
            PeerText::new(&"ü".repeat(600)).as_str().chars().count(),
            512
        );
        assert!(PeerText::new("").is_empty());
    }
}
