//! Answers of cluster-proxy itself, as the Kubernetes `Status` objects that kubectl and client-go
//! print.
//!
//! Reasons are spelled as in `metav1.StatusReason`; a code for which Kubernetes has none goes
//! without, and kubectl then prints the message alone. The shape is documented in
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusDetails};

/// An error answer: what the client reads, and how its machine reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReply {
    code: StatusCode,
    reason: Option<&'static str>,
    message: String,
    retry_after: Option<u32>,
    details: Option<StatusDetails>,
}

impl StatusReply {
    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("BadRequest"), message)
    }

    /// 401: the request carries no credentials, or bad ones.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Some("Unauthorized"), message)
    }

    /// 401: the request carries no bearer token.
    #[must_use]
    pub fn token_missing() -> Self {
        Self::unauthorized(TOKEN_MISSING)
    }

    /// 401: neither the hub nor the managed cluster accepts the token.
    ///
    /// The user-server and the service-proxy both say this, in the same bytes and about any
    /// cluster name, known or not, connected or not: who has no valid token learns nothing about
    /// which clusters exist.
    #[must_use]
    pub fn token_not_accepted() -> Self {
        Self::unauthorized(TOKEN_NOT_ACCEPTED)
    }

    /// 403: who asks is known, and may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Some("Forbidden"), message)
    }

    /// 404: there is nothing at this address.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Some("NotFound"), message)
    }

    /// 405: the target does not take this method.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Some("MethodNotAllowed"),
            message,
        )
    }

    /// 413: the body is larger than its limit.
    pub fn payload_too_large(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Some("RequestEntityTooLarge"),
            message,
        )
    }

    /// 429: try again after `retry_after` seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            Some("TooManyRequests"),
            message,
        )
        .with_retry_after(retry_after)
    }

    /// 431: the headers are larger than their limit.
    pub fn headers_too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, None, message)
    }

    /// 500: a fault of our own.
    pub fn internal_error(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Some("InternalError"),
            message,
        )
    }

    /// 502: what stands behind answered in a way that cannot be handed on, or broke off.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, None, message)
    }

    /// 503: cannot be served now.
    ///
    /// With `retry_after` seconds, client-go sends the request again by itself, up to ten times:
    /// give it for a state that passes in moments (draining, overload), not for a cluster that is
    /// away, or kubectl hangs where it should tell.
    pub fn service_unavailable(message: impl Into<String>, retry_after: Option<u32>) -> Self {
        let reply = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Some("ServiceUnavailable"),
            message,
        );
        match retry_after {
            Some(seconds) => reply.with_retry_after(seconds),
            None => reply,
        }
    }

    /// 504: what stands behind did not answer in time.
    pub fn gateway_timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, Some("Timeout"), message)
    }

    /// Asks the client to wait this many seconds before it tries again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds details: the object that the answer is about, or causes one by one.
    #[must_use]
    pub fn with_details(mut self, details: StatusDetails) -> Self {
        self.details = Some(details);
        self
    }

    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Seconds after which the client may try again, also for the `Retry-After` header.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// The body: a JSON `Status` object.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.to_object())
            .expect("a Status has string keys and no failing field")
    }

    /// The whole answer, for any body type that is made from bytes.
    ///
    /// It is never cached, and a 401 names the scheme that is expected (RFC 9110 section 11.6.1).
    #[must_use]
    pub fn into_response<B: From<Vec<u8>>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.to_json()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn new(code: StatusCode, reason: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            retry_after: None,
            details: None,
        }
    }

    fn to_object(&self) -> Status {
        let mut details = self.details.clone();
        if let Some(seconds) = self.retry_after {
            details.get_or_insert_default().retry_after_seconds = i32::try_from(seconds).ok();
        }
        Status {
            code: Some(i32::from(self.code.as_u16())),
            details,
            message: Some(self.message.clone()),
            metadata: ListMeta::default(),
            reason: self.reason.map(str::to_owned),
            status: Some("Failure".to_owned()),
        }
    }
}

/// The content type of [`StatusReply::to_json`].
pub const JSON: &str = "application/json";

const TOKEN_MISSING: &str = "the request carries no bearer token";
const TOKEN_NOT_ACCEPTED: &str =
    "the bearer token was not accepted, neither by the hub nor by the managed cluster";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body(reply: &StatusReply) -> Value {
        serde_json::from_slice(&reply.to_json()).expect("JSON")
    }

    #[test]
    fn body_is_a_status_object() {
        assert_eq!(
            body(&StatusReply::forbidden("not you")),
            json!({
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": "not you",
                "reason": "Forbidden",
                "code": 403,
            })
        );
    }

    #[test]
    fn every_code_has_the_reason_that_kubernetes_gives_it() {
        let replies = [
            (StatusReply::bad_request("m"), 400, Some("BadRequest")),
            (StatusReply::unauthorized("m"), 401, Some("Unauthorized")),
            (StatusReply::forbidden("m"), 403, Some("Forbidden")),
            (StatusReply::not_found("m"), 404, Some("NotFound")),
            (
                StatusReply::method_not_allowed("m"),
                405,
                Some("MethodNotAllowed"),
            ),
            (
                StatusReply::payload_too_large("m"),
                413,
                Some("RequestEntityTooLarge"),
            ),
            (
                StatusReply::too_many_requests("m", 1),
                429,
                Some("TooManyRequests"),
            ),
            (StatusReply::headers_too_large("m"), 431, None),
            (StatusReply::internal_error("m"), 500, Some("InternalError")),
            (StatusReply::bad_gateway("m"), 502, None),
            (
                StatusReply::service_unavailable("m", None),
                503,
                Some("ServiceUnavailable"),
            ),
            (StatusReply::gateway_timeout("m"), 504, Some("Timeout")),
        ];
        for (reply, code, reason) in replies {
            let body = body(&reply);
            assert_eq!(body["code"], json!(code));
            assert_eq!(body.get("reason").and_then(Value::as_str), reason, "{code}");
            assert_eq!(reply.into_response::<Vec<u8>>().status(), code);
        }
    }

    #[test]
    fn waiting_time_stands_in_header_and_details() {
        let reply =
            StatusReply::service_unavailable("draining", Some(2)).with_details(StatusDetails {
                name: Some("managed".to_owned()),
                ..StatusDetails::default()
            });
        assert_eq!(
            body(&reply)["details"],
            json!({"name": "managed", "retryAfterSeconds": 2})
        );
        let response = reply.into_response::<Vec<u8>>();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }

    #[test]
    fn nothing_asks_for_a_retry_unless_told() {
        let response = StatusReply::service_unavailable("away", None).into_response::<Vec<u8>>();
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn refused_token_is_answered_in_the_same_bytes_every_time() {
        let first = StatusReply::token_not_accepted().into_response::<Vec<u8>>();
        let second = StatusReply::token_not_accepted().into_response::<Vec<u8>>();
        assert_eq!(first.body(), second.body());
        assert_eq!(first.headers(), second.headers());
        assert_eq!(first.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(first.headers()[CONTENT_TYPE], "application/json");
    }
}
