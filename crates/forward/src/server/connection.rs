//! One accepted connection, driven by hyper.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::settings::{
    MAX_ERROR_RESETS, MAX_FRAME_SIZE, MAX_RESET_PENDING, MAX_SEND_BUFFER, ServerSettings,
};
use super::unread::Unread;
use super::{Client, Front};
use crate::body::Body;
use crate::connect::Protocol;
use cluster_proxy_runtime::drain::Drain;

/// Serves `io` until the client leaves, or `drain` has closed and its requests are over, or `drain`
/// ends.
pub(crate) async fn serve<F, Io>(
    io: Io,
    front: Arc<F>,
    client: Arc<Client<F::Peer>>,
    settings: &ServerSettings,
    drain: &Drain,
) where
    F: Front,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let protocol = client.protocol;
    let service = service_fn(move |request: Request<Incoming>| {
        let (front, client) = (Arc::clone(&front), Arc::clone(&client));
        async move {
            let version = request.version();
            let unread = Unread::of(&request);
            let left = unread.clone();
            let request = request.map(|incoming| Body::from_request(incoming, version, left));
            let response = front.answer(request, &client).await;
            if let Some(unread) = unread {
                unread.discard().await;
            }
            Ok::<_, Infallible>(response)
        }
    });
    match protocol {
        Protocol::Http1 => {
            let mut connection = pin!(
                http1_builder(settings)
                    .serve_connection(TokioIo::new(io), service)
                    .with_upgrades()
            );
            tokio::select! {
                result = &mut connection => log_end(result),
                () = drain.closing() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = &mut connection => log_end(result),
                        () = drain.ended() => {}
                    }
                }
            }
        }
        Protocol::Http2 => {
            let mut connection =
                pin!(http2_builder(settings, drain).serve_connection(TokioIo::new(io), service));
            tokio::select! {
                result = &mut connection => log_end(result),
                () = drain.closing() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = &mut connection => log_end(result),
                        () = drain.ended() => {}
                    }
                }
            }
        }
    }
}

fn http1_builder(settings: &ServerSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_read_timeout)
        .max_header_size(settings.max_header_size as usize)
        .max_buf_size(settings.max_header_size as usize);
    builder
}

fn http2_builder(settings: &ServerSettings, drain: &Drain) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks {
        drain: drain.clone(),
    });
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window())
        .max_concurrent_streams(settings.max_streams)
        .max_frame_size(MAX_FRAME_SIZE)
        .max_header_list_size(settings.max_header_size)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_RESET_PENDING)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(settings.keepalive)
        .keep_alive_timeout(settings.keepalive_timeout);
    builder
}

fn log_end(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "client connection ended");
    }
}

/// hyper's HTTP/2 streams as tasks of the drain.
#[derive(Clone)]
struct Tasks {
    drain: Drain,
}

impl<Task> Executor<Task> for Tasks
where
    Task: Future + Send + 'static,
    Task::Output: Send + 'static,
{
    fn execute(&self, task: Task) {
        // Not cut at the end by itself: it ends with its connection, which is.
        self.drain.spawn(task);
    }
}
