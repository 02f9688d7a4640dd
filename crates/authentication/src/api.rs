//! One request to a kube-apiserver whose answer is read here, not by kube: kube logs the text of
//! answers that it cannot parse, and a TokenReview's answer repeats the token.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;

/// Why a kube-apiserver gave no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// No answer came: no connection, or it broke.
    #[error("the kube-apiserver cannot be asked")]
    Unreachable {
        /// What the client says.
        source: Arc<kube::Error>,
    },
    /// The answer broke off, or is larger than any answer of its kind.
    #[error("the kube-apiserver's answer cannot be read: {cause}")]
    Body {
        /// What went wrong.
        cause: String,
    },
    /// An error answer, about our own request: its credentials, its rights, or the server's state.
    #[error("the kube-apiserver answered {code}: {message}")]
    Refused {
        /// The status code.
        code: StatusCode,
        /// The server's words, if it has any.
        message: String,
    },
}

/// Sends the request and reads the body of a successful answer. Without a deadline: the caller
/// sets it.
pub(crate) async fn exchange(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<Bytes, ApiError> {
    let response = client
        .send(request.map(Body::from))
        .await
        .map_err(|error| ApiError::Unreachable {
            source: Arc::new(error),
        })?;
    let code = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| ApiError::Body {
            cause: error.to_string(),
        })?
        .to_bytes();
    if code.is_success() {
        return Ok(body);
    }
    Err(ApiError::Refused {
        code,
        message: message_of(&body),
    })
}

/// The message of a `Status`; other bodies are not repeated, since they are whatever some proxy
/// says.
fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    serde_json::from_slice::<Status>(body).map_or_else(
        |_| "without a message".to_owned(),
        |status| status.message.chars().take(MAX_MESSAGE_CHARS).collect(),
    )
}

/// A user with thousands of groups stays far below; a JWKS holds a few keys.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// What a log line takes of a server's words.
const MAX_MESSAGE_CHARS: usize = 512;
