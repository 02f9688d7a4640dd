//! What was seen of one event.

use std::fmt;
use std::time::Duration;

/// What an event led to, as both ends saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was no connection.
    DialFailed {
        /// The answer to CONNECT; none where the frontend has no such thing.
        status: Option<u16>,
        /// The text that the client shows, with what differs between runs left out.
        says: String,
    },
    /// There was one, and it ended.
    Ended {
        /// What the client saw of the end; none when it is the one who went without looking.
        client: Option<Sight>,
        /// The same of the target.
        target: Option<Sight>,
        /// Whether the way that had not ended still carried bytes.
        other_way: OtherWay,
    },
    /// All that was to be moved arrived as it was sent: so many connections, or bytes each way.
    Moved(u64),
    /// Only the beginning arrived, and looked like all.
    CutShort,
    /// This kind of client has no such thing.
    NotOffered,
}

/// How one end sees a connection's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// An end in order: all bytes came.
    End,
    /// The socket says that the connection was reset.
    Reset,
    /// The client's own words for it.
    Error(String),
    /// No end within the deadline.
    StillOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherWay {
    Open,
    Cut,
    NotTried,
}

impl Outcome {
    pub(crate) fn dial_failed(status: impl Into<Option<u16>>, says: &str) -> Self {
        Self::DialFailed {
            status: status.into(),
            says: says.to_owned(),
        }
    }

    pub(crate) fn ended(
        client: impl Into<Option<Sight>>,
        target: impl Into<Option<Sight>>,
        other_way: OtherWay,
    ) -> Self {
        Self::Ended {
            client: client.into(),
            target: target.into(),
            other_way,
        }
    }
}

/// An outcome, and how long after the event it was there.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

impl Observed {
    /// What cannot be observed.
    pub(crate) fn not_offered() -> Self {
        Self {
            outcome: Outcome::NotOffered,
            took: Duration::ZERO,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DialFailed { status, says } => {
                f.write_str("dial failed")?;
                if let Some(status) = status {
                    write!(f, ", {status}")?;
                }
                write!(f, ": {says:?}")
            }
            Self::Ended {
                client,
                target,
                other_way,
            } => {
                let mut parts = Vec::new();
                if let Some(sight) = client {
                    parts.push(format!("client sees {sight}"));
                }
                if let Some(sight) = target {
                    parts.push(format!("target sees {sight}"));
                }
                match other_way {
                    OtherWay::Open => parts.push("other way open".to_owned()),
                    OtherWay::Cut => parts.push("other way cut".to_owned()),
                    OtherWay::NotTried => {}
                }
                f.write_str(&parts.join("; "))
            }
            Self::Moved(count) => write!(f, "all arrived ({count})"),
            Self::CutShort => f.write_str("cut short, and seen as an end"),
            Self::NotOffered => f.write_str("-"),
        }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("end"),
            Self::Reset => f.write_str("reset"),
            Self::Error(words) => write!(f, "error {words:?}"),
            Self::StillOpen => f.write_str("nothing"),
        }
    }
}

/// An error's text with the addresses of this run left out.
pub(crate) fn normalized(text: &str) -> String {
    let mut parts = text.split(LOOPBACK);
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        normal.push_str("ADDRESS");
        normal.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    normal
}

/// Everything that a test dials is here, at some port.
const LOOPBACK: &str = "127.0.0.1:";
