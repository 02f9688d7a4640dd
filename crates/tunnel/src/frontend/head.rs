//! The head of a CONNECT request of HTTP/1.1 (RFC 9110 section 9.3.6).

use http::StatusCode;

use crate::target::{Target, TargetError};

/// A head that asks for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectHead {
    /// What is to be dialled.
    pub target: Target,
    /// Bytes of the head; those after it are the target's.
    pub length: usize,
}

impl ConnectHead {
    /// The head at the beginning of `bytes`; nothing if there is no whole one yet.
    ///
    /// # Errors
    ///
    /// When it is no CONNECT request, or longer than 16 KiB.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HeadError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLong),
            Err(_) => return Err(HeadError::Malformed),
        };
        if request.method != Some("CONNECT") {
            return Err(HeadError::Method);
        }
        if request.headers.iter().any(announces_body) {
            return Err(HeadError::Body);
        }
        let target = request.path.unwrap_or_default();
        let target = target.parse().map_err(HeadError::Target)?;
        Ok(Some(Self { target, length }))
    }
}

/// Bytes that one end takes for a body and the other for the target's must not exist.
fn announces_body(header: &httparse::Header<'_>) -> bool {
    header.name.eq_ignore_ascii_case("transfer-encoding")
        || (header.name.eq_ignore_ascii_case("content-length") && header.value != b"0")
}

/// Why bytes are no request for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not HTTP/1.
    #[error("this is no HTTP/1.1 request")]
    Malformed,
    /// A head beyond the limits.
    #[error("the head is longer than {} KiB or has more than {MAX_HEADERS} headers", MAX_HEAD / 1024)]
    TooLong,
    /// Another method.
    #[error("this proxy serves CONNECT and nothing else")]
    Method,
    /// A request that says it has a body.
    #[error("CONNECT has no body")]
    Body,
    /// Nothing that could be dialled.
    #[error("target: {0}")]
    Target(TargetError),
}

impl HeadError {
    /// The answer's status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Body | Self::Target(_) => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

/// The longest head that is read. Real ones have a hundred bytes; credentials for other proxies,
/// which some clients send along, some thousands.
const MAX_HEAD: usize = 16 * 1024;

/// Headers in a head.
const MAX_HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(String, usize)>, HeadError> {
        let parsed = ConnectHead::parse(text.as_bytes())?;
        Ok(parsed.map(|head| (head.target.to_string(), head.length)))
    }

    #[test]
    fn what_clients_send_is_understood() {
        for (head, target) in [
            (
                "CONNECT 10.0.0.1:10250 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                "10.0.0.1:10250",
            ),
            (
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nUser-Agent: curl/8.5.0\r\nProxy-Connection: Keep-Alive\r\n\r\n",
                "[::1]:443",
            ),
            ("CONNECT a.b:1 HTTP/1.0\r\n\r\n", "a.b:1"),
            ("CONNECT a:1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "a:1"),
        ] {
            let expected = Ok(Some((target.to_owned(), head.len())));
            assert_eq!(parse(head), expected, "{head:?}");
            assert_eq!(parse(&format!("{head}\r\nmore")), expected);
            for cut in 0..head.len() {
                assert_eq!(parse(&head[..cut]), Ok(None), "{cut} of {head:?}");
            }
        }
    }

    #[test]
    fn what_is_none_is_refused_with_a_status() {
        for (head, status) in [
            ("hello\r\n\r\n", 400),
            ("CONNECT a:1\r\n\r\n", 400),
            ("CONNECT a:1 HTTP/2.0\r\n\r\n", 400),
            ("CONNECT http://a:1/ HTTP/1.1\r\n\r\n", 400),
            ("CONNECT a HTTP/1.1\r\n\r\n", 400),
            ("CONNECT a:http HTTP/1.1\r\n\r\n", 400),
            ("CONNECT a:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400),
            (
                "CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            ("connect a:1 HTTP/1.1\r\n\r\n", 405),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            (
                "POST /ProxyService/Proxy HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
                405,
            ),
        ] {
            let error = parse(head).unwrap_err();
            assert_eq!(error.status().as_u16(), status, "{head:?}: {error}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("CONNECT a:1 HTTP/1.1\r\nA: {}", "b".repeat(MAX_HEAD));
        assert_eq!(parse(&long), Err(HeadError::TooLong));
        assert_eq!(parse(&format!("{long}\r\n\r\n")), Err(HeadError::TooLong));
        let many = format!("CONNECT a:1 HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        assert_eq!(parse(&many), Err(HeadError::TooLong));
        assert_eq!(HeadError::TooLong.status().as_u16(), 431);
    }
}
