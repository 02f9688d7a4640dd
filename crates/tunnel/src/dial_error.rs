//! Why a target could not be reached, and how that is said over a CONNECT answer.
//!
//! Each kind has one status code and one error token of RFC 9209 (`Proxy-Status`), so that the
//! reason survives every hop and a foreign client still reads a sensible answer. The details are
//! one line for people; nothing decides by them.

use http::{HeaderMap, StatusCode};

use crate::proxy_status::{self, PROXY_STATUS};

/// Why a tunnelled connection was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No agent is connected that serves the target.
    #[error("no agent is connected that serves the target: {details}")]
    NoAgent {
        /// One line for people.
        details: String,
    },
    /// The target answered that nothing listens there.
    #[error("the target refused the connection: {details}")]
    Refused {
        /// One line for people.
        details: String,
    },
    /// The target's name has no address, where the agent runs.
    #[error("the target's name could not be resolved: {details}")]
    Unresolvable {
        /// One line for people.
        details: String,
    },
    /// The target did not answer in time.
    #[error("the target did not answer in time: {details}")]
    TimedOut {
        /// One line for people.
        details: String,
    },
    /// No route to the target.
    #[error("the target is unreachable: {details}")]
    Unreachable {
        /// One line for people.
        details: String,
    },
    /// A server or agent on the way has no descriptor, stream or memory left for it.
    #[error("a server or agent on the way is overloaded: {details}")]
    Overloaded {
        /// One line for people.
        details: String,
    },
    /// The agent was lost, or ended, before it answered.
    #[error("the agent was lost before it answered: {details}")]
    AgentLost {
        /// One line for people.
        details: String,
    },
    /// The proxy-server does not let this client open tunnels.
    #[error("the proxy-server refused the client: {details}")]
    Forbidden {
        /// One line for people.
        details: String,
    },
    /// The request to dial was not understood.
    #[error("the request to dial was refused: {details}")]
    Invalid {
        /// One line for people.
        details: String,
    },
    /// The proxy-server itself could not be reached, or was lost before it answered.
    #[error("the proxy-server cannot be reached: {details}")]
    ServerUnreachable {
        /// One line for people.
        details: String,
    },
}

impl DialError {
    /// A short constant name of the kind, for metric labels and log fields.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoAgent { .. } => "no_agent",
            Self::Refused { .. } => "refused",
            Self::Unresolvable { .. } => "unresolvable",
            Self::TimedOut { .. } => "timed_out",
            Self::Unreachable { .. } => "unreachable",
            Self::Overloaded { .. } => "overloaded",
            Self::AgentLost { .. } => "agent_lost",
            Self::Forbidden { .. } => "forbidden",
            Self::Invalid { .. } => "invalid",
            Self::ServerUnreachable { .. } => "server_unreachable",
        }
    }

    /// Whose fault it is: `target`, `agent`, `server` or `client`.
    #[must_use]
    pub fn fault(&self) -> &'static str {
        match self {
            Self::Refused { .. }
            | Self::Unresolvable { .. }
            | Self::TimedOut { .. }
            | Self::Unreachable { .. } => "target",
            Self::NoAgent { .. } | Self::AgentLost { .. } | Self::Overloaded { .. } => "agent",
            Self::ServerUnreachable { .. } => "server",
            Self::Forbidden { .. } | Self::Invalid { .. } => "client",
        }
    }

    /// The line for people.
    #[must_use]
    pub fn details(&self) -> &str {
        match self {
            Self::NoAgent { details }
            | Self::Refused { details }
            | Self::Unresolvable { details }
            | Self::TimedOut { details }
            | Self::Unreachable { details }
            | Self::Overloaded { details }
            | Self::AgentLost { details }
            | Self::Forbidden { details }
            | Self::Invalid { details }
            | Self::ServerUnreachable { details } => details,
        }
    }

    /// The status of a CONNECT answer that carries this error.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused { .. }
            | Self::Unresolvable { .. }
            | Self::Unreachable { .. }
            | Self::AgentLost { .. }
            | Self::ServerUnreachable { .. } => StatusCode::BAD_GATEWAY,
            Self::NoAgent { .. } | Self::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// The error token of RFC 9209 section 2.3.
    fn token(&self) -> &'static str {
        match self {
            Self::NoAgent { .. } => "destination_unavailable",
            Self::Refused { .. } => "connection_refused",
            Self::Unresolvable { .. } => "dns_error",
            Self::TimedOut { .. } => "connection_timeout",
            Self::Unreachable { .. } => "destination_ip_unroutable",
            Self::Overloaded { .. } => "connection_limit_reached",
            Self::AgentLost { .. } | Self::ServerUnreachable { .. } => "connection_terminated",
            Self::Forbidden { .. } => "http_request_denied",
            Self::Invalid { .. } => "http_request_error",
        }
    }

    /// Writes the error into the headers of the answer that `proxy` gives.
    pub(crate) fn write_to(&self, proxy: &'static str, headers: &mut HeaderMap) {
        headers.insert(
            PROXY_STATUS,
            proxy_status::encode(proxy, self.token(), self.details()),
        );
    }

    /// Reads the error from an answer that was not 200. An answer without a `Proxy-Status` that
    /// is understood is judged by its status alone.
    pub(crate) fn read_from(status: StatusCode, headers: &HeaderMap) -> Self {
        let (token, details) = headers
            .get(PROXY_STATUS)
            .and_then(|value| proxy_status::decode(value.as_bytes()))
            .unwrap_or_default();
        let details = if details.is_empty() {
            format!("answered {status}")
        } else {
            details
        };
        match token.as_str() {
            "destination_unavailable" => Self::NoAgent { details },
            "connection_refused" => Self::Refused { details },
            "dns_error" => Self::Unresolvable { details },
            "connection_timeout" => Self::TimedOut { details },
            "destination_ip_unroutable" => Self::Unreachable { details },
            "connection_limit_reached" => Self::Overloaded { details },
            "connection_terminated" => Self::AgentLost { details },
            "http_request_denied" => Self::Forbidden { details },
            "http_request_error" => Self::Invalid { details },
            _ => Self::of_status(status, details),
        }
    }

    fn of_status(status: StatusCode, details: String) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Self::Overloaded { details },
            StatusCode::GATEWAY_TIMEOUT => Self::TimedOut { details },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Forbidden { details },
            status if status.is_client_error() => Self::Invalid { details },
            _ => Self::Unreachable { details },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_a_hop() {
        let details = || "10.0.0.1:443: said \"no\" \\ twice".to_owned();
        for error in [
            DialError::NoAgent { details: details() },
            DialError::Refused { details: details() },
            DialError::Unresolvable { details: details() },
            DialError::TimedOut { details: details() },
            DialError::Unreachable { details: details() },
            DialError::Overloaded { details: details() },
            DialError::AgentLost { details: details() },
            DialError::Forbidden { details: details() },
            DialError::Invalid { details: details() },
        ] {
            let mut headers = HeaderMap::new();
            error.write_to("proxy-agent", &mut headers);
            assert_eq!(DialError::read_from(error.status(), &headers), error);
        }
    }

    #[test]
    fn an_answer_without_proxy_status_is_judged_by_its_status() {
        let reason = |status| DialError::read_from(status, &HeaderMap::new()).reason();
        assert_eq!(reason(StatusCode::BAD_GATEWAY), "unreachable");
        assert_eq!(reason(StatusCode::SERVICE_UNAVAILABLE), "overloaded");
        assert_eq!(reason(StatusCode::GATEWAY_TIMEOUT), "timed_out");
        assert_eq!(reason(StatusCode::FORBIDDEN), "forbidden");
        assert_eq!(reason(StatusCode::METHOD_NOT_ALLOWED), "invalid");
        assert_eq!(reason(StatusCode::IM_A_TEAPOT), "invalid");
    }
}
