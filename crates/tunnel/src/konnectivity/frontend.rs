//! A konnectivity client at the proxy-server (`ProxyService.Proxy`): one gRPC stream for each
//! connection. HTTP/2's flow control of that stream is the connection's own, so that nothing is
//! queued here but one message, and no task stands between the stream and its user.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::client_stream::{ClientAction, ClientEvent, ClientStream};
use cluster_proxy_konnectivity_wire::server_table::CloseReason;
use cluster_proxy_konnectivity_wire::{ConnectId, PeerText, framing};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::time::Sleep;

use super::dial_words;
use super::grpc::{self, Status};
use super::inbox::{Inbox, Received};
use super::packet_counts::Segment;
use crate::dial_error::DialError;

mod pipe;

pub(crate) use pipe::ClientPipe;

/// Both halves of a client's stream.
#[derive(Debug)]
struct Stream {
    machine: ClientStream,
    inbox: Inbox,
    send: SendStream<Bytes>,
    /// What the client wants dialled, once.
    address: Option<String>,
    /// Bytes of one message at most.
    data: VecDeque<Bytes>,
    /// The client wants the connection ended, and waits for that.
    closing: bool,
    /// The client is gone.
    gone: bool,
    /// The last word to the client is said.
    finished: bool,
    strays: usize,
}

impl Stream {
    /// Takes the next packet.
    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let event = match ready!(self.inbox.poll_next(cx)) {
            Ok(Received::Packet(packet)) => ClientEvent::Client(packet),
            Ok(Received::End(_)) | Err(_) => {
                self.gone = true;
                ClientEvent::ClientGone
            }
        };
        self.handle(event);
        Poll::Ready(())
    }

    fn handle(&mut self, event: ClientEvent) {
        let mut actions = Vec::new();
        self.machine.handle(event, &mut actions);
        for action in actions {
            match action {
                // Fails only when the stream is gone, which the inbox tells.
                ClientAction::Send(packet) => {
                    let _ = self.send.send_data(framing::frame(&packet), false);
                    Segment::ToClient.count(&packet);
                }
                ClientAction::Dial { address } => self.address = Some(address),
                ClientAction::Data { data } => self.data.push_back(data),
                ClientAction::Close => self.closing = true,
                ClientAction::Gone => self.gone = true,
                ClientAction::Finish => {
                    self.finished = true;
                    let _ = self.send.send_trailers(grpc::trailers(Status::Ok, ""));
                }
                ClientAction::Count(stray) => {
                    tracing::trace!(stray = stray.as_str(), "konnectivity: not obeyed");
                    self.strays += 1;
                    if self.strays > MAX_STRAYS {
                        self.send.send_reset(Reason::ENHANCE_YOUR_CALM);
                        self.gone = true;
                        self.finished = true;
                    }
                }
            }
        }
    }
}

/// A client that has not said yet what it wants dialled, or waits for the answer. Dropped, its
/// stream is reset.
#[derive(Debug)]
pub(crate) struct PendingClient {
    stream: Stream,
    address: String,
    patience: Option<Pin<Box<Sleep>>>,
}

impl PendingClient {
    /// Takes a call of `ProxyService.Proxy`; `None` when the client is gone already. It is waited
    /// for what it wants dialled for `limit`.
    pub(crate) fn of_call(
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        limit: Duration,
    ) -> Option<Self> {
        let send = respond.send_response(grpc::response(), false).ok()?;
        Some(Self {
            stream: Stream {
                machine: ClientStream::default(),
                inbox: Inbox::new(request.into_body(), Segment::FromClient),
                send,
                address: None,
                data: VecDeque::new(),
                closing: false,
                gone: false,
                finished: false,
                strays: 0,
            },
            address: String::new(),
            patience: Some(Box::pin(tokio::time::sleep(limit))),
        })
    }

    /// Refuses a call of a client that has too many waiting.
    pub(crate) fn refuse_call(respond: &mut SendResponse<Bytes>) {
        let why = "too many calls that have not said what they want dialled";
        grpc::refuse(respond, Status::ResourceExhausted, why);
    }

    /// What the client wants dialled; `None` when it is gone or too slow.
    pub(crate) fn poll_address(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        loop {
            if let Some(address) = self.stream.address.take() {
                self.patience = None;
                self.address.clone_from(&address);
                return Poll::Ready(Some(address));
            }
            if self.stream.gone || self.stream.finished {
                return Poll::Ready(None);
            }
            if self.stream.poll_packet(cx).is_pending() {
                let Some(patience) = &mut self.patience else {
                    return Poll::Pending;
                };
                ready!(patience.as_mut().poll(cx));
                return Poll::Ready(None);
            }
        }
    }

    pub(crate) fn accept(mut self) -> io::Result<ClientPipe> {
        if self.stream.gone {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let connect = ONLY_CONNECTION;
        self.stream.handle(ClientEvent::Dialled { connect });
        Ok(ClientPipe::new(self.stream))
    }

    pub(crate) fn refuse(mut self, error: &DialError) {
        let why = dial_words::wording(error, &self.address);
        self.stream.handle(ClientEvent::Refused { why });
    }

    /// Ready when the client does not wait any more.
    pub(crate) fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.stream.gone || self.stream.finished {
                return Poll::Ready(());
            }
            ready!(self.stream.poll_packet(cx));
        }
    }
}

/// A stream carries one connection: the number is only ever compared within it.
const ONLY_CONNECTION: ConnectId = match ConnectId::new(1) {
    Some(connect) => connect,
    None => unreachable!(),
};

/// Races explain a handful on one connection; each may be answered, and what is sent so waits in
/// memory for a client that reads nothing.
const MAX_STRAYS: usize = 256;

fn broke() -> CloseReason {
    CloseReason::Failed(PeerText::new("the tunnelled connection was cut"))
}
