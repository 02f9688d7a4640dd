//! Which clusters are accepted and which names are theirs, as the manager writes it down: so that
//! ownership never depends on who happens to be connected.

use std::collections::HashMap;
use std::sync::Arc;

use cluster_proxy_identity::{ClusterName, TunnelHost};
use serde::Deserialize;
use tokio::sync::watch;

use crate::config::{AgentIdentity, ConfigError};

/// The accepted clusters and what an agent's certificate must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentTable {
    /// [`AgentIdentity::Cluster`] or [`AgentIdentity::Prefer`].
    identity: AgentIdentity,
    clusters: HashMap<ClusterName, Entry>,
    /// Every name in `clusters`, in lower case, and whose it is.
    owners: HashMap<String, ClusterName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    hosts: Vec<String>,
    certificate: bool,
}

/// Where a server sees the table and its changes. `None` until it was first read: nobody is let
/// in before.
pub type WatchedAgentTable = watch::Receiver<Option<Arc<AgentTable>>>;

/// Where a source of the table tells of it.
pub(crate) type AgentTableSender = watch::Sender<Option<Arc<AgentTable>>>;

/// The table as one document: what a file of it holds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    agent_identity: String,
    clusters: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default)]
    agent_namespace: String,
    /// Whether the cluster's agent has got its own certificate.
    #[serde(default)]
    certificate: bool,
}

/// A ConfigMap holds no more (1 MiB), and ten thousand clusters take less.
const MAX_BYTES: usize = 1024 * 1024;

impl AgentTable {
    /// Reads one YAML document: `{agentIdentity: cluster|prefer, clusters: [{name,
    /// agentNamespace, certificate}]}`.
    ///
    /// # Errors
    ///
    /// [`AgentTableError`] for whatever is not that; one bad row spoils the table, since a table
    /// that lacks a row would shut a cluster out.
    pub fn from_document(text: &str) -> Result<Self, AgentTableError> {
        let Document {
            agent_identity,
            clusters,
        } = parse(text)?;
        Self::new(&agent_identity, clusters)
    }

    /// Reads the two values of the manager's ConfigMap: what must be proven, and the YAML list of
    /// clusters.
    ///
    /// # Errors
    ///
    /// As [`from_document`](Self::from_document).
    pub fn from_parts(agent_identity: &str, clusters: &str) -> Result<Self, AgentTableError> {
        Self::new(agent_identity, parse(clusters)?)
    }

    fn new(agent_identity: &str, rows: Vec<Row>) -> Result<Self, AgentTableError> {
        let identity = agent_identity
            .trim()
            .parse()
            .map_err(|source| AgentTableError::Identity { source })?;
        if identity == AgentIdentity::Any {
            return Err(AgentTableError::Any);
        }
        let mut table = Self {
            identity,
            clusters: HashMap::with_capacity(rows.len()),
            owners: HashMap::new(),
        };
        for row in rows {
            table.add(row)?;
        }
        Ok(table)
    }

    fn add(&mut self, row: Row) -> Result<(), AgentTableError> {
        let Row {
            name,
            agent_namespace,
            certificate,
        } = row;
        let cluster: ClusterName = name
            .parse()
            .map_err(|source| AgentTableError::Cluster { name, source })?;
        let mut hosts = vec![
            TunnelHost::of(&cluster).as_str().to_owned(),
            cluster.as_str().to_owned(),
        ];
        if !agent_namespace.is_empty() {
            hosts.push(format!("{cluster}.{agent_namespace}").to_ascii_lowercase());
        }
        for host in &hosts {
            // The first one keeps it: `a.b` is both a cluster's name and `b`'s agent of `a`.
            self.owners
                .entry(host.clone())
                .or_insert_with(|| cluster.clone());
        }
        hosts.retain(|host| self.owners.get(host) == Some(&cluster));
        match self
            .clusters
            .insert(cluster.clone(), Entry { hosts, certificate })
        {
            None => Ok(()),
            Some(_) => Err(AgentTableError::Twice { cluster }),
        }
    }

    /// Tells the receivers of this table, unless it is the one they have. `source` is for the log.
    pub(crate) fn publish(self, sender: &AgentTableSender, source: &dyn std::fmt::Display) {
        sender.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&self);
            if changed {
                tracing::info!("a table of agents is in use, from {source}");
                *current = Some(Arc::new(self));
            }
            changed
        });
    }

    /// What an agent's certificate must prove.
    #[must_use]
    pub fn identity(&self) -> AgentIdentity {
        self.identity
    }

    /// Whether the cluster is accepted.
    #[must_use]
    pub fn accepts(&self, cluster: &ClusterName) -> bool {
        self.clusters.contains_key(cluster)
    }

    /// Whether `host`, in lower case, is `cluster`'s.
    pub(crate) fn owns(&self, cluster: &ClusterName, host: &str) -> bool {
        self.clusters
            .get(cluster)
            .is_some_and(|entry| entry.hosts.iter().any(|own| own == host))
    }

    /// Whether an agent that proves nothing may be found under `host`, in lower case: its owner
    /// is accepted and has got no certificate yet.
    pub(crate) fn lends(&self, host: &str) -> bool {
        let owner = self.owners.get(host);
        owner
            .and_then(|owner| self.clusters.get(owner))
            .is_some_and(|entry| !entry.certificate)
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, AgentTableError> {
    if text.len() > MAX_BYTES {
        return Err(AgentTableError::TooLong);
    }
    // The first line says what and where; the rest shows a piece of the text.
    let unreadable = |error: &dyn std::fmt::Display| AgentTableError::Yaml {
        details: error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let value: serde_json::Value =
        serde_saphyr::from_str(text).map_err(|error| unreadable(&error))?;
    // Read as a list, nothing at all would be an empty one, and shut every cluster out.
    if value.is_null() {
        return Err(unreadable(&"it is empty"));
    }
    serde_json::from_value(value).map_err(|error| unreadable(&error))
}

/// Why a table cannot be used. The last good one stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentTableError {
    /// More than 1 MiB.
    #[error("the table of agents is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// No YAML, or not of the table's shape.
    #[error("the table of agents cannot be read: {details}")]
    Yaml {
        /// Where and why.
        details: String,
    },
    /// No identity rule.
    #[error("the table of agents: agentIdentity: {source}")]
    Identity {
        /// Why not.
        source: ConfigError,
    },
    /// A table that lets everybody in is none.
    #[error("the table of agents: agentIdentity is cluster or prefer, never any")]
    Any,
    /// A name that no cluster can have.
    #[error("the table of agents: cluster {name:?}: {source}")]
    Cluster {
        /// As given.
        name: String,
        /// Why not.
        source: cluster_proxy_identity::ClusterNameError,
    },
    /// Two rows for one cluster.
    #[error("the table of agents names cluster {cluster} twice")]
    Twice {
        /// Which.
        cluster: ClusterName,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_their_clusters() {
        let table = AgentTable::from_document(
            "agentIdentity: prefer\nclusters:\n- {name: a, agentNamespace: ns, certificate: true}\n\
             - {name: b}\n",
        )
        .unwrap();
        let (a, b) = (cluster("a"), cluster("b"));
        for host in ["a", "a.ns", TunnelHost::of(&a).as_str()] {
            assert!(table.owns(&a, host) && !table.owns(&b, host), "{host}");
            assert!(!table.lends(host), "{host}");
        }
        assert!(!table.owns(&a, "a.other") && !table.owns(&a, "b"));
        assert!(table.lends("b") && table.lends(TunnelHost::of(&b).as_str()));
        assert!(!table.lends("c") && !table.accepts(&cluster("c")));
        assert_eq!(table.identity(), AgentIdentity::Prefer);
        let parts = AgentTable::from_parts("cluster\n", "[]").unwrap();
        assert_eq!(parts.identity(), AgentIdentity::Cluster);
    }

    #[test]
    fn a_name_has_one_owner() {
        let rows = "[{name: a.b}, {name: a, agentNamespace: b}]";
        let table = AgentTable::from_parts("cluster", rows).unwrap();
        assert!(table.owns(&cluster("a.b"), "a.b"));
        assert!(!table.owns(&cluster("a"), "a.b"));
    }

    #[test]
    fn a_bad_row_spoils_the_table() {
        for (identity, rows) in [
            ("any", "[]"),
            ("", "[]"),
            ("cluster", ""),
            ("cluster", "null"),
            ("cluster", "# []"),
            ("cluster", "null"),
            ("cluster", "# []"),
            ("cluster", "{}"),
            ("cluster", "[{name: A}]"),
            ("cluster", "[{name: a, hosts: [b]}]"),
            ("cluster", "[{name: a}, {name: a}]"),
            ("cluster", "[{agentNamespace: a}]"),
        ] {
            let read = AgentTable::from_parts(identity, rows);
            assert!(read.is_err(), "{identity:?} {rows:?}: {read:?}");
        }
        let long = format!("[{}]", " ".repeat(MAX_BYTES));
        assert_eq!(
            AgentTable::from_parts("cluster", &long),
            Err(AgentTableError::TooLong)
        );
    }
}
