//! What happens to a tunnelled connection, and what a client of the Go package or of CONNECT sees
//! of it. `curl` has a file of its own.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster_proxy_testkit::free_port;
use cluster_proxy_testkit::konnectivity::{ClientEvent, DialingClient};

use crate::cell::Tunnel;
use crate::load;
use crate::outcome::{Observed, OtherWay, Outcome, Sight, normalized};
use crate::target::{PATIENCE, Silent, Target, TargetConnection};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing listens at the target's address.
    Refused,
    /// The target's name has no address.
    Unresolvable,
    /// The target answers no SYN.
    TimedOut,
    /// The client has no more to send, and waits for the answer.
    ClientEndsFirst,
    /// The target has no more to send, and reads on.
    TargetEndsFirst,
    /// The client closes.
    ClientCloses,
    /// The client is killed.
    ClientKilled,
    /// The target sends RST.
    TargetResets,
    /// Many connections, four at a time: dial, 19 bytes there and back, close.
    ShortConnections,
    /// Both ways at the same time.
    Bulk,
    /// The client sends 1 MiB and closes at once.
    LastBytesThere,
    /// The target sends 1 MiB and closes at once.
    LastBytesBack,
    /// A request that is not CONNECT.
    OtherMethod,
    /// The agent is killed under an open connection. None is connected after that.
    AgentKilled,
    /// A dial while no agent is connected.
    NoAgent,
    /// Another agent is started, and when it says that it is ready, a connection is dialled.
    AgentReplaced,
    /// The server is killed under an open connection.
    ServerKilled,
}

impl Event {
    /// In the order in which they happen: the last ones leave nothing behind.
    pub(crate) const ALL: &[Self] = &[
        Self::Refused,
        Self::Unresolvable,
        Self::TimedOut,
        Self::ClientEndsFirst,
        Self::TargetEndsFirst,
        Self::ClientCloses,
        Self::ClientKilled,
        Self::TargetResets,
        Self::ShortConnections,
        Self::Bulk,
        Self::LastBytesThere,
        Self::LastBytesBack,
        Self::OtherMethod,
        Self::AgentKilled,
        Self::NoAgent,
        Self::AgentReplaced,
        Self::ServerKilled,
    ];
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refused => "refused",
            Self::Unresolvable => "unresolvable",
            Self::TimedOut => "timed out",
            Self::ClientEndsFirst => "client ends first",
            Self::TargetEndsFirst => "target ends first",
            Self::ClientCloses => "client closes",
            Self::ClientKilled => "client killed",
            Self::TargetResets => "target resets",
            Self::ShortConnections => "short connections",
            Self::Bulk => "16 MiB both ways",
            Self::LastBytesThere => "1 MiB, client closes",
            Self::LastBytesBack => "1 MiB, target closes",
            Self::OtherMethod => "GET",
            Self::AgentKilled => "agent killed",
            Self::NoAgent => "no agent",
            Self::AgentReplaced => "agent replaced",
            Self::ServerKilled => "server killed",
        })
    }
}

/// Go's resolver and the system's both know without asking anybody that this is no name: an empty
/// label (RFC 1035 section 2.3.1). The machine's resolver, if any, is not part of the test.
pub(crate) const NO_SUCH_NAME: &str = "nowhere..invalid:80";

/// Longer than an agent's dial.
const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// Lets it happen.
pub(crate) fn observe(tunnel: &Tunnel<'_>, event: Event) -> Result<Observed> {
    match event {
        Event::Refused => failed_dial(tunnel, &format!("127.0.0.1:{}", free_port()?)),
        Event::Unresolvable => failed_dial(tunnel, NO_SUCH_NAME),
        Event::TimedOut => failed_dial(tunnel, &Silent::new()?.address.to_string()),
        Event::NoAgent => failed_dial(tunnel, &Target::new()?.address.to_string()),
        Event::ClientEndsFirst => client_ends_first(tunnel),
        Event::TargetEndsFirst => target_ends_first(tunnel),
        Event::ClientCloses => client_closes(tunnel),
        Event::ClientKilled => client_killed(tunnel),
        Event::TargetResets => target_resets(tunnel),
        Event::ShortConnections => load::short_connections(tunnel),
        Event::Bulk => load::bulk(tunnel),
        Event::LastBytesThere => load::last_bytes_there(tunnel),
        Event::LastBytesBack => load::last_bytes_back(tunnel),
        Event::AgentKilled => agent_killed(tunnel),
        Event::AgentReplaced => agent_replaced(tunnel),
        Event::ServerKilled => server_killed(tunnel),
        Event::OtherMethod => Ok(Observed::not_offered()),
    }
}

fn dial(tunnel: &Tunnel<'_>, at_end: &str, target: &str) -> Result<DialingClient> {
    let mut command = tunnel.client("dial");
    command.arg(format!("--at-end={at_end}")).arg(target);
    DialingClient::start(command)
}

fn failed_dial(tunnel: &Tunnel<'_>, target: &str) -> Result<Observed> {
    let mut client = dial(tunnel, "half-close", target)?;
    let event = client.event_of(&["dial-failed", "dialed"], DIAL_LIMIT)?;
    ensure!(event.name() == "dial-failed", "{target} was dialled");
    Ok(Observed {
        outcome: Outcome::DialFailed {
            status: event.status(),
            says: normalized(event.error()),
        },
        took: event.at(),
    })
}

/// A connection over which the target got a question.
pub(crate) fn asked(
    tunnel: &Tunnel<'_>,
    at_end: &str,
) -> Result<(DialingClient, TargetConnection)> {
    let target = Target::new()?;
    let mut client = dial(tunnel, at_end, &target.address.to_string())?;
    let event = client.event_of(&["dialed", "dial-failed"], DIAL_LIMIT)?;
    ensure!(
        event.name() == "dialed",
        "the dial failed: {}",
        event.error()
    );
    let mut connection = target.accept()?;
    client.write(QUESTION)?;
    connection.expect(QUESTION)?;
    Ok((client, connection))
}

const QUESTION: &[u8] = b"question";
const ANSWER: &[u8] = b"answer";

fn client_ends_first(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "half-close")?;
    let began = Instant::now();
    client.end_input();
    let (_, target) = connection.watch();
    let took = began.elapsed();
    // It may be closed already, and that is one of the answers.
    let answered = connection.write(ANSWER);
    drop(connection);
    let got = client.read_to_end(PATIENCE)?;
    let other_way = other_way(answered.is_ok() && got == ANSWER);
    Ok(Observed {
        outcome: Outcome::ended(client_sight(&mut client)?, target, other_way),
        took,
    })
}

fn target_ends_first(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "half-close")?;
    let began = Instant::now();
    connection.write(ANSWER)?;
    connection.end_output()?;
    let got = client.read_to_end(PATIENCE)?;
    let took = began.elapsed();
    ensure!(got == ANSWER, "the client got {got:?}");
    let client_sees = client_sight(&mut client)?;
    // As above.
    let _ = client.write(QUESTION);
    client.end_input();
    let (late, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(client_sees, target, other_way(late == QUESTION)),
        took,
    })
}

fn client_closes(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "close")?;
    let began = Instant::now();
    client.end_input();
    let (_, target) = connection.watch();
    let took = began.elapsed();
    drop(connection);
    let closed = client.event("closed", PATIENCE)?;
    Ok(Observed {
        outcome: Outcome::ended(sight(&closed), target, OtherWay::NotTried),
        took,
    })
}

fn client_killed(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "half-close")?;
    let began = Instant::now();
    client.kill()?;
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(None, target, OtherWay::NotTried),
        took: began.elapsed(),
    })
}

fn target_resets(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, connection) = asked(tunnel, "half-close")?;
    let began = Instant::now();
    connection.reset()?;
    let sees = client_sight(&mut client)?;
    Ok(Observed {
        outcome: Outcome::ended(sees, None, OtherWay::NotTried),
        took: began.elapsed(),
    })
}

fn agent_killed(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "half-close")?;
    let began = Instant::now();
    tunnel.kill_agent()?;
    let sees = client_sight(&mut client)?;
    let took = began.elapsed();
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(sees, target, OtherWay::NotTried),
        took,
    })
}

fn agent_replaced(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let began = Instant::now();
    tunnel.replace_agent()?;
    asked(tunnel, "close")?;
    Ok(Observed {
        outcome: Outcome::Moved(1),
        took: began.elapsed(),
    })
}

fn server_killed(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "half-close")?;
    let began = Instant::now();
    tunnel.kill_server()?;
    let sees = client_sight(&mut client)?;
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(sees, target, OtherWay::NotTried),
        took: began.elapsed(),
    })
}

fn other_way(open: bool) -> OtherWay {
    if open { OtherWay::Open } else { OtherWay::Cut }
}

/// How the client's reading ended.
pub(crate) fn client_sight(client: &mut DialingClient) -> Result<Sight> {
    match client.event("output-ended", PATIENCE) {
        Ok(event) => Ok(sight(&event)),
        // Without an event it may have died, which is no sight.
        Err(error) if error.to_string().contains("within") => Ok(Sight::StillOpen),
        Err(error) => Err(error),
    }
}

fn sight(event: &ClientEvent) -> Sight {
    match event.error() {
        "" => Sight::End,
        words => Sight::Error(normalized(words)),
    }
}
