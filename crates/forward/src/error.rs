//! Why a request could not be handed on.

use std::sync::Arc;
use std::time::Duration;

use crate::body::BodyError;

/// Why a request got no answer. `E` is the caller's dial error.
#[derive(Debug, thiserror::Error)]
pub enum SendError<E> {
    /// No connection could be dialled.
    #[error("cannot connect")]
    Dial {
        /// What the dialler said; shared by all requests that waited for the same dial.
        #[source]
        source: Arc<E>,
    },
    /// Dialling took too long.
    #[error("no connection within {after:?}")]
    DialTimedOut {
        /// The bound on one dial.
        after: Duration,
    },
    /// The connection was dialled, but speaks no HTTP.
    #[error("the HTTP handshake failed: {cause}")]
    Handshake {
        /// What the HTTP library said.
        cause: String,
    },
    /// Every stream of every connection was taken for as long as a request may wait.
    #[error("no free stream within {waited:?}: {connections} connections are full")]
    NoSlot {
        /// How long the request waited.
        waited: Duration,
        /// Connections of its class.
        connections: usize,
    },
    /// As many upgraded connections as allowed are open.
    #[error("{limit} upgraded connections are open already")]
    TooManyUpgrades {
        /// The bound.
        limit: usize,
    },
    /// The peer refused the request unprocessed, on every try.
    #[error("the peer took no request in {attempts} tries: {cause}")]
    NotTaken {
        /// How often it was tried.
        attempts: usize,
        /// What the last try said.
        cause: String,
    },
    /// The connection broke, or the peer reset the stream, before the answer. The peer may have
    /// acted on the request.
    #[error("no answer: {cause}")]
    Broken {
        /// What the HTTP library said.
        cause: String,
    },
    /// The answer's head did not come in time. The peer may have acted on the request.
    #[error("no answer within {after:?}")]
    HeadTimedOut {
        /// The bound that the caller set.
        after: Duration,
    },
    /// The request's own body broke off, so it was not completed.
    #[error("the request body broke off")]
    RequestBody {
        /// Why.
        #[source]
        source: BodyError,
    },
    /// The request cannot be expressed on the connection.
    #[error("the request cannot be sent: {cause}")]
    Malformed {
        /// Which part, as the HTTP library says it.
        cause: String,
    },
}

impl<E> SendError<E> {
    /// A short fixed word for metrics and logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Dial { .. } => "dial",
            Self::DialTimedOut { .. } => "dial_timeout",
            Self::Handshake { .. } => "handshake",
            Self::NoSlot { .. } => "no_slot",
            Self::TooManyUpgrades { .. } => "too_many_upgrades",
            Self::NotTaken { .. } => "not_taken",
            Self::Broken { .. } => "broken",
            Self::HeadTimedOut { .. } => "head_timeout",
            Self::RequestBody { .. } => "request_body",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// A dial that failed, told to every request that waited for it.
#[derive(Debug)]
pub(crate) enum DialFailure<E> {
    Connect { source: Arc<E> },
    TimedOut { after: Duration },
    Handshake { cause: String },
}

// Not derived: `Arc<E>` clones without `E: Clone`.
impl<E> Clone for DialFailure<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Connect { source } => Self::Connect {
                source: Arc::clone(source),
            },
            Self::TimedOut { after } => Self::TimedOut { after: *after },
            Self::Handshake { cause } => Self::Handshake {
                cause: cause.clone(),
            },
        }
    }
}

impl<E> From<DialFailure<E>> for SendError<E> {
    fn from(failure: DialFailure<E>) -> Self {
        match failure {
            DialFailure::Connect { source } => Self::Dial { source },
            DialFailure::TimedOut { after } => Self::DialTimedOut { after },
            DialFailure::Handshake { cause } => Self::Handshake { cause },
        }
    }
}
