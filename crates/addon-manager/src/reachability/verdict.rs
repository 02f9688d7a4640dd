//! What is told of a cluster: the condition, and whether it is news.

use std::time::Duration;

use serde_json::Value;

use super::advice::{advice, far_end};
use super::request::{Asked, RequestError};
use crate::addon::State;

/// What is to be told of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Of a cluster that answered.
    pub(super) round_trip: Option<Duration>,
}

impl Verdict {
    pub(super) fn answered(asked: Asked, round_trip: Duration) -> Self {
        let far_end = far_end(asked);
        let milliseconds = milliseconds(round_trip);
        Self {
            state: State::True,
            reason: "RequestAnswered",
            message: format!(
                "a request of the manager went through the tunnel to the {far_end} \
                 {TIME_PREFIX}{milliseconds} ms"
            ),
            round_trip: Some(round_trip),
        }
    }

    /// `namespace` is the agent's.
    pub(super) fn failed(asked: Asked, namespace: &str, error: &RequestError) -> Self {
        let (reason, advice) = advice(asked, error);
        let advice = advice.replace("NAMESPACE", namespace);
        Self::without_answer(State::False, reason, format!("{advice} ({error})"))
    }

    pub(super) fn not_deployed() -> Self {
        let message = "the agent is not deployed to the cluster yet: the condition \
                       ManifestApplied tells why";
        Self::without_answer(State::Unknown, "AgentNotDeployed", message.to_owned())
    }

    pub(super) fn nobody_to_ask() -> Self {
        let message = "neither enableServiceProxy nor enableKubeApiProxy is on for this cluster: \
                       nothing answers through the tunnel that the manager could ask";
        Self::without_answer(State::Unknown, "NothingToAsk", message.to_owned())
    }

    fn without_answer(state: State, reason: &'static str, message: String) -> Self {
        Self {
            state,
            reason,
            message,
            round_trip: None,
        }
    }
}

/// What the addon's status says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) state: State,
    reason: String,
    round_trip: Option<Duration>,
}

impl Told {
    /// Read from a condition, whoever wrote it and when.
    pub(super) fn of(condition: &Value) -> Self {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let number = text("message").rsplit_once(TIME_PREFIX).map(|(_, it)| it);
        let number = number.and_then(|it| it.strip_suffix(" ms")?.parse().ok());
        Self {
            state: State::of(text("status")),
            reason: text("reason").to_owned(),
            round_trip: number.map(Duration::from_millis),
        }
    }

    pub(super) fn by(verdict: &Verdict) -> Self {
        Self {
            state: verdict.state,
            reason: verdict.reason.to_owned(),
            round_trip: verdict.round_trip,
        }
    }

    /// Whether `verdict` says something else: another state, another reason, or a round-trip time
    /// that is another by a factor of two and by more than a local network's noise.
    pub(super) fn is_news(told: Option<&Self>, verdict: &Verdict) -> bool {
        let Some(told) = told else { return true };
        if told.state != verdict.state || told.reason != verdict.reason {
            return true;
        }
        let (Some(before), Some(now)) = (told.round_trip, verdict.round_trip) else {
            return told.round_trip != verdict.round_trip;
        };
        let (low, high) = (before.min(now), before.max(now));
        high - low >= NOISE && high >= low * FACTOR
    }
}

/// A name out of a fixed set, for metrics.
pub(super) fn label(error: &RequestError) -> &'static str {
    match error {
        RequestError::Tunnel(error) => error.reason(),
        RequestError::Certificate { .. } => "certificate",
        RequestError::Handshake { .. } => "handshake",
        RequestError::Http(_) => "no_answer",
        RequestError::TimedOut { .. } => "timed_out",
        RequestError::Name(_) => "invalid",
    }
}

/// At least 1, so that no time reads as none.
fn milliseconds(time: Duration) -> u128 {
    time.as_millis().max(1)
}

/// What stands before the time in a message, from which it is read back.
const TIME_PREFIX: &str = "and back in ";

/// By which a round-trip time has to change to be told.
const FACTOR: u32 = 2;

/// Smaller changes than this are nobody's business.
const NOISE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use cluster_proxy_tunnel::DialError;

    use super::*;

    fn answered(milliseconds: u64) -> Verdict {
        let round_trip = Duration::from_millis(milliseconds);
        Verdict::answered(Asked::ServiceProxy, round_trip)
    }

    fn told(verdict: &Verdict) -> Told {
        let told = Told::of(&serde_json::json!({
            "status": verdict.state.as_str(), "reason": verdict.reason,
            "message": verdict.message,
        }));
        assert_eq!(told, Told::by(verdict));
        told
    }

    #[test]
    fn only_what_matters_is_news() {
        let before = told(&answered(30));
        for (now, is_news) in [
            (30, false),
            (45, false),
            (59, false),
            (60, true),
            (10, true),
        ] {
            assert_eq!(
                Told::is_news(Some(&before), &answered(now)),
                is_news,
                "{now}"
            );
        }
        let near = told(&answered(1));
        assert!(
            !Told::is_news(Some(&near), &answered(8)),
            "a local network's noise"
        );
        assert!(Told::is_news(None, &answered(30)));
        let lost = DialError::AgentLost {
            details: "1".to_owned(),
        };
        let lost = Verdict::failed(Asked::ServiceProxy, "ns", &lost.into());
        assert!(Told::is_news(Some(&before), &lost));
        let again = DialError::AgentLost {
            details: "2".to_owned(),
        };
        let again = Verdict::failed(Asked::ServiceProxy, "ns", &again.into());
        assert!(!Told::is_news(Some(&told(&lost)), &again));
    }

    #[test]
    fn messages_are_one_line_that_says_where_to_look() {
        let details = || "d".to_owned();
        let errors: [RequestError; 12] = [
            DialError::NoAgent { details: details() }.into(),
            DialError::Refused { details: details() }.into(),
            DialError::Unresolvable { details: details() }.into(),
            DialError::TimedOut { details: details() }.into(),
            DialError::Unreachable { details: details() }.into(),
            DialError::Overloaded { details: details() }.into(),
            DialError::AgentLost { details: details() }.into(),
            DialError::Forbidden { details: details() }.into(),
            DialError::Invalid { details: details() }.into(),
            DialError::ServerUnreachable { details: details() }.into(),
            RequestError::Handshake {
                source: std::io::ErrorKind::UnexpectedEof.into(),
            },
            RequestError::TimedOut { step: "the answer" },
        ];
        for error in errors {
            for asked in [Asked::ServiceProxy, Asked::KubeApiserver] {
                let verdict = Verdict::failed(asked, "agents", &error);
                assert_eq!(verdict.state, State::False);
                let message = &verdict.message;
                assert!(
                    !message.contains('\n') && !message.contains("NAMESPACE"),
                    "{message}"
                );
                let whose = ["managed cluster", "hub", "agent"];
                assert!(whose.iter().any(|it| message.contains(it)), "{message}");
                let first = verdict.reason.chars().next().unwrap();
                assert!(first.is_ascii_uppercase(), "{}", verdict.reason);
            }
        }
    }
}
