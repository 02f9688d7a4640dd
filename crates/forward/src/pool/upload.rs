//! A request body on its way to the peer.
//!
//! The body is read only as fast as the peer takes it. What has been sent is kept up to a bound, so
//! that a request which the peer refused unprocessed can be sent again whole.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body as _;

use super::connection::Connection;
use super::settings::{MAX_REPLAY, MAX_SEND_BUFFER};
use crate::body::{Body, BodyError, clean_trailers};

/// A request body, and as much of it as may have to be sent again.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Body,
    sent: Vec<Bytes>,
    sent_bytes: usize,
    trailers: Option<HeaderMap>,
    /// The body has been read to its end.
    ended: bool,
    /// Why the body broke off, if it did.
    failure: Option<BodyError>,
}

impl Upload {
    pub(crate) const fn new(body: Body) -> Self {
        Self {
            body,
            sent: Vec::new(),
            sent_bytes: 0,
            trailers: None,
            ended: false,
            failure: None,
        }
    }

    /// Whether all that was taken from the body is still here.
    pub(crate) const fn is_replayable(&self) -> bool {
        self.sent_bytes <= MAX_REPLAY && self.failure.is_none()
    }

    pub(crate) const fn is_untouched(&self) -> bool {
        self.sent.is_empty() && !self.ended && self.failure.is_none()
    }

    pub(crate) const fn take_failure(&mut self) -> Option<BodyError> {
        self.failure.take()
    }

    /// The body itself, once it is known that nothing was taken from it.
    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    /// Sends the body, from its first byte, until its end or the stream's.
    pub(crate) async fn send(
        mut self,
        mut stream: SendStream<Bytes>,
        connection: Arc<Connection>,
    ) -> Self {
        // Refusals leave the state as it is: the request's answer says what became of it.
        let _ = self.send_all(&mut stream, &connection).await;
        self
    }

    async fn send_all(
        &mut self,
        stream: &mut SendStream<Bytes>,
        connection: &Arc<Connection>,
    ) -> Result<(), StreamClosed> {
        for index in 0..self.sent.len() {
            let chunk = self.sent[index].clone();
            send_chunk(stream, chunk, false, connection).await?;
        }
        while !self.ended {
            match self.next_frame(stream).await? {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.ended = self.body.is_end_stream();
                        self.keep(&data);
                        if !data.is_empty() {
                            let last = self.ended;
                            send_chunk(stream, data, last, connection).await?;
                            if last {
                                return Ok(());
                            }
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.trailers = Some(clean_trailers(trailers));
                            self.ended = true;
                        }
                    }
                },
                Some(Err(error)) => {
                    self.failure = Some(error);
                    // Not CANCEL: a body cut short must not read as a whole one anywhere.
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Err(StreamClosed);
                }
                None => self.ended = true,
            }
        }
        match &self.trailers {
            Some(trailers) => stream
                .send_trailers(trailers.clone())
                .map_err(|_| StreamClosed),
            None => stream
                .send_data(Bytes::new(), true)
                .map_err(|_| StreamClosed),
        }
    }

    /// The next frame of the body, unless the peer closes the stream first.
    async fn next_frame(
        &mut self,
        stream: &mut SendStream<Bytes>,
    ) -> Result<Option<Result<http_body::Frame<Bytes>, BodyError>>, StreamClosed> {
        poll_fn(|context| {
            if stream.poll_reset(context).is_ready() {
                return Poll::Ready(Err(StreamClosed));
            }
            Pin::new(&mut self.body).poll_frame(context).map(Ok)
        })
        .await
    }

    fn keep(&mut self, data: &Bytes) {
        self.sent_bytes = self.sent_bytes.saturating_add(data.len());
        if self.sent_bytes <= MAX_REPLAY {
            self.sent.push(data.clone());
        } else {
            // Beyond the bound there is no second try; free what was kept for it.
            self.sent = Vec::new();
        }
    }
}

/// The peer, or the connection, takes no more of this body.
#[derive(Debug)]
struct StreamClosed;

async fn send_chunk(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
    connection: &Arc<Connection>,
) -> Result<(), StreamClosed> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(MAX_SEND_BUFFER));
        let capacity = match stream.capacity() {
            0 => wait_for_capacity(stream, connection).await?,
            available => available,
        };
        let part = data.split_to(capacity.min(data.len()));
        let end = last && data.is_empty();
        stream.send_data(part, end).map_err(|_| StreamClosed)?;
    }
    Ok(())
}

/// Waits until the peer takes more. A peer that takes nothing for a while marks its connection, so
/// that other requests avoid it.
async fn wait_for_capacity(
    stream: &mut SendStream<Bytes>,
    connection: &Arc<Connection>,
) -> Result<usize, StreamClosed> {
    let mut stall = None;
    let mut patience = std::pin::pin!(tokio::time::sleep(STALLED_AFTER));
    poll_fn(|context| {
        loop {
            match stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(0))) => {}
                Poll::Ready(Some(Ok(capacity))) => return Poll::Ready(Ok(capacity)),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(StreamClosed)),
                Poll::Pending => break,
            }
        }
        if stall.is_none() && patience.as_mut().poll(context).is_ready() {
            stall = Some(connection.stall());
        }
        Poll::Pending
    })
    .await
}

/// After which an upload that cannot move counts its connection as stalled.
const STALLED_AFTER: Duration = Duration::from_millis(200);
