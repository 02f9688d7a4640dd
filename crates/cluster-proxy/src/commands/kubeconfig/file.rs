//! The kubeconfig that is written into: locked as kubectl locks it, replaced at once, for its
//! owner's eyes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster_proxy_runtime::error::StartError;
use serde_json::Value;

use super::document;
use crate::commands::hub::{listed, usual};

/// The file to write into, and the others that kubectl reads together with it.
pub(super) struct Target {
    pub(super) path: PathBuf,
    others: Vec<PathBuf>,
}

impl Target {
    /// The file that was asked for, else the one of `variable` that kubectl would take, else the
    /// usual one.
    pub(super) fn find(
        asked: Option<PathBuf>,
        variable: Option<OsString>,
    ) -> Result<Self, StartError> {
        if let Some(path) = asked {
            let path = std::path::absolute(&path)
                .map_err(|error| StartError::failed(format_args!("{}: {error}", path.display())))?;
            return Ok(Self {
                path: followed(path)?,
                others: Vec::new(),
            });
        }
        let mut others = listed(variable)?;
        let place = others.iter().position(|path| path.exists());
        let path = match (place, others.len().checked_sub(1)) {
            (Some(place), _) | (None, Some(place)) => others.remove(place),
            (None, None) => usual()?,
        };
        Ok(Self {
            path: followed(path)?,
            others,
        })
    }

    /// Refuses names that another of the files has: of two entries, kubectl would see only one.
    pub(super) fn hides_nothing(&self, names: &[String]) -> Result<(), StartError> {
        for other in &self.others {
            let failed = |cause: &dyn std::fmt::Display| {
                StartError::failed(format_args!(
                    "{}: {cause}; nothing is changed",
                    other.display()
                ))
            };
            let text = read(other).map_err(|cause| failed(&cause))?;
            let document = document::parse(text.as_deref().unwrap_or_default());
            let document = document.map_err(|cause| failed(&cause))?;
            for list in ["clusters", "users", "contexts"] {
                let entries = document[list].as_array().into_iter().flatten();
                let mut known = entries.filter_map(|entry| entry["name"].as_str());
                if let Some(name) = known.find(|known| names.iter().any(|name| name == known)) {
                    return Err(failed(&format_args!(
                        "it has {name:?} among its {list}, and $KUBECONFIG lists it: give others \
                         with --prefix, or choose it with --output-file"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// A link stays one; what it leads to is replaced.
fn followed(path: PathBuf) -> Result<PathBuf, StartError> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) if path.symlink_metadata().is_err() => Ok(path),
        Err(error) => Err(StartError::failed(format_args!(
            "{}: a link that leads nowhere: {error}",
            path.display()
        ))),
    }
}

/// Changes the kubeconfig at `path`, which need not be there. Nothing is written when `change`
/// fails, or changes nothing.
pub(super) fn update<T>(
    path: &Path,
    change: impl FnOnce(&mut Value) -> Result<T, String>,
) -> Result<T, StartError> {
    let failed = |cause: String| {
        StartError::failed(format_args!(
            "{}: {cause}; nothing is changed",
            path.display()
        ))
    };
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.ok_or_else(|| failed("it has no folder".to_owned()))?;
    if !folder.exists() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(folder)
            .map_err(|error| failed(format!("its folder: {error}")))?;
    }
    let lock = Lock::take(path, LOCK_LIMIT).map_err(failed)?;
    let old = read(path).map_err(failed)?;
    let mut new = document::parse(old.as_deref().unwrap_or_default()).map_err(failed)?;
    let before = new.clone();
    let changed = change(&mut new).map_err(failed)?;
    if new != before {
        let text = document::to_yaml(&new).map_err(failed)?;
        replace(path, folder, &text).map_err(|error| failed(error.to_string()))?;
    }
    drop(lock);
    Ok(changed)
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("not a file".to_owned());
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("larger than {MAX_BYTES} bytes"));
    }
    Ok(Some(text))
}

/// Writes beside the file and puts that into its place, so that nobody ever reads half of it.
fn replace(path: &Path, folder: &Path, text: &str) -> std::io::Result<()> {
    let half = beside(path, &format!(".{}.new", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&half)?;
        file.write_all(text.as_bytes())?;
        // Whoever may write for another must not take the file from them.
        if let Ok(old) = fs::metadata(path) {
            let new = file.metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        file.sync_all()?;
        fs::rename(&half, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // It may not have been made, or have moved already.
        drop(fs::remove_file(&half));
    }
    written
}

/// The lock of client-go: a file beside, made by whoever writes.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path, limit: Duration) -> Result<Self, String> {
        let lock = beside(path, ".lock");
        let end = Instant::now() + limit;
        loop {
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&lock);
            match made {
                Ok(_) => return Ok(Self(lock)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && Instant::now() < end => {
                    std::thread::sleep(LOCK_POLL);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(format!(
                        "another program is writing it, or died over it: if none is, remove {}",
                        lock.display()
                    ));
                }
                Err(error) => return Err(format!("{}: {error}", lock.display())),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever removed it by hand meant it.
        drop(fs::remove_file(&self.0));
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// A thousand clusters with a CA each are 4 MB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// kubectl holds it for as long as it writes.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

const LOCK_POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
