//! The table of agents from the ConfigMap that the manager writes, watched.

use std::pin::pin;

use cluster_proxy_kube_client::Connection;
use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use tokio::sync::watch;

use crate::agent_table::{AgentTable, AgentTableError, AgentTableSender, WatchedAgentTable};

/// What must be proven: a value of [`crate::AgentIdentity`].
const IDENTITY_KEY: &str = "agent-identity";

/// The YAML list of accepted clusters.
const CLUSTERS_KEY: &str = "clusters";

/// A ConfigMap with a table, and where its changes are told.
#[derive(Debug)]
pub struct AgentTableConfigMap {
    namespace: String,
    name: String,
    sender: AgentTableSender,
}

impl AgentTableConfigMap {
    /// The table in ConfigMap `name`. The receiver has none until
    /// [`keep_fresh`](Self::keep_fresh) has read it.
    #[must_use]
    pub fn new(namespace: String, name: String) -> (Self, WatchedAgentTable) {
        let (sender, receiver) = watch::channel(None);
        let this = Self {
            namespace,
            name,
            sender,
        };
        (this, receiver)
    }

    /// Watches for ever, as `connection`'s user, who needs to get, list and watch this one
    /// ConfigMap. What cannot be read is logged, and the last good table stays: also when the
    /// ConfigMap is deleted, since that is not the manager's word about any cluster.
    pub async fn keep_fresh(self, connection: Connection) {
        let api: Api<ConfigMap> = Api::namespaced(connection.watch_client(), &self.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut events = pin!(watcher(api, only).default_backoff());
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Apply(found) | watcher::Event::InitApply(found))) => {
                    self.take(&found);
                }
                Ok(Some(watcher::Event::Delete(_))) => {
                    tracing::warn!("{self} is deleted; the last good table stays");
                }
                Ok(Some(watcher::Event::Init | watcher::Event::InitDone)) => {}
                Ok(None) => return,
                Err(error) => tracing::warn!("{self} cannot be watched: {error}"),
            }
        }
    }

    fn take(&self, found: &ConfigMap) {
        match table_of(found) {
            Ok(table) => table.publish(&self.sender, self),
            Err(error) => tracing::warn!("{self}: {error}; the last good table stays"),
        }
    }
}

impl std::fmt::Display for AgentTableConfigMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigMap {}/{}", self.namespace, self.name)
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
