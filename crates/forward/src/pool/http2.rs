//! One request on an HTTP/2 connection, on raw `h2`.
//!
//! hyper's client hides what a proxy must know: which failures prove that the peer never saw the
//! request, and whether a body ended or was cut.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, ResponseFuture};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::connection::{Connection, PeerLimits, Slot, Transport};
use super::outgoing::{Failure, Outgoing};
use super::settings::{
    Class, DATA_FRAME_BUDGET, MAX_FRAME_SIZE, MAX_HEADER_LIST, MAX_INTERIM_ANSWERS,
    MAX_SEND_BUFFER, PoolSettings, STREAMS_BEFORE_SETTINGS, connection_window,
};
use super::traffic::Counted;
use super::upload::Upload;
use crate::body::{Body, BodyError, clean_trailers};

/// The client half and the frames of a new connection.
pub(crate) type Handshake<Io> = (
    client::SendRequest<Bytes>,
    client::Connection<Counted<Io>, Bytes>,
);

/// Starts HTTP/2 on `io`.
pub(crate) async fn handshake<Io>(
    io: Counted<Io>,
    class: Class,
    settings: &PoolSettings,
) -> Result<Handshake<Io>, h2::Error>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let window = class.stream_window();
    client::Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(connection_window(settings.max_streams, window))
        .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
        .max_frame_size(MAX_FRAME_SIZE)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .data_frame_budget(DATA_FRAME_BUDGET)
        .enable_push(false)
        .handshake(io)
        .await
}

/// Makes the transport and the shared view of the peer's limits.
pub(crate) fn transport(sender: client::SendRequest<Bytes>) -> (Transport, Arc<PeerLimits>) {
    let limits = Arc::new(PeerLimits::default());
    (
        Transport::Http2 {
            sender,
            limits: Arc::clone(&limits),
        },
        limits,
    )
}

/// Sends `outgoing` on `slot` and waits for the answer's head, for `head_timeout` at most.
pub(crate) async fn exchange(
    slot: Slot,
    sender: &client::SendRequest<Bytes>,
    outgoing: &mut Outgoing,
    settings: &PoolSettings,
    tasks: &TaskTracker,
    head_timeout: Option<Duration>,
) -> Result<Response<Body>, Failure> {
    let connection = Arc::clone(slot.connection());
    let written_before = connection.traffic.written();
    let request = outgoing
        .http2_head()
        .map_err(|cause| Failure::Malformed { cause })?;
    let without_body = outgoing.upload.is_none();
    let (mut answer, stream) = match sender.clone().send_request(request, without_body) {
        Ok(sent) => sent,
        Err(error) => return Err(not_sent(&connection, &error)),
    };

    let mut body = Uploading::new(outgoing, stream, Arc::clone(&connection), settings, tasks);
    let deadline = head_timeout.map(|after| (Instant::now() + after, after));
    let head = wait_for_head(&mut answer, &mut body, deadline).await;
    match head {
        Ok(response) => {
            let (mut parts, content) = response.into_parts();
            parts.version = Version::HTTP_11;
            let upload = body.into_running();
            let mut content = Http2Body::new(content, slot, upload, &parts.headers);
            content.gather().await;
            Ok(Response::from_parts(parts, Body::from_http2(content)))
        }
        Err(HeadError::TimedOut { after }) => Err(Failure::HeadTimedOut { after }),
        Err(HeadError::InterimFlood) => Err(Failure::Broken {
            cause: format!("more than {MAX_INTERIM_ANSWERS} interim answers"),
        }),
        Err(HeadError::Stream(error)) => {
            outgoing.upload = body.take_back().await;
            if let Some(source) = outgoing.upload.as_mut().and_then(Upload::take_failure) {
                return Err(Failure::RequestBody { source });
            }
            let unsent = error.is_io() && connection.traffic.written() == written_before;
            if error.is_go_away() || error.is_io() {
                connection.close();
            }
            Err(if unsent {
                Failure::Closed {
                    cause: error.to_string(),
                }
            } else if never_processed(&error) {
                Failure::Unseen {
                    cause: error.to_string(),
                }
            } else {
                Failure::Broken {
                    cause: error.to_string(),
                }
            })
        }
    }
}

/// A request that h2 did not take: the connection is closing, or the request is no HTTP/2.
fn not_sent(connection: &Arc<Connection>, error: &h2::Error) -> Failure {
    if error.is_go_away() || error.is_io() || error.is_reset() || error.reason().is_some() {
        connection.close();
        Failure::Closed {
            cause: error.to_string(),
        }
    } else {
        Failure::Malformed {
            cause: error.to_string(),
        }
    }
}

/// RFC 9113 section 8.7: REFUSED_STREAM, and GOAWAY for streams above its last one, promise that
/// the request was not processed. h2 gives a stream the peer's GOAWAY only in that second case.
fn never_processed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

enum HeadError {
    Stream(h2::Error),
    TimedOut { after: Duration },
    InterimFlood,
}

/// Waits for the final answer's head; interim ones are counted and, if 100, start the body.
async fn wait_for_head(
    answer: &mut ResponseFuture,
    body: &mut Uploading<'_>,
    deadline: Option<(Instant, Duration)>,
) -> Result<Response<RecvStream>, HeadError> {
    let mut interim = 0_usize;
    let head = poll_fn(|context| {
        loop {
            match answer.poll_informational(context) {
                Poll::Ready(Some(Ok(response))) => {
                    interim += 1;
                    if interim > MAX_INTERIM_ANSWERS {
                        return Poll::Ready(Err(HeadError::InterimFlood));
                    }
                    if response.status() == StatusCode::CONTINUE {
                        body.start();
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(HeadError::Stream(error)));
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Poll::Ready(result) = Pin::new(&mut *answer).poll(context) {
            return Poll::Ready(result.map_err(HeadError::Stream));
        }
        body.poll_patience(context);
        Poll::Pending
    });
    match deadline {
        None => head.await,
        Some((at, after)) => tokio::time::timeout_at(at, head)
            .await
            .unwrap_or(Err(HeadError::TimedOut { after })),
    }
}

/// A request body that is held back (`Expect: 100-continue`), being sent, or absent.
struct Uploading<'a> {
    tasks: &'a TaskTracker,
    connection: Arc<Connection>,
    held: Option<Held>,
    running: Option<AbortOnDropHandle<Upload>>,
}

struct Held {
    upload: Upload,
    stream: h2::SendStream<Bytes>,
    patience: Pin<Box<tokio::time::Sleep>>,
}

impl<'a> Uploading<'a> {
    fn new(
        outgoing: &mut Outgoing,
        stream: h2::SendStream<Bytes>,
        connection: Arc<Connection>,
        settings: &PoolSettings,
        tasks: &'a TaskTracker,
    ) -> Self {
        let mut this = Self {
            tasks,
            connection,
            held: None,
            running: None,
        };
        if let Some(upload) = outgoing.upload.take() {
            if outgoing.expects_continue() && upload.is_untouched() {
                let patience = Box::pin(sleep(settings.expect_timeout));
                this.held = Some(Held {
                    upload,
                    stream,
                    patience,
                });
            } else {
                this.run(upload, stream);
            }
        }
        this
    }

    fn start(&mut self) {
        if let Some(Held { upload, stream, .. }) = self.held.take() {
            self.run(upload, stream);
        }
    }

    fn run(&mut self, upload: Upload, stream: h2::SendStream<Bytes>) {
        let task = self
            .tasks
            .spawn(upload.send(stream, Arc::clone(&self.connection)));
        self.running = Some(AbortOnDropHandle::new(task));
    }

    /// Starts a held body when the peer has said nothing for long enough.
    fn poll_patience(&mut self, context: &mut Context<'_>) {
        if let Some(held) = &mut self.held
            && held.patience.as_mut().poll(context).is_ready()
        {
            self.start();
        }
    }

    /// A final answer is here. A body still held back is not sent any more.
    fn into_running(self) -> Option<AbortOnDropHandle<Upload>> {
        self.running
    }

    /// The stream has failed, which ends the task: takes the body back.
    async fn take_back(self) -> Option<Upload> {
        match (self.held, self.running) {
            (Some(held), _) => Some(held.upload),
            (None, Some(running)) => running.await.ok(),
            (None, None) => None,
        }
    }
}

/// An answer's content, read from its stream as fast as the client takes it.
#[derive(Debug)]
pub(crate) struct Http2Body {
    content: RecvStream,
    /// What comes next, already received.
    ahead: Option<Result<Bytes, BodyError>>,
    /// Bytes handed out whose window the peer gets back with the next read: what the client has
    /// not taken yet keeps the peer waiting.
    unreleased: usize,
    length: Option<u64>,
    phase: Phase,
    /// Frees the stream's place on its connection.
    slot: Option<Slot>,
    /// Stops sending the request's body when the answer is over or nobody reads it.
    upload: Option<AbortOnDropHandle<Upload>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Data,
    Trailers,
    Over,
}

impl Http2Body {
    fn new(
        content: RecvStream,
        slot: Slot,
        upload: Option<AbortOnDropHandle<Upload>>,
        headers: &HeaderMap,
    ) -> Self {
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let mut body = Self {
            content,
            ahead: None,
            unreleased: 0,
            length,
            phase: Phase::Data,
            slot: Some(slot),
            upload,
        };
        if body.content.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Waits a moment for the first piece and the end, before the head is sent on: of a short
    /// answer each would otherwise wake every hop on the way by itself. Go's servers send the
    /// three apart, some ten microseconds one after the other.
    async fn gather(&mut self) {
        for _ in 0..GATHER_TURNS {
            if self.ahead.is_none() {
                self.ahead = poll_fn(|context| match self.poll_data(context) {
                    Poll::Ready(next) => Poll::Ready(next),
                    Poll::Pending => Poll::Ready(None),
                })
                .await;
            }
            if self.phase != Phase::Data || self.content.is_end_stream() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn finish(&mut self) {
        self.phase = Phase::Over;
        self.upload = None;
        self.slot = None;
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && (self.phase == Phase::Over || self.content.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.length {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }

    pub(crate) fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.unreleased > 0 {
            // An error here means that the stream is closed, which the next read says better.
            let _ = this
                .content
                .flow_control()
                .release_capacity(this.unreleased);
            this.unreleased = 0;
        }
        let next = match this.ahead.take() {
            Some(next) => Some(next),
            None => ready!(this.poll_data(context)),
        };
        let data = match next {
            Some(Ok(data)) => data,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return this.poll_trailers(context),
        };
        this.unreleased = data.len();
        this.length = this
            .length
            .map(|left| left.saturating_sub(data.len() as u64));
        this.look_ahead(context);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    /// Whoever sends this on must know with the last piece that it is the last: the end would
    /// cost a frame, a record and a system call of its own at every hop. Peers in Go send it in a
    /// frame of its own, mostly in the same packet.
    fn look_ahead(&mut self, context: &mut Context<'_>) {
        match self.poll_data(context) {
            Poll::Ready(None) if self.content.is_end_stream() => self.finish(),
            Poll::Ready(next) => self.ahead = next,
            Poll::Pending => {}
        }
    }

    /// The next piece, `None` after the last.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while self.phase == Phase::Data {
            match ready!(self.content.poll_data(context)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Some(Ok(data))),
                Some(Err(error)) => {
                    self.finish();
                    return Poll::Ready(Some(Err(BodyError::from_h2(&error))));
                }
                None => self.phase = Phase::Trailers,
            }
        }
        Poll::Ready(None)
    }

    fn poll_trailers(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.phase != Phase::Trailers {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.content.poll_trailers(context));
        self.finish();
        Poll::Ready(match trailers {
            Ok(trailers) => trailers.map(|map| Ok(Frame::trailers(clean_trailers(map)))),
            Err(error) => Some(Err(BodyError::from_h2(&error))),
        })
    }
}

/// How often the sockets are looked at again for the rest of a short answer; each look takes a
/// microsecond or two.
const GATHER_TURNS: usize = 4;

/// The request head that h2 sends: an absolute URI becomes the pseudo-header fields.
pub(crate) fn head(method: &http::Method, uri: http::Uri, headers: HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    request
}
