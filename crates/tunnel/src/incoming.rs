//! A connection that somebody asks for, whatever protocol asks.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode};

use crate::dial_error::DialError;
use crate::frontend::PendingConnect;
use crate::konnectivity::{DialRequest, PendingClient};
use crate::stream::TunnelStream;
use crate::target::Target;

/// A tunnelled connection that waits for its answer. Dropped without one, it is refused or reset.
#[derive(Debug)]
pub struct IncomingConnect {
    target: Target,
    asker: Asker,
}

#[derive(Debug)]
enum Asker {
    /// A CONNECT stream.
    Http2 {
        respond: SendResponse<Bytes>,
        recv: RecvStream,
        proxy: &'static str,
    },
    /// A konnectivity server, on an agent's stream.
    Server(DialRequest),
    /// A konnectivity client, on a stream of its own.
    Client(Box<PendingClient>),
    /// A client that has said CONNECT on a socket of its own.
    Socket(Box<PendingConnect>),
}

impl IncomingConnect {
    pub(crate) fn of_http2(
        target: Target,
        respond: SendResponse<Bytes>,
        recv: RecvStream,
        proxy: &'static str,
    ) -> Self {
        let asker = Asker::Http2 {
            respond,
            recv,
            proxy,
        };
        Self { target, asker }
    }

    pub(crate) fn of_agent(target: Target, request: DialRequest) -> Self {
        let asker = Asker::Server(request);
        Self { target, asker }
    }

    pub(crate) fn of_client(target: Target, client: PendingClient) -> Self {
        let asker = Asker::Client(Box::new(client));
        Self { target, asker }
    }

    pub(crate) fn of_socket(target: Target, connect: PendingConnect) -> Self {
        let asker = Asker::Socket(Box::new(connect));
        Self { target, asker }
    }

    /// What is to be dialled.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether konnectivity's gRPC asks, and not CONNECT.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        matches!(self.asker, Asker::Client(_))
    }

    /// Answers that the target is connected.
    ///
    /// # Errors
    ///
    /// When the peer has given up or is gone.
    pub fn accept(self) -> io::Result<TunnelStream> {
        match self.asker {
            Asker::Http2 {
                mut respond, recv, ..
            } => {
                let send = respond
                    .send_response(Response::new(()), false)
                    .map_err(|error| io::Error::new(io::ErrorKind::ConnectionReset, error))?;
                Ok(TunnelStream::new(send, recv, None))
            }
            Asker::Server(request) => request.accept().map(TunnelStream::over_pipe),
            Asker::Client(client) => client.accept().map(TunnelStream::over_client),
            Asker::Socket(connect) => Ok(TunnelStream::over_socket(connect.accept())),
        }
    }

    /// Answers with the reason why the target is not connected. Takes a moment where the answer is
    /// all that is left of a connection.
    pub async fn refuse(self, error: &DialError) {
        match self.asker {
            Asker::Http2 {
                mut respond, proxy, ..
            } => {
                let mut headers = HeaderMap::new();
                error.write_to(proxy, &mut headers);
                answer(&mut respond, error.status(), headers);
            }
            Asker::Server(request) => request.refuse(error),
            Asker::Client(client) => client.refuse(error),
            Asker::Socket(connect) => connect.refuse(error).await,
        }
    }

    /// Returns when the peer no longer waits for the answer: it cancelled the dial, or is gone.
    pub async fn abandoned(&mut self) {
        match &mut self.asker {
            Asker::Http2 { respond, .. } => {
                let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            }
            Asker::Server(request) => poll_fn(|cx| request.poll_abandoned(cx)).await,
            Asker::Client(client) => poll_fn(|cx| client.poll_abandoned(cx)).await,
            Asker::Socket(connect) => poll_fn(|cx| connect.poll_abandoned(cx)).await,
        }
    }
}

/// Ends the exchange with a head alone. A peer that is gone needs no answer.
pub(crate) fn answer(respond: &mut SendResponse<Bytes>, status: StatusCode, headers: HeaderMap) {
    let _ = respond.send_response(head(status, headers), true);
}

/// As [`answer`], with a line for people.
pub(crate) fn answer_with(
    respond: &mut SendResponse<Bytes>,
    status: StatusCode,
    headers: HeaderMap,
    text: &str,
) {
    if let Ok(mut body) = respond.send_response(head(status, headers), false) {
        let _ = body.send_data(Bytes::from(format!("{text}\n")), true);
    }
}

fn head(status: StatusCode, headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
