//! A value that comes from files and is looked at again as it ages.
//!
//! Kubernetes rotates projected files by renaming a link, which a file watch misses or sees half
//! of; reading a few kilobytes at an interval does not. The read is synchronous: the files lie in
//! a memory file system, and it happens once per interval, whatever the load.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The last good value, when it was looked at, and what went wrong then.
#[derive(Debug)]
pub(crate) struct Refreshed<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: Arc<T>,
    looked_at: Instant,
    last_error: Option<String>,
}

impl<T> Refreshed<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            state: Mutex::new(State {
                value: Arc::new(value),
                looked_at: Instant::now(),
                last_error: None,
            }),
        }
    }

    /// The current value. When it is older than [`REFRESH_INTERVAL`], `reload` is asked first: it
    /// answers with the new value, or `None` when nothing has changed. After an error the last
    /// good value stays; the error is logged under `name`, once until it changes.
    pub(crate) fn get<E: Display>(
        &self,
        name: &dyn Display,
        reload: impl FnOnce(&T) -> Result<Option<T>, E>,
    ) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.elapsed() < REFRESH_INTERVAL {
            return Arc::clone(&state.value);
        }
        state.looked_at = Instant::now();
        match reload(&state.value) {
            Ok(changed) => {
                state.last_error = None;
                if let Some(value) = changed {
                    tracing::info!(source = %name, "changed files are in use");
                    state.value = Arc::new(value);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if state.last_error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "changed files cannot be used; the last good ones stay");
                    state.last_error = Some(error);
                }
            }
        }
        Arc::clone(&state.value)
    }
}

/// How old a value from a file may be. The kubelet renews a token when a fifth of its life is
/// left, two minutes at the least, and keeps the old one valid for that time.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
