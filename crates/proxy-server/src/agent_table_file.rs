//! The table of agents from a file that is looked at again and again, as Kubernetes mounts a
//! ConfigMap: by renaming a link, which a file watch misses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::agent_table::{AgentTable, AgentTableError, AgentTableSender, WatchedAgentTable};

/// A file with a table, and where its changes are told.
#[derive(Debug)]
pub struct AgentTableFile {
    path: PathBuf,
    sender: AgentTableSender,
}

/// How often the file is looked at: a removed cluster's lanes close within 10 s.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl AgentTableFile {
    /// Reads `path` once; [`keep_fresh`](Self::keep_fresh) tells the receiver of its changes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds no table.
    pub fn load(path: &Path) -> Result<(Self, WatchedAgentTable), AgentTableFileError> {
        let (sender, receiver) = watch::channel(Some(Arc::new(read(path)?)));
        let path = path.to_owned();
        Ok((Self { path, sender }, receiver))
    }

    /// Looks at the file for ever. What cannot be used is logged once, and the last good table
    /// stays.
    pub async fn keep_fresh(self) {
        let mut last_error = String::new();
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            match read(&self.path) {
                Ok(table) => {
                    last_error.clear();
                    table.publish(&self.sender, &self.path.display());
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != last_error {
                        tracing::warn!("{error}; the last good table stays");
                        last_error = error;
                    }
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<AgentTable, AgentTableFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| AgentTableFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    AgentTable::from_document(&text).map_err(|source| AgentTableFileError::Table {
        path: path.to_owned(),
        source,
    })
}

/// Why a file gives no table.
#[derive(Debug, thiserror::Error)]
pub enum AgentTableFileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{}: {source}", path.display())]
    Table {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: AgentTableError,
    },
}
