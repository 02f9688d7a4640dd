//! One body type for both directions.
//!
//! A body is handed on frame by frame: nothing is gathered, and the sender's flow-control window
//! reopens only when a frame has been taken out here. A body that was cut is always an error,
//! never a short but clean end (RFC 9113 section 8.1, RFC 9112 section 8): who receives the error
//! resets its HTTP/2 stream or breaks its chunked HTTP/1.1 message, so that truncation stays
//! visible over every hop.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::pool::{Http1Body, Http2Body};
use crate::server::unread::{Reading, Unread};

/// A request's or response's content, with its trailers.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Full(Option<Bytes>),
    /// A request read by our own server. `http2` decides how its end is checked.
    Request {
        reading: Reading,
        http2: bool,
    },
    Http1(Http1Body),
    Http2(Http2Body),
}

impl Body {
    /// A body without content.
    pub const fn empty() -> Self {
        Self { kind: Kind::Empty }
    }

    /// A body that is in memory already, such as an error message of ours.
    pub fn full(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        if content.is_empty() {
            return Self::empty();
        }
        Self {
            kind: Kind::Full(Some(content)),
        }
    }

    /// The body of a request that hyper's server read; `version` is that request's. What is dropped
    /// of it before its end is left to `unread`.
    pub(crate) fn from_request(
        incoming: Incoming,
        version: Version,
        unread: Option<Unread>,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self {
            kind: Kind::Request {
                reading: Reading::new(incoming, unread),
                http2: version == Version::HTTP_2,
            },
        }
    }

    pub(crate) fn from_http1(body: Http1Body) -> Self {
        Self {
            kind: Kind::Http1(body),
        }
    }

    pub(crate) fn from_http2(body: Http2Body) -> Self {
        Self {
            kind: Kind::Http2(body),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(content) => Poll::Ready(content.take().map(|data| Ok(Frame::data(data)))),
            Kind::Request { reading, http2 } => {
                let frame = ready!(reading.poll_frame(context));
                Poll::Ready(match frame {
                    Some(Ok(frame)) => Some(Ok(frame)),
                    Some(Err(source)) => Some(Err(BodyError::Http { source })),
                    // hyper takes RST_STREAM(NO_ERROR) for the end of a body; only END_STREAM is.
                    None if *http2 && !reading.is_end_stream() => Some(Err(BodyError::CutShort)),
                    None => None,
                })
            }
            Kind::Http1(body) => Pin::new(body).poll_frame(context),
            Kind::Http2(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(content) => content.is_none(),
            Kind::Request { reading, .. } => reading.is_end_stream(),
            Kind::Http1(body) => body.is_end_stream(),
            Kind::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |data| data.len() as u64))
            }
            Kind::Request { reading, .. } => reading.size_hint(),
            Kind::Http1(body) => body.size_hint(),
            Kind::Http2(body) => body.size_hint(),
        }
    }
}

/// Why a body did not reach its end.
///
/// No variant carries an `h2::Error`: hyper's server would copy its code onto the stream it is
/// writing, and a code of `NO_ERROR` or `CANCEL` there reads as a clean end to some clients.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The HTTP/2 peer reset the stream before END_STREAM.
    #[error("the peer reset the stream before its end ({reason})")]
    Reset {
        /// The HTTP/2 error code's name (RFC 9113 section 7).
        reason: &'static str,
    },
    /// The connection under the stream ended or broke.
    #[error("the connection broke before the end of the body: {cause}")]
    Broken {
        /// What the connection said.
        cause: String,
    },
    /// hyper could not read the message to its end.
    #[error("the message broke before the end of its body")]
    Http {
        /// What hyper said.
        #[source]
        source: hyper::Error,
    },
    /// The stream was closed without an error code and without its end.
    #[error("the stream was closed before the end of the body")]
    CutShort,
}

impl BodyError {
    pub(crate) fn from_h2(error: &h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset {
                reason: reason_name(reason),
            },
            _ => Self::Broken {
                cause: error.to_string(),
            },
        }
    }
}

/// The name of an HTTP/2 error code, for logs and messages.
pub(crate) fn reason_name(reason: h2::Reason) -> &'static str {
    match reason {
        h2::Reason::NO_ERROR => "NO_ERROR",
        h2::Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        h2::Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
        h2::Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        h2::Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
        h2::Reason::STREAM_CLOSED => "STREAM_CLOSED",
        h2::Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        h2::Reason::REFUSED_STREAM => "REFUSED_STREAM",
        h2::Reason::CANCEL => "CANCEL",
        h2::Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        h2::Reason::CONNECT_ERROR => "CONNECT_ERROR",
        h2::Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        h2::Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
        h2::Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
        _ => "unknown code",
    }
}

/// Trailers that may be handed on: hop-by-hop fields and framing have no meaning there
/// (RFC 9110 section 6.5.1).
pub(crate) fn clean_trailers(mut trailers: HeaderMap) -> HeaderMap {
    crate::headers::remove_hop_by_hop(&mut trailers);
    trailers.remove(http::header::CONTENT_LENGTH);
    trailers.remove(http::header::HOST);
    trailers.remove(http::header::AUTHORIZATION);
    trailers
}
