//! Why a dial failed, as DIAL_RSP says it: in words.
//!
//! The protocol has no codes. Go's server (pkg/server, `mapDialErrorToHTTPStatus`) looks for
//! phrases of Go's `net` package in the text and answers CONNECT by them; kube-apiserver shows the
//! text. Ours writes those phrases and reads them the same way.

use crate::PeerText;

/// What kind of failure a DIAL_RSP tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialFailureKind {
    /// The target did not answer in time (504).
    TimedOut,
    /// The agent has no descriptor left (503).
    Exhausted,
    /// The target answered that nothing listens there (502).
    Refused,
    /// No route to the target (502).
    Unreachable,
    /// The target's name has no address (502).
    Unresolvable,
    /// Any other (502).
    Other,
}

impl DialFailureKind {
    /// The kind that Go's server would see in `text`: the first in its order.
    #[must_use]
    pub fn of(text: &PeerText) -> Self {
        let text = text.as_str().to_lowercase();
        PHRASES
            .iter()
            .find(|(phrase, _)| text.contains(phrase))
            .map_or(Self::Other, |(_, kind)| *kind)
    }

    /// A text for DIAL_RSP that is read as this kind again, in the form of Go's `net.OpError`.
    #[must_use]
    pub fn wording(self, address: &str) -> PeerText {
        if self == Self::Unresolvable {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            return PeerText::new(&format!("dial tcp: lookup {host}: no such host"));
        }
        let what = match self {
            Self::TimedOut => "i/o timeout",
            Self::Exhausted => "socket: too many open files",
            Self::Refused => "connect: connection refused",
            Self::Unreachable => "connect: no route to host",
            Self::Unresolvable | Self::Other => "the connection failed",
        };
        PeerText::new(&format!("dial tcp {address}: {what}"))
    }
}

/// What Go's server answers when no agent serves a target.
pub const NO_AGENT: &str = "No agent available";

/// In lower case, in the order in which Go's server looks for them.
const PHRASES: &[(&str, DialFailureKind)] = &[
    ("timeout", DialFailureKind::TimedOut),
    ("deadline exceeded", DialFailureKind::TimedOut),
    ("too many open files", DialFailureKind::Exhausted),
    ("connection refused", DialFailureKind::Refused),
    ("network is unreachable", DialFailureKind::Unreachable),
    ("no route to host", DialFailureKind::Unreachable),
    ("host is unreachable", DialFailureKind::Unreachable),
    ("network is down", DialFailureKind::Unreachable),
    ("no such host", DialFailureKind::Unresolvable),
    ("name resolution", DialFailureKind::Unresolvable),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_go_agents_are_read_as_go_servers_do() {
        use DialFailureKind as Kind;
        for (text, kind) in [
            ("dial tcp 10.0.0.1:80: i/o timeout", Kind::TimedOut),
            (
                "dial tcp: lookup a on 10.96.0.10:53: i/o timeout",
                Kind::TimedOut,
            ),
            ("context deadline exceeded", Kind::TimedOut),
            (
                "dial tcp 10.0.0.1:80: connect: Connection Refused",
                Kind::Refused,
            ),
            (
                "dial tcp: lookup nowhere on 10.96.0.10:53: no such host",
                Kind::Unresolvable,
            ),
            (
                "dial tcp 10.0.0.1:80: connect: no route to host",
                Kind::Unreachable,
            ),
            (
                "dial tcp 10.0.0.1:80: socket: too many open files",
                Kind::Exhausted,
            ),
            (
                "dial tcp 10.0.0.1:80: connect: connection reset by peer",
                Kind::Other,
            ),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(&PeerText::new(text)), kind, "{text}");
        }
    }

    #[test]
    fn every_kind_survives_being_worded() {
        use DialFailureKind as Kind;
        for kind in [
            Kind::TimedOut,
            Kind::Exhausted,
            Kind::Refused,
            Kind::Unreachable,
            Kind::Unresolvable,
            Kind::Other,
        ] {
            assert_eq!(Kind::of(&kind.wording("a.example:1")), kind);
        }
    }
}
