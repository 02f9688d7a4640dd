//! The table of agents from the ConfigMap that the manager writes, watched.

use cluster_proxy_kube_client::{ConfigMapName, ConfigMapState, Connection};
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::watch;

use crate::agent_table::{AgentTable, AgentTableError, AgentTableSender, WatchedAgentTable};

/// What must be proven: a value of [`crate::AgentIdentity`].
const IDENTITY_KEY: &str = "agent-identity";

/// The YAML list of accepted clusters.
const CLUSTERS_KEY: &str = "clusters";

/// A ConfigMap with a table, and where its changes are told.
#[derive(Debug)]
pub struct AgentTableConfigMap {
    map: ConfigMapName,
    sender: AgentTableSender,
}

impl AgentTableConfigMap {
    /// The table in a ConfigMap. The receiver has none until
    /// [`keep_fresh`](Self::keep_fresh) has read it.
    #[must_use]
    pub fn new(map: ConfigMapName) -> (Self, WatchedAgentTable) {
        let (sender, receiver) = watch::channel(None);
        (Self { map, sender }, receiver)
    }

    /// Watches for ever, as `connection`'s user, who needs to get, list and watch this one
    /// ConfigMap. What cannot be read is logged, and the last good table stays: also when the
    /// ConfigMap is deleted, since that is not the manager's word about any cluster.
    pub async fn keep_fresh(self, connection: Connection) {
        self.map
            .follow(&connection, |state| match state {
                ConfigMapState::Found(found) => self.take(&found),
                ConfigMapState::Missing => {
                    tracing::warn!("there is no {}; the last good table stays", self.map);
                }
                ConfigMapState::Unknown { .. } => {}
            })
            .await;
    }

    fn take(&self, found: &ConfigMap) {
        match table_of(found) {
            Ok(table) => table.publish(&self.sender, &self.map),
            Err(error) => tracing::warn!("{}: {error}; the last good table stays", self.map),
        }
    }
}

fn table_of(found: &ConfigMap) -> Result<AgentTable, AgentTableError> {
    let value = |key| {
        let data = found.data.as_ref();
        data.and_then(|data| data.get(key))
            .map_or("", String::as_str)
    };
    AgentTable::from_parts(value(IDENTITY_KEY), value(CLUSTERS_KEY))
}
