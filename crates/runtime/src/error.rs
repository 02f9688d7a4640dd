//! Why a role does not start: one line that names flag, file and cause.

use std::fmt::Display;

/// A start that failed. [`Self::exit_code`] tells the two kinds apart for scripts.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command line cannot be right wherever it is run: a malformed URL, two flags that
    /// exclude each other, one that is missing.
    #[error("{flag}: {cause}")]
    Usage {
        /// The flag, with its dashes.
        flag: String,
        /// What is wrong.
        cause: String,
    },
    /// The command line may be right, but not here and now: a file that is absent or damaged, a
    /// port in use.
    #[error("{cause}")]
    Failed {
        /// What is wrong, flag and file included.
        cause: String,
    },
}

impl StartError {
    /// A usage error of `flag`.
    pub fn usage(flag: impl Display, cause: impl Display) -> Self {
        Self::Usage {
            flag: flag.to_string(),
            cause: cause.to_string(),
        }
    }

    /// A failure whose text names its flag already.
    pub fn failed(cause: impl Display) -> Self {
        Self::Failed {
            cause: cause.to_string(),
        }
    }

    /// 64 (`EX_USAGE` of sysexits.h) for usage, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 64,
            Self::Failed { .. } => 1,
        }
    }
}

/// An error with its sources in one line. A source that the text before it ends with already is
/// not said again: some kinds of error (kube's) repeat theirs.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Chain {
        #[error("outer")]
        Silent(#[source] Box<Self>),
        #[error("repeats: {0}")]
        Repeating(#[source] Box<Self>),
        #[error("inner")]
        Inner,
    }

    #[test]
    fn every_source_is_said_once() {
        let inner = || Box::new(Chain::Inner);
        assert_eq!(with_sources(&Chain::Silent(inner())), "outer: inner");
        let repeating = Chain::Repeating(inner());
        assert_eq!(with_sources(&repeating), "repeats: inner");
        let all = Chain::Silent(Box::new(repeating));
        assert_eq!(with_sources(&all), "outer: repeats: inner");
    }
}
