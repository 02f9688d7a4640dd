//! How the two ends of a lane introduce themselves: headers of the control stream's request (the
//! server's) and of its answer (the agent's), under konnectivity's names where it has them.
//!
//! Every value comes from another trust domain and is bounded here; what an agent says of itself
//! proves nothing.

use std::time::Duration;

use cluster_proxy_identity::{AnnouncedIdentifiers, Token};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{LANES, PROTOCOL};
use crate::error::TunnelError;

/// What a proxy-server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHello {
    /// Distinct for each server: an agent is connected to each. At most 256 printable characters.
    pub server_id: String,
    /// How many servers an agent should be connected to, at least 1.
    pub server_count: u32,
    /// What this server can do beyond the protocol's first version.
    pub capabilities: Vec<String>,
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentHello {
    /// Distinct for each agent process. At most 256 printable characters.
    pub agent_id: String,
    /// Under which names and addresses it wants to be found.
    pub identifiers: AnnouncedIdentifiers,
    /// The program's version, for logs.
    pub version: String,
    /// What this agent can do beyond the protocol's first version.
    pub capabilities: Vec<String>,
}

impl ServerHello {
    /// Whether the server reviews agents' tokens: the agent shows its own and waits for a word.
    pub(super) fn reviews_tokens(&self) -> bool {
        has(&self.capabilities, AGENT_TOKENS)
    }

    /// Whether this server takes several lanes of one agent.
    #[must_use]
    pub fn takes_lanes(&self) -> bool {
        has(&self.capabilities, LANES)
    }

    pub(super) fn write_to(&self, headers: &mut HeaderMap) -> Result<(), TunnelError> {
        headers.insert(SERVER_ID, value(&SERVER_ID, &self.server_id)?);
        headers.insert(SERVER_COUNT, HeaderValue::from(self.server_count));
        headers.insert(
            CAPABILITIES,
            value(&CAPABILITIES, &self.capabilities.join(","))?,
        );
        Ok(())
    }

    /// Writes instead of an introduction that the agent is not taken, and why.
    pub(super) fn write_refusal(reason: &str, headers: &mut HeaderMap) {
        let value =
            HeaderValue::from_str(&printable(reason)).expect("only printable ASCII was kept");
        headers.insert(REFUSAL, value);
    }

    pub(crate) fn read_from(headers: &HeaderMap) -> Result<Self, TunnelError> {
        let refusal = text(headers, &REFUSAL)?;
        if !refusal.is_empty() {
            return Err(TunnelError::Refused {
                reason: refusal.to_owned(),
            });
        }
        let server_count = text(headers, &SERVER_COUNT)?;
        Ok(Self {
            server_id: required(headers, &SERVER_ID)?.to_owned(),
            server_count: server_count
                .parse()
                .ok()
                .filter(|count| (1..=MAX_SERVER_COUNT).contains(count))
                .ok_or_else(|| violation(&SERVER_COUNT))?,
            capabilities: capabilities(headers)?,
        })
    }
}

impl AgentHello {
    /// Whether this agent can have several lanes to one server.
    #[must_use]
    pub fn can_have_lanes(&self) -> bool {
        has(&self.capabilities, LANES)
    }

    /// The capability of an agent on a metered link: its idle lanes are to be asked for a sign of
    /// life only once in `interval`, in whole seconds.
    #[must_use]
    pub fn quiet(interval: Duration) -> String {
        format!("{PING_INTERVAL}{}", interval.as_secs())
    }

    /// How long this agent wants its idle lanes to be left alone, at most [`MAX_PING_INTERVAL`].
    #[must_use]
    pub fn ping_interval(&self) -> Option<Duration> {
        let seconds = self
            .capabilities
            .iter()
            .find_map(|capability| capability.strip_prefix(PING_INTERVAL))?;
        let interval = Duration::from_secs(seconds.parse().ok()?);
        Some(interval.min(MAX_PING_INTERVAL))
    }

    pub(super) fn write_to(&self, headers: &mut HeaderMap) -> Result<(), TunnelError> {
        headers.insert(AGENT_ID, value(&AGENT_ID, &self.agent_id)?);
        headers.insert(
            IDENTIFIERS,
            value(&IDENTIFIERS, &self.identifiers.to_string())?,
        );
        headers.insert(VERSION, value(&VERSION, &self.version)?);
        headers.insert(
            CAPABILITIES,
            value(&CAPABILITIES, &self.capabilities.join(","))?,
        );
        Ok(())
    }

    pub(crate) fn read_from(headers: &HeaderMap) -> Result<Self, TunnelError> {
        let identifiers = match headers.get(IDENTIFIERS) {
            None => AnnouncedIdentifiers::default(),
            Some(value) => value
                .to_str()
                .ok()
                .and_then(|query| query.parse().ok())
                .ok_or_else(|| violation(&IDENTIFIERS))?,
        };
        Ok(Self {
            agent_id: required(headers, &AGENT_ID)?.to_owned(),
            identifiers,
            version: text(headers, &VERSION)?.to_owned(),
            capabilities: capabilities(headers)?,
        })
    }
}

/// Shows the token of the agent's service account, for a server that [reviews
/// them](ServerHello::reviews_tokens).
pub(super) fn write_token(token: &Token, headers: &mut HeaderMap) -> Result<(), TunnelError> {
    let mut bearer = value(&AUTHORIZATION, &format!("Bearer {}", token.expose()))?;
    // Neither in anybody's log nor in HPACK's tables.
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    Ok(())
}

/// A line of the other end's for people: bounded, printable ASCII.
pub(super) fn printable(text: &str) -> String {
    let shown = |character| match character {
        ' '..='~' => character,
        _ => '?',
    };
    text.chars().take(MAX_TEXT).map(shown).collect()
}

/// The capability of a server that reviews the tokens of agents' service accounts. An agent then
/// serves nothing before the server's word.
pub const AGENT_TOKENS: &str = "agent-tokens";

const SERVER_ID: HeaderName = HeaderName::from_static("serverid");
const SERVER_COUNT: HeaderName = HeaderName::from_static("servercount");
const REFUSAL: HeaderName = HeaderName::from_static("refusal");
const AGENT_ID: HeaderName = HeaderName::from_static("agentid");
const IDENTIFIERS: HeaderName = HeaderName::from_static("agentidentifiers");
const VERSION: HeaderName = HeaderName::from_static("version");
const CAPABILITIES: HeaderName = HeaderName::from_static("capabilities");

/// Stands before the seconds.
const PING_INTERVAL: &str = "ping-interval=";

/// An agent that is gone holds its lanes' memory, and looks connected, for as long.
pub const MAX_PING_INTERVAL: Duration = Duration::from_secs(600);

/// Ids are uuids or pod names; they end up in logs.
const MAX_TEXT: usize = 256;

/// An agent dials this many servers at most on a server's word.
const MAX_SERVER_COUNT: u32 = 256;

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, TunnelError> {
    HeaderValue::from_str(text).map_err(|_| violation(name))
}

/// A header of printable ASCII; empty when it is not there.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, TunnelError> {
    let Some(value) = headers.get(name) else {
        return Ok("");
    };
    let printable =
        |text: &&str| text.len() <= MAX_TEXT && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    value
        .to_str()
        .ok()
        .filter(printable)
        .ok_or_else(|| violation(name))
}

fn required<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, TunnelError> {
    let text = text(headers, name)?;
    if text.is_empty() {
        Err(violation(name))
    } else {
        Ok(text)
    }
}

fn has(capabilities: &[String], wanted: &str) -> bool {
    capabilities.iter().any(|capability| capability == wanted)
}

fn capabilities(headers: &HeaderMap) -> Result<Vec<String>, TunnelError> {
    let list = text(headers, &CAPABILITIES)?.split(',').map(str::trim);
    Ok(list
        .filter(|capability| !capability.is_empty())
        .map(str::to_owned)
        .collect())
}

fn violation(name: &HeaderName) -> TunnelError {
    TunnelError::Protocol {
        protocol: PROTOCOL,
        details: format!("header {name} is missing or invalid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentHello {
        AgentHello {
            agent_id: "7f0c".to_owned(),
            identifiers: "host=managed&default-route=true".parse().unwrap(),
            version: "0.1.0".to_owned(),
            capabilities: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    #[test]
    fn both_ends_read_what_the_other_wrote() {
        let server = ServerHello {
            server_id: "s-1".to_owned(),
            server_count: 3,
            capabilities: vec![],
        };
        let mut headers = HeaderMap::new();
        server.write_to(&mut headers).unwrap();
        assert_eq!(ServerHello::read_from(&headers).unwrap(), server);

        let mut headers = HeaderMap::new();
        agent().write_to(&mut headers).unwrap();
        assert_eq!(AgentHello::read_from(&headers).unwrap(), agent());
    }

    #[test]
    fn capabilities_are_known_by_their_names() {
        let mut hello = agent();
        assert!(!hello.can_have_lanes());
        hello.capabilities.push(LANES.to_owned());
        let mut headers = HeaderMap::new();
        hello.write_to(&mut headers).unwrap();
        assert!(AgentHello::read_from(&headers).unwrap().can_have_lanes());

        assert_eq!(hello.ping_interval(), None);
        for (text, seconds) in [
            ("ping-interval=90", Some(90)),
            ("ping-interval=99999999999", Some(600)),
            ("ping-interval=-1", None),
            ("ping-interval=", None),
            ("ping-interval", None),
        ] {
            hello.capabilities = vec!["other".to_owned(), text.to_owned()];
            let interval = seconds.map(Duration::from_secs);
            assert_eq!(hello.ping_interval(), interval, "{text}");
        }
        hello.capabilities = vec![AgentHello::quiet(Duration::from_secs(7))];
        assert_eq!(hello.ping_interval(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_refusal_says_why() {
        let mut headers = HeaderMap::new();
        ServerHello::write_refusal("your certificate\nnames no cluster", &mut headers);
        let error = ServerHello::read_from(&headers).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server refuses this agent: your certificate?names no cluster"
        );
    }

    #[test]
    fn hostile_headers_end_the_lane() {
        let with = |name: HeaderName, value: &[u8]| {
            let mut headers = HeaderMap::new();
            agent().write_to(&mut headers).unwrap();
            headers.insert(name, HeaderValue::from_bytes(value).unwrap());
            AgentHello::read_from(&headers)
        };
        assert!(with(AGENT_ID, b"").is_err());
        assert!(with(AGENT_ID, &[b'a'; 257]).is_err());
        assert!(with(AGENT_ID, "ü".as_bytes()).is_err());
        assert!(with(VERSION, b"1\t2").is_err());
        assert!(with(IDENTIFIERS, b"host=").is_err());
        assert!(with(HeaderName::from_static("unknown"), b"x").is_ok());
        for count in ["0", "-1", "257", "x", ""] {
            let mut headers = HeaderMap::new();
            headers.insert(SERVER_ID, HeaderValue::from_static("s"));
            headers.insert(SERVER_COUNT, HeaderValue::from_str(count).unwrap());
            assert!(ServerHello::read_from(&headers).is_err(), "{count}");
        }
    }
}
