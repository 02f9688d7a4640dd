//! Answers: JSON whole, or streams that go on until the client or the drain ends them.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use crate::failure::Failure;
use crate::query::Query;

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How JSON is written for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Compact,
    /// Indented, for people.
    Pretty,
}

impl Style {
    /// As asked for with `pretty`; otherwise by who asks, as the kube-apiserver does.
    pub(crate) fn of(query: &Query, headers: &HeaderMap) -> Self {
        let agent = headers
            .get(http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let person = ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|it| agent.starts_with(it));
        let pretty = match query.optional("pretty") {
            Some(_) => query.is_set("pretty"),
            None => person,
        };
        if pretty { Self::Pretty } else { Self::Compact }
    }
}

/// A JSON document.
pub(crate) fn json(code: StatusCode, document: &Value, style: Style) -> Response<Body> {
    let mut bytes = match style {
        Style::Compact => serde_json::to_vec(document),
        Style::Pretty => serde_json::to_vec_pretty(document),
    }
    .expect("a JSON value is always written");
    bytes.push(b'\n');
    let mut response = whole(bytes.into(), JSON);
    *response.status_mut() = code;
    response
}

/// Text for people.
pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    whole(text.into(), TEXT)
}

/// A refusal.
pub(crate) fn failure(failure: &Failure, style: Style) -> Response<Body> {
    json(failure.code(), &failure.to_status(), style)
}

/// JSON documents, or lines of text, one after the other.
pub(crate) fn stream(
    chunks: impl Stream<Item = Bytes> + Send + 'static,
    content_type: &'static str,
) -> Response<Body> {
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    respond(BodyExt::boxed_unsync(StreamBody::new(frames)), content_type)
}

/// Any document whole.
pub(crate) fn whole(bytes: Bytes, content_type: &'static str) -> Response<Body> {
    respond(Full::new(bytes).boxed_unsync(), content_type)
}

fn respond(body: Body, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
