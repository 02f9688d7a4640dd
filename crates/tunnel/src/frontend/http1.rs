//! A user that speaks HTTP/1.1: one CONNECT, after which the socket is the target's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Sleep, timeout};
use tokio_util::io::poll_read_buf;

use super::PROXY;
use super::head::{ConnectHead, HeadError};
use crate::client_socket::ClientSocket;
use crate::dial_error::DialError;
use crate::error::TunnelError;
use crate::incoming::IncomingConnect;
use crate::stream::SocketStream;

/// A connection whose request is still to come, or was taken.
pub(crate) struct Http1Frontend {
    state: State,
    patience: Pin<Box<Sleep>>,
    limit: Duration,
}

enum State {
    /// Bytes of the head so far.
    Reading(ClientSocket, BytesMut),
    /// The request is answered here.
    Answering(Pin<Box<dyn Future<Output = ()> + Send>>, HeadError),
    /// The socket is somebody else's, or gone.
    Done,
}

impl Http1Frontend {
    /// Over `socket`, of which `first` was read. It is waited for the head for `limit`, which is
    /// what a slow one has, however it comes.
    pub(super) fn new(socket: ClientSocket, first: BytesMut, limit: Duration) -> Self {
        Self {
            state: State::Reading(socket, first),
            patience: Box::pin(tokio::time::sleep(limit)),
            limit,
        }
    }

    /// Takes no request any more.
    pub(super) fn finish(&mut self) {
        if let State::Reading(..) = self.state {
            self.state = State::Done;
        }
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<IncomingConnect, TunnelError>> {
        loop {
            match &mut self.state {
                State::Done => return Poll::Ready(Err(TunnelError::Closed)),
                State::Answering(answer, why) => {
                    let error = violation(*why);
                    ready!(answer.as_mut().poll(cx));
                    self.state = State::Done;
                    return Poll::Ready(Err(error));
                }
                State::Reading(socket, read) => match ConnectHead::parse(read) {
                    Ok(Some(_)) | Err(_) => {}
                    Ok(None) => match poll_more(cx, socket, read) {
                        Poll::Ready(Ok(1..)) => continue,
                        Poll::Ready(end) => {
                            self.state = State::Done;
                            let end =
                                end.map_or_else(|error| broken(&error), |_| TunnelError::Closed);
                            return Poll::Ready(Err(end));
                        }
                        Poll::Pending => {
                            ready!(self.patience.as_mut().poll(cx));
                            self.state = State::Done;
                            return Poll::Ready(Err(TunnelError::TimedOut {
                                step: "the CONNECT request",
                                limit: self.limit,
                            }));
                        }
                    },
                },
            }
            if let Some(incoming) = self.take() {
                return Poll::Ready(Ok(incoming));
            }
        }
    }

    /// The request that was read, or the beginning of its answer.
    fn take(&mut self) -> Option<IncomingConnect> {
        let State::Reading(socket, mut read) = std::mem::replace(&mut self.state, State::Done)
        else {
            return None;
        };
        match ConnectHead::parse(&read) {
            Ok(head) => {
                let ConnectHead { target, length } = head?;
                read.advance(length);
                let connect = PendingConnect {
                    socket,
                    early: read,
                    ended: false,
                };
                Some(IncomingConnect::of_socket(target, connect))
            }
            Err(why) => {
                let mut headers = HeaderMap::new();
                if why == HeadError::Method {
                    headers.insert(header::ALLOW, HeaderValue::from_static("CONNECT"));
                }
                let answer = refusal(why.status(), &headers, &why.to_string());
                self.state = State::Answering(Box::pin(answer_and_close(socket, answer)), why);
                None
            }
        }
    }
}

impl std::fmt::Debug for Http1Frontend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1Frontend").finish_non_exhaustive()
    }
}

/// A client that waits for the answer to its CONNECT.
#[derive(Debug)]
pub(crate) struct PendingConnect {
    socket: ClientSocket,
    /// Sent after the head, before the answer: the target's.
    early: BytesMut,
    ended: bool,
}

impl PendingConnect {
    pub(crate) fn accept(self) -> SocketStream {
        let head = Bytes::from_static(ESTABLISHED);
        SocketStream::new(self.socket, self.early.freeze(), self.ended, head)
    }

    pub(crate) async fn refuse(self, error: &DialError) {
        let mut headers = HeaderMap::new();
        error.write_to(PROXY, &mut headers);
        let answer = refusal(error.status(), &headers, &error.to_string());
        answer_and_close(self.socket, answer).await;
    }

    /// Ready when the client does not wait any more: it broke off, or its Unix socket is closed. An
    /// end of its direction alone is the target's to know.
    pub(crate) fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.ended {
            if self.early.len() >= MAX_EARLY {
                return Poll::Pending;
            }
            match ready!(poll_more(cx, &mut self.socket, &mut self.early)) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        if matches!(self.socket, ClientSocket::Unix(_)) {
            return self.socket.poll_closed(cx);
        }
        Poll::Pending
    }
}

fn poll_more(
    cx: &mut Context<'_>,
    socket: &mut ClientSocket,
    read: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    read.reserve(READ);
    poll_read_buf(Pin::new(socket), cx, read)
}

/// A whole answer.
fn refusal(status: StatusCode, headers: &HeaderMap, text: &str) -> Bytes {
    let printable = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let mut text: String = text.chars().take(MAX_TEXT).map(printable).collect();
    text.push('\n');
    let reason = status.canonical_reason().unwrap_or_default();
    let mut answer = BytesMut::new();
    answer.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    answer.extend_from_slice(
        format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n",
            text.len()
        )
        .as_bytes(),
    );
    for (name, value) in headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(text.as_bytes());
    answer.freeze()
}

/// Says the last word, and waits for a moment until it was read: a socket that is closed with
/// unread bytes in it is reset, and the answer lost with it. Who is gone needs no answer.
async fn answer_and_close(mut socket: ClientSocket, answer: Bytes) {
    let closing = async {
        socket.write_all(&answer).await?;
        socket.shutdown().await?;
        let mut left = MAX_EARLY;
        let mut scrap = BytesMut::with_capacity(READ);
        while left > 0 {
            scrap.clear();
            match socket.read_buf(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(CLOSING_TIME, closing).await;
}

pub(super) fn broken(error: &io::Error) -> TunnelError {
    TunnelError::Protocol {
        protocol: "HTTP/1.1",
        details: format!("the connection broke off: {error}"),
    }
}

fn violation(why: HeadError) -> TunnelError {
    TunnelError::Protocol {
        protocol: "HTTP/1.1 CONNECT",
        details: why.to_string(),
    }
}

/// RFC 9110 section 9.3.6: no Content-Length and no body, what follows is the target's.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";

/// A head.
const READ: usize = 1024;

/// What a client may send before it has its answer: a TLS flight is much less.
const MAX_EARLY: usize = 64 * 1024;

/// A line for people.
const MAX_TEXT: usize = 512;

/// Who has the answer closes; others are not waited for.
const CLOSING_TIME: Duration = Duration::from_secs(2);
