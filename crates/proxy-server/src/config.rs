//! What a proxy-server is told: parsed values only.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cluster_proxy_identity::tls::ServerTls;
use cluster_proxy_runtime::unix_socket::UnixSocket;
use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::konnectivity::KONNECTIVITY_ALPN;
use cluster_proxy_tunnel::lane::LANE_ALPN;
use tokio::net::TcpListener;

use crate::agent_table::WatchedAgentTable;
use crate::agent_tokens::AgentTokens;
use crate::server_lease::ServerLeaseConfig;

/// The configuration of a [`crate::ProxyServer`].
#[derive(Debug)]
pub struct Config {
    /// Where users of the tunnel connect. Its TLS requires client certificates and offers
    /// [`cluster_proxy_tunnel::frontend::FRONTEND_ALPN`]. At least one of this and
    /// [`frontend_socket`](Self::frontend_socket) is there.
    pub frontend: Option<Port>,
    /// Where users on this machine connect, without TLS: whoever the file system lets.
    pub frontend_socket: Option<UnixSocket>,
    /// Where agents connect. Its TLS asks for client certificates and offers
    /// [`AGENT_ALPN`].
    pub agents: Port,
    /// Distinct for each server.
    pub server_id: String,
    /// How many servers an agent should be connected to, at least 1.
    pub server_count: u32,
    /// How an agent is chosen, in this order.
    pub strategies: ProxyStrategies,
    /// What an agent's certificate must prove, where no table says so.
    pub agent_identity: AgentIdentity,
    /// Which clusters are accepted and which names are theirs.
    pub agent_table: Option<WatchedAgentTable>,
    /// The token that each agent has to show, if any, whatever its certificate proves.
    pub agent_tokens: Option<AgentTokens>,
    /// Where this server keeps a Lease, by which agents count servers.
    pub server_lease: Option<ServerLeaseConfig>,
    /// Limit for an agent to connect a target. An agent gives up by itself after 5 s.
    pub dial_limit: Duration,
    /// HTTP/2 settings of lanes and frontend connections.
    pub http2: Http2Settings,
    /// Bytes that all readers together may leave unread before one of them is cut
    /// ([`cluster_proxy_tunnel::UnreadBudget`]).
    pub unread_limit: u64,
}

/// The usual [`Config::dial_limit`]: an agent gives up dialling after 5 s, and this leaves it time to
/// say so.
pub const DIAL_LIMIT: Duration = Duration::from_secs(8);

/// The TLS application protocols of the agent port: an agent that has both gets a lane.
pub const AGENT_ALPN: [&[u8]; 2] = [LANE_ALPN, KONNECTIVITY_ALPN];

/// A bound listener and how TLS is spoken on it.
#[derive(Debug)]
pub struct Port {
    /// Bound already: a port in use is an error of the start.
    pub listener: TcpListener,
    /// Asked anew at every handshake.
    pub tls: ServerTls,
}

/// What the certificate of an agent must prove before it is found under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentIdentity {
    /// Every agent proves its cluster and is found under that cluster's names alone.
    Cluster,
    /// As [`Cluster`](Self::Cluster), but an agent that proves nothing may serve a name for as
    /// long as no agent that proves its right to it is connected: for a fleet on its way.
    Prefer,
    /// Any accepted certificate, and whatever names are announced: konnectivity's way.
    #[default]
    Any,
}

impl FromStr for AgentIdentity {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cluster" => Ok(Self::Cluster),
            "prefer" => Ok(Self::Prefer),
            "any" => Ok(Self::Any),
            _ => Err(ConfigError::AgentIdentity {
                given: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for AgentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Prefer => "prefer",
            Self::Any => "any",
        })
    }
}

/// One way to choose an agent, with konnectivity's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyStrategy {
    /// An agent that is found under the host dialled.
    DestHost,
    /// An agent that announced `default-route=true`.
    DefaultRoute,
    /// Any agent.
    Default,
}

/// The ways to choose an agent, tried in order: `destHost,defaultRoute,default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyStrategies(Vec<ProxyStrategy>);

impl ProxyStrategies {
    /// The ways in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[ProxyStrategy] {
        &self.0
    }
}

impl ProxyStrategy {
    /// Konnectivity's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DestHost => "destHost",
            Self::DefaultRoute => "defaultRoute",
            Self::Default => "default",
        }
    }
}

impl Default for ProxyStrategies {
    /// Konnectivity's default: any agent.
    fn default() -> Self {
        Self(vec![ProxyStrategy::Default])
    }
}

impl FromStr for ProxyStrategies {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let strategies = text.split(',').map(|name| match name.trim() {
            "destHost" => Ok(ProxyStrategy::DestHost),
            "defaultRoute" => Ok(ProxyStrategy::DefaultRoute),
            "default" => Ok(ProxyStrategy::Default),
            _ => Err(ConfigError::Strategy {
                given: name.to_owned(),
            }),
        });
        Ok(Self(strategies.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for ProxyStrategies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|strategy| strategy.name());
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

/// A value that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No [`AgentIdentity`].
    #[error("{given:?} is none of cluster, prefer, any")]
    AgentIdentity {
        /// What was given.
        given: String,
    },
    /// No [`ProxyStrategy`].
    #[error("{given:?} is none of destHost, defaultRoute, default")]
    Strategy {
        /// What was given.
        given: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_konnectivity_writes_them() {
        let all: ProxyStrategies = "destHost,defaultRoute, default".parse().unwrap();
        assert_eq!(all.to_string(), "destHost,defaultRoute,default");
        assert_eq!(ProxyStrategies::default().to_string(), "default");
        for bad in ["", "desthost", "destHost,", "any"] {
            assert!(bad.parse::<ProxyStrategies>().is_err(), "{bad:?}");
        }
        for mode in ["cluster", "prefer", "any"] {
            assert_eq!(mode.parse::<AgentIdentity>().unwrap().to_string(), mode);
        }
        assert_eq!(
            "Cluster".parse::<AgentIdentity>().unwrap_err().to_string(),
            "\"Cluster\" is none of cluster, prefer, any"
        );
    }
}
