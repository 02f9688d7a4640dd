//! An agent's introduction, for targets that do not vary it.

use cluster_proxy_identity::AnnouncedIdentifiers;
use cluster_proxy_tunnel::lane::AgentHello;

/// What an agent says of itself.
pub fn agent_hello() -> AgentHello {
    AgentHello {
        agent_id: "a".to_owned(),
        identifiers: AnnouncedIdentifiers::default(),
        version: "0".to_owned(),
        capabilities: vec![],
    }
}
