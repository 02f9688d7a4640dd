//! What Go's server and agent (sigs.k8s.io/apiserver-network-proxy v0.36.0) do, observed. The
//! reference for every other cell.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::cell::Frontend;
use crate::event::Event;
use crate::load::{BULK, LAST_BYTES, LOAD_LIMIT, short_ones};
use crate::outcome::OtherWay::{Cut, NotTried};
use crate::outcome::Outcome;
use crate::outcome::Sight::End;

/// What is to be seen, and how soon.
pub(crate) struct Expected {
    pub(crate) outcome: Outcome,
    /// What Go's agent does too, now and then.
    pub(crate) go_agent_also: Option<Outcome>,
    pub(crate) took: RangeInclusive<Duration>,
}

/// What a client of this frontend sees of the event.
///
/// Go's tunnel has no half-close: the first end of either side ends all, and what the other side
/// still sends is lost. It has no abort either: a reset of the target, a killed client, agent and
/// server all look like an end in order. gRPC says why a dial failed in words, CONNECT also by its
/// status; curl shows the status alone.
///
/// Go's agent closes the target's socket when it reads CLOSE_REQ, although bytes that came before
/// still wait in its queue: what a client sent last may be lost, and the target takes what came
/// for all. The other direction keeps its order.
pub(crate) fn of_go(frontend: Frontend, event: Event) -> Expected {
    let is_curl = frontend == Frontend::Curl;
    let failed = |status: u16, says: &str| {
        let curl = format!("curl: (56) CONNECT tunnel failed, response {status}");
        match frontend {
            Frontend::Grpc | Frontend::GrpcUnix => Outcome::dial_failed(None, says),
            Frontend::Curl => Outcome::dial_failed(status, &curl),
            _ => Outcome::dial_failed(status, says),
        }
    };
    let outcome = match event {
        Event::Refused => failed(502, "dial tcp ADDRESS: connect: connection refused"),
        Event::Unresolvable => failed(502, "dial tcp: lookup nowhere..invalid: no such host"),
        Event::TimedOut => failed(504, "dial tcp ADDRESS: i/o timeout"),
        Event::NoAgent => match frontend {
            Frontend::Grpc | Frontend::GrpcUnix => failed(500, NO_AGENT),
            _ => failed(500, &format!("currently no tunnels available: {NO_AGENT}")),
        },
        Event::ClientEndsFirst if is_curl => Outcome::NotOffered,
        Event::TargetEndsFirst if is_curl => Outcome::ended(End, End, NotTried),
        Event::ClientEndsFirst | Event::TargetEndsFirst => Outcome::ended(End, End, Cut),
        Event::ClientCloses | Event::AgentKilled => Outcome::ended(End, End, NotTried),
        Event::ClientKilled => Outcome::ended(None, End, NotTried),
        Event::TargetResets => Outcome::ended(End, None, NotTried),
        Event::AgentReplaced => Outcome::Moved(1),
        Event::ServerKilled => Outcome::ended(End, End, NotTried),
        Event::ShortConnections => Outcome::Moved(short_ones()),
        Event::Bulk => Outcome::Moved(BULK as u64),
        Event::LastBytesThere | Event::LastBytesBack if is_curl => Outcome::NotOffered,
        Event::LastBytesThere | Event::LastBytesBack => Outcome::Moved(LAST_BYTES as u64),
        Event::OtherMethod if is_curl => {
            Outcome::dial_failed(405, "this proxy only supports CONNECT passthrough")
        }
        Event::OtherMethod => Outcome::NotOffered,
    };
    let took = match event {
        Event::TimedOut => DIAL_TIMEOUT,
        Event::ShortConnections | Event::Bulk => Duration::ZERO..=LOAD_LIMIT,
        _ => AT_ONCE,
    };
    let cuts_short = event == Event::LastBytesThere && !is_curl;
    Expected {
        outcome,
        go_agent_also: cuts_short.then_some(Outcome::CutShort),
        took,
    }
}

const NO_AGENT: &str = "No agent available";

/// Milliseconds in truth; the rest is for machines with other work.
const AT_ONCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(4);

/// An agent gives up after 5 s.
const DIAL_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(4900)..=Duration::from_millis(7000);
