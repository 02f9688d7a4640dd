//! What an early answer leaves of its request's body.
//!
//! An answer that comes before its request's end is followed by RST_STREAM(NO_ERROR) (RFC 9113
//! section 8.1) or by the connection's end (RFC 9112 section 9.6). Clients that are just sending
//! take that for an error and never show the answer: with a short body curl 7.88 fails more often
//! than not. So the rest of a short body is read first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

/// A request's body as hyper reads it, which leaves what nobody read to [`Unread`].
#[derive(Debug)]
pub(crate) struct Reading {
    incoming: Option<Incoming>,
    left: Option<Unread>,
}

impl Reading {
    pub(crate) fn new(incoming: Incoming, left: Option<Unread>) -> Self {
        Self {
            incoming: Some(incoming),
            left,
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(left) = &self.left
            && !self.is_end_stream()
        {
            *left.lock() = self.incoming.take();
        }
    }
}

/// The place for a body that was dropped before its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    /// For a request whose body comes unasked. One that waits to be asked for
    /// (RFC 9110 section 10.1.1) would be asked for by reading it.
    pub(crate) fn of(request: &Request<Incoming>) -> Option<Self> {
        let comes = !request.body().is_end_stream();
        (comes && !request.headers().contains_key(header::EXPECT)).then(Self::default)
    }

    /// Reads what is left, at most [`MOST`] bytes and for [`LIMIT`]; what is longer is given up.
    pub(crate) async fn discard(&self) {
        let left = self.lock().take();
        if let Some(mut incoming) = left {
            let reading = async {
                let mut bytes = 0;
                while bytes <= MOST
                    && let Some(Ok(frame)) = incoming.frame().await
                {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
            };
            // Whether it came to its end makes no difference to the answer.
            let _ = timeout(LIMIT, reading).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More than an object that somebody applies by hand has; less than anybody minds to read in vain.
const MOST: usize = 64 * 1024;

/// A round trip to the other side of the world, and a lost packet. By so much a client that sends
/// nothing delays the answer about itself.
const LIMIT: Duration = Duration::from_secs(1);
