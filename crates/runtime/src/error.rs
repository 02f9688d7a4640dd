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

/// An error with its sources in one line, for kinds of error that do not repeat them in their own
/// text.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
