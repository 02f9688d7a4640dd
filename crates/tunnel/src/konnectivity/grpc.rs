//! The little of gRPC over HTTP/2 that two streaming calls need (grpc.io, "gRPC over HTTP2").

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::headers::CONTENT_TYPE;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header};

use super::PROTOCOL;
use crate::error::TunnelError;

/// How a call ended, as far as it is sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
}

/// Whether `request` is a call of the method at `path`.
pub(crate) fn is_call<B>(request: &Request<B>, path: &str) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    request.method() == Method::POST
        && request.uri().path() == path
        && content_type.is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE.as_bytes()))
}

/// The head of a call to `path` of the server that is called `authority`.
pub(super) fn request(authority: &str, path: &str) -> Result<Request<()>, TunnelError> {
    let mut request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("https://{authority}{path}"))
        .body(())
        .map_err(|_| violation(&format!("no server is called {authority:?}")))?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

/// The head of an answer whose messages follow.
pub(super) fn response() -> Response<()> {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// What ends an answer.
pub(super) fn trailers(status: Status, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(status as u16));
    let printable = |c: char| {
        if (' '..='~').contains(&c) && c != '%' {
            c
        } else {
            '?'
        }
    };
    let message: String = message.chars().take(MAX_TEXT).map(printable).collect();
    if let Ok(message) = HeaderValue::from_str(&message)
        && !message.is_empty()
    {
        trailers.insert(GRPC_MESSAGE, message);
    }
    trailers
}

/// Answers a call with its status alone. Who is gone needs no answer.
pub(super) fn refuse(respond: &mut SendResponse<Bytes>, status: Status, message: &str) {
    let mut response = response();
    response.headers_mut().extend(trailers(status, message));
    let _ = respond.send_response(response, true);
}

/// Whether a call ended well, by its trailers or the head of an answer that has nothing else.
///
/// # Errors
///
/// What the server says, in one bounded line.
pub(super) fn outcome(trailers: &HeaderMap) -> Result<(), TunnelError> {
    let text = |name: &HeaderName| {
        let value = trailers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        String::from_utf8_lossy(&value[..value.len().min(MAX_TEXT)])
            .escape_debug()
            .to_string()
    };
    match text(&GRPC_STATUS).as_str() {
        "0" => Ok(()),
        "" => Err(violation("the stream ended without a status")),
        status => Err(TunnelError::Refused {
            reason: format!("gRPC status {status}: {}", text(&GRPC_MESSAGE)),
        }),
    }
}

pub(super) fn violation(details: &str) -> TunnelError {
    TunnelError::Protocol {
        protocol: PROTOCOL,
        details: details.to_owned(),
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A line for people.
const MAX_TEXT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_and_its_words_arrive() {
        assert!(outcome(&trailers(Status::Ok, "")).is_ok());
        let error = outcome(&trailers(Status::PermissionDenied, "no\n100%")).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("gRPC status 7: no?100?"), "{text}");
        assert_eq!(outcome(&HeaderMap::new()).unwrap_err().reason(), "protocol");
    }

    #[test]
    fn calls_are_told_by_method_path_and_content_type() {
        let call = request("a:1", "/S/M").unwrap();
        assert!(is_call(&call, "/S/M"));
        assert!(!is_call(&call, "/S/Other"));
        assert!(!is_call(
            &Request::post("https://a/S/M").body(()).unwrap(),
            "/S/M"
        ));
        assert!(request("a b", "/S/M").is_err());
    }
}
