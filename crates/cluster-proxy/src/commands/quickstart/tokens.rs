//! Tokens of the accounts, in files that the roles read and that are renewed in good time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cluster_proxy_runtime::drain::Drain;

use super::access::Access;
use super::folder::Folder;

/// A third of a token's life.
const RENEWAL: Duration = Duration::from_secs(20 * 60);

/// An account's token in a file.
pub(super) struct TokenFile {
    pub(super) access: Access,
    pub(super) namespace: String,
    pub(super) account: &'static str,
    pub(super) file: &'static str,
}

impl TokenFile {
    async fn write(&self, folder: &Folder) -> Result<()> {
        let token = self.access.token(&self.namespace, self.account).await?;
        folder.write(self.file, token)?;
        Ok(())
    }
}

/// Writes the tokens, and again every 20 minutes.
pub(super) async fn keep(
    tokens: Vec<TokenFile>,
    folder: &Arc<Folder>,
    drain: &Drain,
) -> Result<()> {
    for token in &tokens {
        token.write(folder).await?;
    }
    // The folder goes with its last owner, so the task must not be one.
    let folder = Arc::downgrade(folder);
    drain.spawn_until_ended(async move {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let Some(folder) = folder.upgrade() else {
                return;
            };
            for token in &tokens {
                if let Err(error) = token.write(&folder).await {
                    tracing::warn!(account = token.account, "token not renewed: {error:#}");
                }
            }
        }
    });
    Ok(())
}
