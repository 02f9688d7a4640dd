//! One request on an HTTP/1.1 connection: for destinations without HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::connection::{Connection, Slot, Transport, return_sender, take_sender};
use super::outgoing::{Failure, Outgoing};
use super::traffic::Counted;
use super::upload::Upload;
use crate::body::{Body, BodyError};

/// The client half and the driver of a new connection.
pub(crate) type Handshake<Io> = (
    http1::SendRequest<Body>,
    http1::Connection<TokioIo<Counted<Io>>, Body>,
);

/// Starts HTTP/1.1 on `io`.
pub(crate) async fn handshake<Io>(io: Counted<Io>) -> Result<Handshake<Io>, hyper::Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(io))
        .await
}

/// Sends `outgoing` on `slot` and waits for the answer's head, for `head_timeout` at most.
pub(crate) async fn exchange(
    slot: Slot,
    outgoing: &mut Outgoing,
    head_timeout: Option<Duration>,
) -> Result<Response<Body>, Failure> {
    let connection = Arc::clone(slot.connection());
    // A request that ends early, cancelled or failed, leaves a connection that nobody can use.
    let mut unusable = Discard {
        connection: Some(&connection),
    };
    let closed = |cause: &str| Failure::Closed {
        cause: cause.to_owned(),
    };
    let Transport::Http1 { sender: place } = connection.transport() else {
        return Err(closed("not an HTTP/1.1 connection"));
    };
    let Some(mut sender) = take_sender(place) else {
        return Err(closed("the kept connection was given up"));
    };
    if sender.ready().await.is_err() {
        return Err(closed("the kept connection had closed"));
    }
    let Some(request) = outgoing.http1_request() else {
        return Err(Failure::Broken {
            cause: "the body was partly sent elsewhere".to_owned(),
        });
    };
    let had_body = !request.body().is_end_stream();

    let answer = sender.try_send_request(request);
    let answer = match head_timeout {
        None => answer.await,
        Some(after) => match timeout(after, answer).await {
            Ok(answer) => answer,
            Err(_elapsed) => return Err(Failure::HeadTimedOut { after }),
        },
    };
    match answer {
        Ok(response) => {
            let (mut parts, incoming) = response.into_parts();
            parts.version = Version::HTTP_11;
            return_sender(place, sender);
            unusable.connection = None;
            let body = Http1Body {
                incoming,
                slot: Some(slot),
            };
            Ok(Response::from_parts(parts, Body::from_http1(body)))
        }
        Err(mut error) => {
            let cause = error.error().to_string();
            // hyper gives back a request of which it has written nothing.
            match error.take_message() {
                Some(request) => {
                    if had_body {
                        outgoing.upload = Some(Upload::new(request.into_body()));
                    }
                    Err(Failure::Closed { cause })
                }
                None => Err(Failure::Broken { cause }),
            }
        }
    }
}

/// Makes the pool let go of a connection, unless the exchange on it went well.
struct Discard<'a> {
    connection: Option<&'a Arc<Connection>>,
}

impl Drop for Discard<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection {
            connection.close();
        }
    }
}

/// An answer's content on an HTTP/1.1 connection, which is free again at its end.
#[derive(Debug)]
pub(crate) struct Http1Body {
    incoming: Incoming,
    slot: Option<Slot>,
}

impl Http1Body {
    /// A body on a connection of its own.
    pub(crate) const fn alone(incoming: Incoming) -> Self {
        Self {
            incoming,
            slot: None,
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub(crate) fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) || self.incoming.is_end_stream() {
            self.slot = None;
        }
        Poll::Ready(frame.map(|result| result.map_err(|source| BodyError::Http { source })))
    }
}

/// What hyper buffers of an answer's head, in bytes: as much as an HTTP/2 header list may hold.
pub(crate) const MAX_BUFFER: usize = 256 << 10;
