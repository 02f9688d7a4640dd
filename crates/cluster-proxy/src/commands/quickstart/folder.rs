//! The folder that quickstart works in: private, and gone afterwards.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const PREFIX: &str = "cluster-proxy-quickstart-";

/// A folder that only this user can read, removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder; folders of runs that were killed go.
    pub(super) fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        remove_stale(&parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file for this user's eyes alone; a file of that name is replaced at once, so that
    /// nobody reads half of it.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        let half = self.path.join(format!("{name}.new"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&half)
            .with_context(|| half.display().to_string())?;
        file.write_all(content.as_ref())
            .with_context(|| half.display().to_string())?;
        fs::rename(&half, &path).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "folder cannot be removed");
        }
    }
}

/// Folders whose process is gone hold old keys and tokens.
fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|process| process.parse::<u32>().ok());
        if let Some(process) = process
            && !Path::new(&format!("/proc/{process}")).exists()
            && fs::remove_dir_all(entry.path()).is_err()
        {
            tracing::debug!(path = %entry.path().display(), "not ours to remove");
        }
    }
}
