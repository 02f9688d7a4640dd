//! Kubernetes Events: what a person should act on, told where `kubectl describe` shows it.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::timeout;

use crate::config::{FIELD_MANAGER, ManagerConfig};
use crate::failure::describe;

/// Writes Events; clones share what was told before, so that the same thing told again counts up
/// one Event.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Events that this manager reports.
    #[must_use]
    pub fn new(client: kube::Client, config: &ManagerConfig) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(config.identity.clone()),
        };
        Self(Recorder::new(client, reporter))
    }

    /// Something that went as it should and that somebody may have waited for.
    pub async fn normal(&self, object: &ObjectReference, reason: &'static str, note: &str) {
        self.publish(EventType::Normal, object, reason, note).await;
    }

    /// Something that stays wrong until a person acts.
    pub async fn warning(&self, object: &ObjectReference, reason: &'static str, note: &str) {
        self.publish(EventType::Warning, object, reason, note).await;
    }

    async fn publish(
        &self,
        type_: EventType,
        object: &ObjectReference,
        reason: &'static str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(note)),
            action: ACTION.to_owned(),
            secondary: None,
        };
        match timeout(LIMIT, self.0.publish(&event, object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(reason, "an Event cannot be written: {}", describe(&error));
            }
            Err(_) => tracing::warn!(reason, "an Event could not be written in time"),
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= MAX_NOTE {
        return note.to_owned();
    }
    let mut end = MAX_NOTE - '…'.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &note[..end])
}

/// Events are a courtesy: the work does not wait longer for them.
const LIMIT: Duration = Duration::from_secs(5);

/// What the API takes (events.k8s.io/v1, `note`).
const MAX_NOTE: usize = 1024;

const ACTION: &str = "Reconcile";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_the_limit_of_the_api() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"ä".repeat(MAX_NOTE));
        assert!(long.len() <= MAX_NOTE && long.ends_with('…'), "{long}");
    }
}
