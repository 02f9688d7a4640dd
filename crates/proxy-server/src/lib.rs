//! Hub end of the tunnel: agents connect to one port and are found under the names they may
//! have; users connect to the other and are joined with the agent that serves what they dial.

mod access;
mod admission;
mod agent_group;
mod agent_link;
mod agent_port;
mod agent_table;
mod agent_table_config_map;
mod agent_table_file;
mod agent_tokens;
mod agents;
mod config;
mod frontend_client;
mod frontend_port;
mod konnectivity_metrics;
mod lease_metrics;
mod link_facts;
mod listener;
mod metrics;
mod ownership;
mod server;
mod server_lease;
mod status;

pub use agent_table::{AgentTable, AgentTableError, WatchedAgentTable};
pub use agent_table_config_map::AgentTableConfigMap;
pub use agent_table_file::{AgentTableFile, AgentTableFileError};
pub use agent_tokens::AgentTokens;
pub use config::{
    AGENT_ALPN, AgentIdentity, Config, ConfigError, DIAL_LIMIT, Port, ProxyStrategies,
    ProxyStrategy,
};
pub use server::ProxyServer;
pub use server_lease::ServerLeaseConfig;
pub use status::{AgentStatus, ServerStatus, StatusSource};
