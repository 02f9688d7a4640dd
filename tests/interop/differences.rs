//! Where ours differs from Go's on purpose, and why. Anything else that differs fails the suite,
//! and so does a difference that has gone.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::cell::{Agent, Frontend, MatrixCell, Server};
use crate::event::Event;
use crate::outcome::OtherWay::{NotTried, Open};
use crate::outcome::Outcome;
use crate::outcome::Sight::{End, Error, Reset, StillOpen};

/// One of them.
pub(crate) struct Difference {
    cells: fn(MatrixCell) -> bool,
    event: Event,
    pub(crate) outcome: fn() -> Outcome,
    pub(crate) took: Option<RangeInclusive<Duration>>,
    pub(crate) reason: &'static str,
}

/// The difference of this cell at this event, if there is one.
pub(crate) fn listed(cell: MatrixCell, event: Event) -> Option<&'static Difference> {
    if cell.is_reference() {
        return None;
    }
    DIFFERENCES
        .iter()
        .find(|difference| (difference.cells)(cell) && difference.event == event)
}

/// Whether clients of this cell would wait for [`KEPT`] at every close. Such events are not tried
/// there, and are listed as not offered.
pub(crate) fn is_left_out(cell: MatrixCell, event: Event) -> bool {
    listed(cell, event).is_some_and(|difference| difference.reason == KEPT_LONG)
}

/// Our server in its own protocol, whoever the agent is.
fn http2(cell: MatrixCell) -> bool {
    cell.frontend == Frontend::Http2Connect
}

fn http2_lane(cell: MatrixCell) -> bool {
    http2(cell) && cell.agent == Agent::Ours
}

fn http2_go_agent(cell: MatrixCell) -> bool {
    http2(cell) && cell.agent == Agent::Go
}

fn grpc_lane(cell: MatrixCell) -> bool {
    cell.frontend == Frontend::Grpc && cell.server == Server::Ours && cell.agent == Agent::Ours
}

/// Our agent behind whichever server, but for clients that see an abort too.
fn our_agent(cell: MatrixCell) -> bool {
    !http2(cell) && cell.agent == Agent::Ours
}

const SAID: &str = "the same status; the reason is in Proxy-Status (RFC 9209), which names whose \
                    fault it is";
const HALF_CLOSE: &str = "lanes carry a half-close";
const ABORT: &str = "an abort is never read as an end";
const KEPT: &str = "the protocol cannot tell the target that the client has no more to send: the \
                    connection is kept for the answer, and cut once the target was silent for 10 s";
const KEPT_LONG: &str = "not tried: this client ends its half and waits, each time for the 10 s of \
                         \"client ends first\"";

/// As long as a target is watched.
const WATCHED: RangeInclusive<Duration> = Duration::from_secs(7)..=Duration::from_secs(10);

const DIFFERENCES: &[Difference] = &[
    Difference {
        cells: http2_lane,
        event: Event::Refused,
        outcome: || status(502, "connection_refused", "ADDRESS: connection refused"),
        took: None,
        reason: SAID,
    },
    Difference {
        cells: http2_lane,
        event: Event::Unresolvable,
        outcome: || {
            let details = "nowhere..invalid: failed to lookup address information: Name or service \
                           not known";
            status(502, "dns_error", details)
        },
        took: None,
        reason: SAID,
    },
    Difference {
        cells: http2_lane,
        event: Event::TimedOut,
        outcome: || status(504, "connection_timeout", "ADDRESS: no answer"),
        took: None,
        reason: SAID,
    },
    Difference {
        cells: http2,
        event: Event::NoAgent,
        outcome: || status(503, "destination_unavailable", "ADDRESS"),
        took: None,
        reason: "503 says that a later try may succeed; the reason is in Proxy-Status",
    },
    Difference {
        cells: http2_lane,
        event: Event::ClientEndsFirst,
        outcome: || Outcome::ended(End, End, Open),
        took: None,
        reason: HALF_CLOSE,
    },
    Difference {
        cells: http2_lane,
        event: Event::TargetEndsFirst,
        outcome: || Outcome::ended(End, End, Open),
        took: None,
        reason: HALF_CLOSE,
    },
    Difference {
        cells: http2_lane,
        event: Event::ClientKilled,
        outcome: || Outcome::ended(None, Reset, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: http2_lane,
        event: Event::TargetResets,
        outcome: || Outcome::ended(aborted(), None, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: http2,
        event: Event::AgentKilled,
        outcome: || Outcome::ended(aborted(), End, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: http2_lane,
        event: Event::ServerKilled,
        outcome: || Outcome::ended(Error("unexpected EOF".to_owned()), Reset, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: http2_go_agent,
        event: Event::Refused,
        outcome: || {
            let details = "dial tcp ADDRESS: connect: connection refused";
            status(502, "connection_refused", details)
        },
        took: None,
        reason: SAID,
    },
    Difference {
        cells: http2_go_agent,
        event: Event::Unresolvable,
        outcome: || {
            let details = "dial tcp: lookup nowhere..invalid: no such host";
            status(502, "dns_error", details)
        },
        took: None,
        reason: SAID,
    },
    Difference {
        cells: http2_go_agent,
        event: Event::TimedOut,
        outcome: || status(504, "connection_timeout", "dial tcp ADDRESS: i/o timeout"),
        took: None,
        reason: SAID,
    },
    Difference {
        cells: http2_go_agent,
        event: Event::ClientEndsFirst,
        outcome: || Outcome::ended(End, StillOpen, Open),
        took: Some(WATCHED),
        reason: KEPT,
    },
    Difference {
        cells: http2_go_agent,
        event: Event::ClientCloses,
        outcome: || Outcome::NotOffered,
        took: None,
        reason: KEPT_LONG,
    },
    Difference {
        cells: http2_go_agent,
        event: Event::ShortConnections,
        outcome: || Outcome::NotOffered,
        took: None,
        reason: KEPT_LONG,
    },
    Difference {
        cells: http2_go_agent,
        event: Event::ServerKilled,
        outcome: || Outcome::ended(Error("unexpected EOF".to_owned()), End, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: grpc_lane,
        event: Event::ClientKilled,
        outcome: || Outcome::ended(None, Reset, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: our_agent,
        event: Event::ServerKilled,
        outcome: || Outcome::ended(End, Reset, NotTried),
        took: None,
        reason: ABORT,
    },
];

fn status(code: u16, error: &str, details: &str) -> Outcome {
    let says = format!("proxy-server; error={error}; details=\"{details}\"");
    Outcome::dial_failed(code, &says)
}

/// RST_STREAM with CONNECT_ERROR (RFC 9113 section 8.5), in the words of Go's HTTP/2.
fn aborted() -> crate::outcome::Sight {
    Error("stream error: stream ID 1; CONNECT_ERROR; received from peer".to_owned())
}
