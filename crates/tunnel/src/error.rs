//! Why a connection that carries tunnels could not be made, or ended.

use std::time::Duration;

/// The end of a lane or of a frontend connection, or why it never began.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The HTTP/2 connection failed: broken off, or the peer violated the protocol.
    #[error("the HTTP/2 connection failed")]
    Http2 {
        /// What h2 says.
        #[source]
        source: h2::Error,
    },
    /// The peer ended the connection in order.
    #[error("the peer ended the connection")]
    Closed,
    /// The peer did not answer a PING and sent nothing else.
    #[error("the peer sent nothing for {} s after it was asked for a sign of life", timeout.as_secs())]
    Silent {
        /// How long it was given.
        timeout: Duration,
    },
    /// A step of the handshake took too long.
    #[error("{step} took longer than {} s", limit.as_secs())]
    TimedOut {
        /// What was waited for.
        step: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The server does not take this agent.
    #[error("the server refuses this agent: {reason}")]
    Refused {
        /// Why, one bounded line of the server's.
        reason: String,
    },
    /// The agent has a lane to this server already, or looks for another one.
    #[error("the agent wants no lane to the server {server_id:?}")]
    Unwanted {
        /// The server, as it introduced itself.
        server_id: String,
    },
    /// The peer speaks HTTP/2 and not what was agreed on.
    #[error("the peer does not speak {protocol}: {details}")]
    Protocol {
        /// The protocol expected.
        protocol: &'static str,
        /// What was seen instead, one bounded line.
        details: String,
    },
}

impl TunnelError {
    /// A short constant name of the kind, for metric labels and log fields.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Http2 { .. } => "http2",
            Self::Closed => "closed",
            Self::Silent { .. } => "silent",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused { .. } => "refused",
            Self::Unwanted { .. } => "unwanted",
            Self::Protocol { .. } => "protocol",
        }
    }

    /// The error and what caused it, in one line for a log.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self {
            Self::Http2 { source } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// How an HTTP/2 connection ended, in the terms of this crate.
impl From<Result<(), h2::Error>> for TunnelError {
    fn from(end: Result<(), h2::Error>) -> Self {
        match end {
            Ok(()) => Self::Closed,
            Err(source) => Self::Http2 { source },
        }
    }
}
