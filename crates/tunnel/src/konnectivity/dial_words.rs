//! Why a dial failed: between this tunnel's errors and konnectivity's words.

use cluster_proxy_konnectivity_wire::server_table::DialFailure;
use cluster_proxy_konnectivity_wire::{DialFailureKind, NO_AGENT, PeerText};

use crate::dial_error::DialError;

/// The text of a DIAL_RSP from which [`read`] and Go's server see the same kind of failure.
pub(super) fn wording(error: &DialError, address: &str) -> PeerText {
    let kind = match error {
        DialError::NoAgent { .. } => return PeerText::new(NO_AGENT),
        DialError::TimedOut { .. } => DialFailureKind::TimedOut,
        DialError::Overloaded { .. } => DialFailureKind::Exhausted,
        DialError::Refused { .. } => DialFailureKind::Refused,
        DialError::Unreachable { .. } => DialFailureKind::Unreachable,
        DialError::Unresolvable { .. } => DialFailureKind::Unresolvable,
        // Not worded as one of the others: the text is what Go's users see.
        DialError::AgentLost { .. }
        | DialError::Forbidden { .. }
        | DialError::Invalid { .. }
        | DialError::ServerUnreachable { .. } => return PeerText::new(&error.to_string()),
    };
    kind.wording(address)
}

/// What the failure of a dial on an agent's stream means.
pub(super) fn read(failure: DialFailure) -> DialError {
    let details = failure.to_string();
    match failure {
        DialFailure::Target(text) => match DialFailureKind::of(&text) {
            DialFailureKind::TimedOut => DialError::TimedOut { details },
            DialFailureKind::Exhausted => DialError::Overloaded { details },
            DialFailureKind::Refused => DialError::Refused { details },
            DialFailureKind::Unresolvable => DialError::Unresolvable { details },
            DialFailureKind::Unreachable | DialFailureKind::Other => {
                DialError::Unreachable { details }
            }
        },
        DialFailure::TimedOut => DialError::TimedOut { details },
        DialFailure::AgentLost
        | DialFailure::GivenUp
        | DialFailure::IdInUse
        | DialFailure::Cancelled => DialError::AgentLost { details },
        DialFailure::Overloaded => DialError::Overloaded { details },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_of_ours_says_a_server_of_ours_understands() {
        let details = || "10.0.0.1:80: why".to_owned();
        for error in [
            DialError::Refused { details: details() },
            DialError::Unresolvable { details: details() },
            DialError::TimedOut { details: details() },
            DialError::Unreachable { details: details() },
            DialError::Overloaded { details: details() },
        ] {
            let text = wording(&error, "10.0.0.1:80");
            let read = read(DialFailure::Target(text));
            assert_eq!(read.reason(), error.reason());
        }
    }
}
