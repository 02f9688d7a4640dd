//! Where ours differs from Go's on purpose, and why. Anything else that differs fails the suite,
//! and so does a difference that has gone.

use crate::cell::{Frontend, MatrixCell};
use crate::event::Event;
use crate::outcome::OtherWay::{NotTried, Open};
use crate::outcome::Outcome;
use crate::outcome::Sight::{End, Error, Reset};

/// One of them.
pub(crate) struct Difference {
    frontend: Frontend,
    event: Event,
    pub(crate) outcome: fn() -> Outcome,
    pub(crate) reason: &'static str,
}

/// The difference of this cell at this event, if there is one.
pub(crate) fn listed(cell: MatrixCell, event: Event) -> Option<&'static Difference> {
    if cell.is_reference() {
        return None;
    }
    DIFFERENCES
        .iter()
        .find(|difference| difference.frontend == cell.frontend && difference.event == event)
}

const SAID: &str = "the same status; the reason is in Proxy-Status (RFC 9209), which names whose \
                    fault it is";
const HALF_CLOSE: &str = "lanes carry a half-close";
const ABORT: &str = "an abort is never read as an end";

const DIFFERENCES: &[Difference] = &[
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::Refused,
        outcome: || status(502, "connection_refused", "ADDRESS: connection refused"),
        reason: SAID,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::Unresolvable,
        outcome: || {
            let details = "nowhere..invalid: failed to lookup address information: Name or service \
                           not known";
            status(502, "dns_error", details)
        },
        reason: SAID,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::TimedOut,
        outcome: || status(504, "connection_timeout", "ADDRESS: no answer"),
        reason: SAID,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::NoAgent,
        outcome: || status(503, "destination_unavailable", "ADDRESS"),
        reason: "503 says that a later try may succeed; the reason is in Proxy-Status",
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::ClientEndsFirst,
        outcome: || Outcome::ended(End, End, Open),
        reason: HALF_CLOSE,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::TargetEndsFirst,
        outcome: || Outcome::ended(End, End, Open),
        reason: HALF_CLOSE,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::ClientKilled,
        outcome: || Outcome::ended(None, Reset, NotTried),
        reason: ABORT,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::TargetResets,
        outcome: || Outcome::ended(aborted(), None, NotTried),
        reason: ABORT,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::AgentKilled,
        outcome: || Outcome::ended(aborted(), End, NotTried),
        reason: ABORT,
    },
    Difference {
        frontend: Frontend::Http2Connect,
        event: Event::ServerKilled,
        outcome: || Outcome::ended(Error("unexpected EOF".to_owned()), Reset, NotTried),
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
