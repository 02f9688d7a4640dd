//! Failed requests to the hub, in one line.

use kube::Error;
use kube::runtime::watcher;

/// A request to the hub that failed: what was tried, on which object, and why not.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {object}: {}", describe(source))]
pub struct RequestFailure {
    action: &'static str,
    object: String,
    source: Error,
}

impl RequestFailure {
    /// `action` is a verb, `object` a kind and a name: for
    /// `.map_err(RequestFailure::of("read", "Secret a/b"))`.
    pub fn of(action: &'static str, object: impl Into<String>) -> impl FnOnce(Error) -> Self {
        let object = object.into();
        move |source| Self {
            action,
            object,
            source,
        }
    }

    /// Whether the hub said that the object is there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(&self.source, Error::Api(status) if status.is_already_exists())
    }

    /// Whether the hub refused because a right is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(&self.source, Error::Api(status) if status.is_forbidden())
    }

    /// Whether the hub has no such object, or no such kind.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(&self.source, Error::Api(status) if status.is_not_found())
    }

    /// Whether the hub understood and said no, which it will say again.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match &self.source {
            // 409 is for who was late, 429 for who is too fast.
            Error::Api(status) => {
                (400..500).contains(&status.code) && !matches!(status.code, 409 | 429)
            }
            _ => false,
        }
    }

    /// Whether somebody else changed the object meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(&self.source, Error::Api(status) if status.is_conflict())
    }
}

/// What the hub answered in its own words, which name the missing right where one is missing;
/// otherwise what befell the request.
#[must_use]
pub fn describe(error: &Error) -> String {
    match error {
        Error::Api(status) if status.message.is_empty() => {
            format!("the hub answered {} {}", status.code, status.reason)
        }
        Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// What befell a watch, in the same way.
#[must_use]
pub fn describe_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => describe(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}
