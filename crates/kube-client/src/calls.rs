//! Calls about one object that do not wait without end.

use std::future::Future;
use std::time::Duration;

use kube::core::Status;
use tokio::time::timeout;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The kube-apiserver refused or could not be reached.
    #[error("cannot {verb} it: {cause}")]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// What came of it.
        cause: Box<kube::Error>,
    },
    /// The kube-apiserver did not answer in time.
    #[error("cannot {verb} it: no answer within {} s", limit.as_secs())]
    TimedOut {
        /// What was tried.
        verb: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl CallError {
    /// The kube-apiserver's answer, where one came.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Failed { cause, .. } => match cause.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// Whether somebody else wrote the object in between, or made or deleted it.
    #[must_use]
    pub fn is_race(&self) -> bool {
        self.status().is_some_and(|status| {
            status.is_conflict() || status.is_already_exists() || status.is_not_found()
        })
    }
}

/// What comes of `call`, which may take `limit`; `verb` says what it does in errors.
///
/// # Errors
///
/// When the call fails, or is not answered in time.
pub async fn within<T>(
    limit: Duration,
    verb: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(cause)) => Err(CallError::Failed {
            verb,
            cause: Box::new(cause),
        }),
        Err(_) => Err(CallError::TimedOut { verb, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(code: u16, reason: &str) -> CallError {
        let status = Status {
            code,
            reason: reason.to_owned(),
            ..Status::default()
        };
        let call = async { Err::<(), _>(kube::Error::Api(Box::new(status))) };
        within(LIMIT, "update", call).await.unwrap_err()
    }

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn who_was_slower_may_try_again_and_who_is_refused_may_not() {
        for (code, reason, race, missing) in [
            (409, "Conflict", true, false),
            (409, "AlreadyExists", true, false),
            (404, "NotFound", true, true),
            (403, "Forbidden", false, false),
        ] {
            let error = answered(code, reason).await;
            assert_eq!(error.is_race(), race, "{error}");
            assert_eq!(error.is_not_found(), missing, "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_no_race() {
        let silence = std::future::pending::<Result<(), kube::Error>>();
        let error = within(LIMIT, "get", silence).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot get it: no answer within 5 s");
        assert!(error.status().is_none());
        assert!(!error.is_race());
    }
}
