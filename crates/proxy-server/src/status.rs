//! Which agents are connected, as the admin port tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster_proxy_runtime::drain::Drain;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agents::{Agent, Agents};

/// A server and its agents at one moment. No part of it is a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// The server's id.
    pub server_id: String,
    /// The program's version.
    pub version: String,
    /// Whether the server ends soon.
    pub draining: bool,
    /// By cluster and agent id; those that prove no cluster come first.
    pub agents: Vec<AgentStatus>,
}

/// All that is connected of one agent, by one protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The cluster that the agent's certificate proves.
    pub cluster: Option<String>,
    /// What the agent calls itself.
    pub agent_id: String,
    /// `lane` or `konnectivity`.
    pub protocol: String,
    /// The version that the agent states; konnectivity's agents state none.
    pub version: Option<String>,
    /// Where it is connected from.
    pub peers: Vec<String>,
    /// How many connections it has to this server: lanes, or streams of konnectivity.
    pub lanes: usize,
    /// How many tunnelled connections are open on them.
    pub streams: usize,
    /// The last round trip measured, the longest of its lanes; none before the first.
    pub round_trip_microseconds: Option<u64>,
    /// Bytes of tunnelled connections on those lanes, open ones included.
    pub bytes_to_target: u64,
    /// The other way.
    pub bytes_to_client: u64,
    /// Since when the oldest of its lanes is connected (RFC 3339).
    pub since: Timestamp,
    /// Whether the agent said that it ends soon.
    pub draining: bool,
}

/// Where the status is read. Clones read the same.
#[derive(Debug, Clone)]
pub struct StatusSource {
    pub(crate) server_id: String,
    pub(crate) agents: Arc<Agents>,
}

impl StatusSource {
    /// What is connected now, to a server that `drain` ends.
    #[must_use]
    pub fn read(&self, drain: &Drain) -> ServerStatus {
        let mut agents: BTreeMap<_, AgentStatus> = BTreeMap::new();
        for link in self.agents.links() {
            let one = AgentStatus::of(&link);
            let key = (
                one.cluster.clone(),
                one.agent_id.clone(),
                one.protocol.clone(),
            );
            match agents.get_mut(&key) {
                Some(agent) => agent.add(one),
                None => drop(agents.insert(key, one)),
            }
        }
        ServerStatus {
            server_id: self.server_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: drain.is_started(),
            agents: agents.into_values().collect(),
        }
    }
}

impl AgentStatus {
    fn of(agent: &Agent) -> Self {
        let link = &agent.link;
        let (bytes_to_target, bytes_to_client) = agent.facts.bytes();
        let version = &link.agent().version;
        Self {
            cluster: agent.cluster().map(ToString::to_string),
            agent_id: agent.id().to_owned(),
            protocol: link.protocol().name().to_owned(),
            version: (!version.is_empty()).then(|| version.clone()),
            peers: vec![agent.facts.peer.to_string()],
            lanes: 1,
            streams: link.open_streams(),
            round_trip_microseconds: link
                .round_trip()
                .map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            bytes_to_target,
            bytes_to_client,
            since: agent.facts.since,
            draining: link.agent_drains(),
        }
    }

    fn add(&mut self, other: Self) {
        self.peers.extend(other.peers);
        self.lanes += other.lanes;
        self.streams += other.streams;
        self.round_trip_microseconds = self
            .round_trip_microseconds
            .max(other.round_trip_microseconds);
        self.bytes_to_target += other.bytes_to_target;
        self.bytes_to_client += other.bytes_to_client;
        self.since = self.since.min(other.since);
        self.draining |= other.draining;
    }
}
