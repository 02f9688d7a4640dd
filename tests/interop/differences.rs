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
    let is_grpc = matches!(cell.frontend, Frontend::Grpc | Frontend::GrpcUnix);
    is_grpc && cell.server == Server::Ours && cell.agent == Agent::Ours
}

/// CONNECT of HTTP/1.1 at our server, whoever the agent is.
fn connect(cell: MatrixCell) -> bool {
    let is_connect = matches!(
        cell.frontend,
        Frontend::HttpConnect | Frontend::HttpConnectUnix
    );
    is_connect && cell.server == Server::Ours
}

fn connect_lane(cell: MatrixCell) -> bool {
    connect(cell) && cell.agent == Agent::Ours
}

fn connect_go_agent(cell: MatrixCell) -> bool {
    connect(cell) && cell.agent == Agent::Go
}

/// A Unix socket tells nobody of an abort.
fn connect_tls(cell: MatrixCell) -> bool {
    connect(cell) && cell.frontend == Frontend::HttpConnect
}

fn connect_tls_lane(cell: MatrixCell) -> bool {
    connect_tls(cell) && cell.agent == Agent::Ours
}

fn curl(cell: MatrixCell) -> bool {
    cell.frontend == Frontend::Curl && cell.server == Server::Ours
}

fn curl_lane(cell: MatrixCell) -> bool {
    curl(cell) && cell.agent == Agent::Ours
}

/// Our agent behind whichever server, but for clients that see an abort too.
fn our_agent(cell: MatrixCell) -> bool {
    !http2(cell) && cell.agent == Agent::Ours
}

const SAID: &str = "the same status; the reason is in Proxy-Status (RFC 9209), which names whose \
                    fault it is";
const SAID_IN_BODY: &str =
    "the same status; before the dialler's words the body says what they mean";
const LATER: &str = "503 says that a later try may succeed";
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
        reason: LATER,
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
        cells: connect_lane,
        event: Event::Refused,
        outcome: || {
            let says = "the target refused the connection: ADDRESS: connection refused";
            Outcome::dial_failed(502, says)
        },
        took: None,
        reason: SAID_IN_BODY,
    },
    Difference {
        cells: connect_lane,
        event: Event::Unresolvable,
        outcome: || {
            let says = "the target's name could not be resolved: nowhere..invalid: failed to \
                        lookup address information: Name or service not known";
            Outcome::dial_failed(502, says)
        },
        took: None,
        reason: SAID_IN_BODY,
    },
    Difference {
        cells: connect_lane,
        event: Event::TimedOut,
        outcome: || {
            let says = "the target did not answer in time: ADDRESS: no answer";
            Outcome::dial_failed(504, says)
        },
        took: None,
        reason: SAID_IN_BODY,
    },
    Difference {
        cells: connect_go_agent,
        event: Event::Refused,
        outcome: || {
            let says = "the target refused the connection: dial tcp ADDRESS: connect: connection \
                        refused";
            Outcome::dial_failed(502, says)
        },
        took: None,
        reason: SAID_IN_BODY,
    },
    Difference {
        cells: connect_go_agent,
        event: Event::Unresolvable,
        outcome: || {
            let says = "the target's name could not be resolved: dial tcp: lookup \
                        nowhere..invalid: no such host";
            Outcome::dial_failed(502, says)
        },
        took: None,
        reason: SAID_IN_BODY,
    },
    Difference {
        cells: connect_go_agent,
        event: Event::TimedOut,
        outcome: || {
            let says = "the target did not answer in time: dial tcp ADDRESS: i/o timeout";
            Outcome::dial_failed(504, says)
        },
        took: None,
        reason: SAID_IN_BODY,
    },
    Difference {
        cells: connect,
        event: Event::NoAgent,
        outcome: || {
            let says = "no agent is connected that serves the target: ADDRESS";
            Outcome::dial_failed(503, says)
        },
        took: None,
        reason: LATER,
    },
    Difference {
        cells: connect_lane,
        event: Event::ClientEndsFirst,
        outcome: || Outcome::ended(End, End, Open),
        took: None,
        reason: HALF_CLOSE,
    },
    Difference {
        cells: connect_lane,
        event: Event::TargetEndsFirst,
        outcome: || Outcome::ended(End, End, Open),
        took: None,
        reason: HALF_CLOSE,
    },
    Difference {
        cells: connect_go_agent,
        event: Event::ClientEndsFirst,
        outcome: || Outcome::ended(End, StillOpen, Open),
        took: Some(WATCHED),
        reason: KEPT,
    },
    Difference {
        cells: connect_tls_lane,
        event: Event::ClientKilled,
        outcome: || Outcome::ended(None, Reset, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: connect_tls_lane,
        event: Event::TargetResets,
        outcome: || Outcome::ended(reset_by_peer(), None, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: connect_tls,
        event: Event::AgentKilled,
        outcome: || Outcome::ended(reset_by_peer(), End, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: curl,
        event: Event::NoAgent,
        outcome: || Outcome::dial_failed(503, "curl: (56) CONNECT tunnel failed, response 503"),
        took: None,
        reason: LATER,
    },
    Difference {
        cells: curl_lane,
        event: Event::ClientKilled,
        outcome: || Outcome::ended(None, Reset, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: curl_lane,
        event: Event::TargetResets,
        outcome: || Outcome::ended(curl_was_reset(), None, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: curl,
        event: Event::AgentKilled,
        outcome: || Outcome::ended(curl_was_reset(), End, NotTried),
        took: None,
        reason: ABORT,
    },
    Difference {
        cells: curl,
        event: Event::OtherMethod,
        outcome: || Outcome::dial_failed(405, "this proxy serves CONNECT and nothing else"),
        took: None,
        reason: "the same status, in other words",
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

/// A TCP reset, in the words of Go's TLS.
fn reset_by_peer() -> crate::outcome::Sight {
    Error("read tcp ADDRESS->ADDRESS: read: connection reset by peer".to_owned())
}

fn curl_was_reset() -> crate::outcome::Sight {
    Error("curl: (56) Recv failure: Connection reset by peer".to_owned())
}

/// What was seen, with what chance decides taken out: the kernel of a killed server ends its sockets
/// by a reset where unread bytes wait in them, and by an end that TLS knows for none elsewhere.
pub(crate) fn settled(cell: MatrixCell, event: Event, outcome: &Outcome) -> Outcome {
    let mut settled = outcome.clone();
    if http2(cell)
        && event == Event::ServerKilled
        && let Outcome::Ended {
            client: Some(Error(says)),
            ..
        } = &mut settled
        && says.ends_with("connection reset by peer")
    {
        "unexpected EOF".clone_into(says);
    }
    settled
}

/// RST_STREAM with CONNECT_ERROR (RFC 9113 section 8.5), in the words of Go's HTTP/2.
fn aborted() -> crate::outcome::Sight {
    Error("stream error: stream ID 1; CONNECT_ERROR; received from peer".to_owned())
}
