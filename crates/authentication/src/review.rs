//! Asking a kube-apiserver who a token is (`authentication.k8s.io/v1` TokenReview).

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::{Token, User};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use kube::Client;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::api::{ApiError, exchange};
use crate::verdict::is_plain_no;

/// What a kube-apiserver says of a token.
#[derive(Debug, Clone)]
pub enum Review {
    /// It is this user's.
    Authenticated(Arc<User>),
    /// It is nobody's here: unknown, expired, revoked, or for another audience.
    Denied,
    /// The question was not answered. Never to be taken for a "no".
    Failed(ReviewError),
}

/// Why there is neither a yes nor a no.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReviewError {
    /// No answer within [`REVIEW_DEADLINE`].
    #[error("the review took longer than {} s", REVIEW_DEADLINE.as_secs())]
    TimedOut,
    /// Too many reviews at once, for too long.
    #[error("too many reviews are in flight")]
    Overloaded,
    /// The request itself failed.
    #[error("the review failed")]
    Request {
        /// How.
        #[from]
        source: ApiError,
    },
    /// The server tried, and could not tell: an authenticator behind it is away, for example.
    #[error("the kube-apiserver could not review the token: {cause}")]
    Undecided {
        /// The server's words.
        cause: String,
    },
    /// The answer is not a review with a status that makes sense.
    #[error("the kube-apiserver's answer to a review makes no sense: {what}")]
    Malformed {
        /// What about it.
        what: &'static str,
    },
}

impl ReviewError {
    /// A word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::Overloaded => "overloaded",
            Self::Request {
                source: ApiError::Refused { .. },
            } => "refused",
            Self::Request { .. } => "unreachable",
            Self::Undecided { .. } => "undecided",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// Asks one kube-apiserver, a bounded number of times at once. Clones share the bound.
#[derive(Clone)]
pub struct TokenReviewer {
    client: Client,
    audiences: Arc<[String]>,
    slots: Arc<Semaphore>,
}

impl TokenReviewer {
    /// Reviews for the kube-apiserver's own audience.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            audiences: Arc::new([]),
            slots: Arc::new(Semaphore::new(MAX_CONCURRENT_REVIEWS)),
        }
    }

    /// Reviews for these audiences instead: a token must be meant for one of them.
    #[must_use]
    pub fn with_audiences(self, audiences: Vec<String>) -> Self {
        Self {
            audiences: audiences.into(),
            ..self
        }
    }

    /// Who the token is. Takes no longer than [`REVIEW_DEADLINE`], and asks once: a retry belongs
    /// to who knows whether the user still waits.
    pub async fn review(&self, token: &Token) -> Review {
        match timeout(REVIEW_DEADLINE, self.ask(token)).await {
            Ok(Ok(review)) => review,
            Ok(Err(error)) => Review::Failed(error),
            Err(_) => Review::Failed(ReviewError::TimedOut),
        }
    }

    async fn ask(&self, token: &Token) -> Result<Review, ReviewError> {
        let _slot = timeout(MAX_SLOT_WAIT, self.slots.acquire())
            .await
            .map_err(|_| ReviewError::Overloaded)?
            .expect("the semaphore is never closed");
        let answer = exchange(&self.client, self.request(token)).await?;
        // The rest of the answer repeats the question, token included: it is not looked at, and
        // the parser's error, which quotes what it met, is not handed on.
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| ReviewError::Malformed {
                what: "no TokenReview status in it",
            })?;
        judge(answer.status, &self.audiences)
    }

    fn request(&self, token: &Token) -> Request<Vec<u8>> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.expose().to_owned()),
                audiences: (!self.audiences.is_empty()).then(|| self.audiences.to_vec()),
            },
            ..TokenReview::default()
        };
        let body = serde_json::to_vec(&review).expect("a TokenReview has string keys");
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(TOKEN_REVIEWS);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        request
    }
}

impl std::fmt::Debug for TokenReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviewer")
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    status: TokenReviewStatus,
}

/// Reads a status as the API documents it: `error` means that the token could not be checked,
/// except that the kube-apiserver also puts its reasons for a "no" there.
fn judge(status: TokenReviewStatus, asked: &[String]) -> Result<Review, ReviewError> {
    if status.authenticated != Some(true) {
        return match status.error {
            Some(error) if !error.is_empty() && !is_plain_no(&error) => {
                Err(ReviewError::Undecided { cause: error })
            }
            _ => Ok(Review::Denied),
        };
    }
    // A server that knows no audiences says nothing about them, and has then accepted the token
    // for its own: which is not what was asked.
    let answered = status.audiences.unwrap_or_default();
    if !asked.is_empty() && !asked.iter().any(|audience| answered.contains(audience)) {
        return Ok(Review::Denied);
    }
    let user = user_of(status.user.unwrap_or_default());
    if user.name.is_empty() {
        return Err(ReviewError::Malformed {
            what: "authenticated, but as nobody",
        });
    }
    if user.name == ANONYMOUS {
        return Ok(Review::Denied);
    }
    Ok(Review::Authenticated(Arc::new(user)))
}

fn user_of(info: UserInfo) -> User {
    User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.filter(|uid| !uid.is_empty()),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    }
}

/// How long a review may take, the wait for its turn included.
pub const REVIEW_DEADLINE: Duration = Duration::from_secs(5);

/// How many reviews of one reviewer are in flight at once. Upstream allows 50 a second; a
/// kube-apiserver serves hundreds of requests at once to everybody together.
pub(crate) const MAX_CONCURRENT_REVIEWS: usize = 32;

/// How long a review waits for its turn. Longer queues mean that the server does not keep up.
pub(crate) const MAX_SLOT_WAIT: Duration = Duration::from_secs(2);

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Whom a kube-apiserver makes of a request without credentials: never an answer to a token.
const ANONYMOUS: &str = "system:anonymous";

#[cfg(test)]
mod tests;
