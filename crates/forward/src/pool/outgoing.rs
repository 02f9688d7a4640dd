//! A request on its way out: kept until a connection has taken it for good.

use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, request};
use http_body::Body as _;

use super::http2;
use super::upload::Upload;
use crate::body::{Body, BodyError};

/// Where a pool's requests go, as the requests say it: `scheme://authority`.
#[derive(Clone, Debug)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
}

impl Origin {
    /// This origin's scheme under another authority.
    fn named(self, authority: Authority) -> Self {
        match HeaderValue::from_str(authority.as_str()) {
            Ok(host) => Self {
                authority,
                host,
                ..self
            },
            Err(_) => self,
        }
    }

    /// An origin; `authority` is `host` or `host:port` and becomes `Host` or `:authority`.
    ///
    /// # Errors
    /// When `authority` is none.
    pub fn https(authority: &str) -> Result<Self, http::Error> {
        Self::new(Scheme::HTTPS, authority)
    }

    /// As [`Origin::https`], without encryption.
    ///
    /// # Errors
    /// When `authority` is none.
    pub fn http(authority: &str) -> Result<Self, http::Error> {
        Self::new(Scheme::HTTP, authority)
    }

    fn new(scheme: Scheme, authority: &str) -> Result<Self, http::Error> {
        let host = HeaderValue::from_str(authority)?;
        Ok(Self {
            scheme,
            authority: authority.parse()?,
            host,
        })
    }
}

/// A request that may have to be tried more than once.
#[derive(Debug)]
pub(crate) struct Outgoing {
    origin: Origin,
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    /// The body, while it is here; absent when the request has none or a task is sending it.
    pub(crate) upload: Option<Upload>,
}

impl Outgoing {
    /// Takes a request whose hop-by-hop fields are gone already. An authority in its URI stands in
    /// place of the origin's; its `Host` does not.
    pub(crate) fn new(request: Request<Body>, origin: Origin) -> Self {
        let (
            request::Parts {
                method,
                uri,
                mut headers,
                ..
            },
            body,
        ) = request.into_parts();
        // The caller says who is asked; a client's Host header must not say something else.
        headers.remove(header::HOST);
        let uri = uri.into_parts();
        let origin = match uri.authority {
            Some(authority) => origin.named(authority),
            None => origin,
        };
        let target = uri
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        let upload = (!body.is_end_stream()).then(|| Upload::new(body));
        Self {
            origin,
            method,
            target,
            headers,
            upload,
        }
    }

    pub(crate) fn expects_continue(&self) -> bool {
        self.headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }

    /// Whether another try would send all of it.
    pub(crate) fn is_replayable(&self, had_body: bool) -> bool {
        !had_body || self.upload.as_ref().is_some_and(Upload::is_replayable)
    }

    /// The head for HTTP/2.
    pub(crate) fn http2_head(&self) -> Result<Request<()>, String> {
        let uri = Uri::builder()
            .scheme(self.origin.scheme.clone())
            .authority(self.origin.authority.clone())
            .path_and_query(self.target.clone())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(http2::head(&self.method, uri, self.headers.clone()))
    }

    /// The request for HTTP/1.1, with an origin-form target. `None` when part of the body has been
    /// sent elsewhere.
    pub(crate) fn http1_request(&mut self) -> Option<Request<Body>> {
        let body = match self.upload.take() {
            None => Body::empty(),
            Some(upload) if upload.is_untouched() => upload.into_body(),
            Some(started) => {
                self.upload = Some(started);
                return None;
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = self.headers.clone();
        request
            .headers_mut()
            .insert(header::HOST, self.origin.host.clone());
        Some(request)
    }
}

/// How one try failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection had closed before anything was sent on it.
    Closed {
        cause: String,
    },
    /// The peer has certainly not processed it.
    Unseen {
        cause: String,
    },
    /// The peer may have processed it.
    Broken {
        cause: String,
    },
    HeadTimedOut {
        after: Duration,
    },
    RequestBody {
        source: BodyError,
    },
    Malformed {
        cause: String,
    },
}
