//! Scripted peers: what each accepted connection does is given as an async function.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::{Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::connect::{Connect, Dialled, Offer, Protocol};

/// Dials one address without TLS and says which protocol is spoken there.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
}

impl Connect for Plain {
    type Io = TcpStream;
    type Error = io::Error;

    async fn connect(&self, offer: Offer) -> Result<Dialled<TcpStream>, io::Error> {
        let io = TcpStream::connect(self.address).await?;
        io.set_nodelay(true)?;
        let protocol = match offer {
            Offer::Http2OrHttp1 => self.protocol,
            Offer::Http1 => Protocol::Http1,
        };
        Ok(Dialled { io, protocol })
    }
}

/// A listening peer; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Peer {
    /// Runs `connection` for each accepted connection, with its number from 0.
    pub(crate) async fn tcp<F, R>(connection: F) -> Self
    where
        F: Fn(usize, TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tcp.set_nodelay(true).expect("a TCP socket");
                connections.spawn(connection(number, tcp));
            }
        });
        Self {
            address,
            accepted,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Speaks HTTP/2 and runs `request` for each request, with its connection's number.
    pub(crate) async fn http2<F, R>(max_streams: u32, request: F) -> Self
    where
        F: Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::tcp(move |number, tcp| {
            let request = request.clone();
            async move {
                let mut builder = server::Builder::new();
                builder.max_concurrent_streams(max_streams);
                let Ok(mut connection) = builder.handshake::<_, Bytes>(tcp).await else {
                    return;
                };
                let mut requests = tokio::task::JoinSet::new();
                while let Some(Ok((head, respond))) = connection.accept().await {
                    requests.spawn(request(number, head, respond));
                }
            }
        })
        .await
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn http2_connector(&self) -> Plain {
        Plain {
            address: self.address,
            protocol: Protocol::Http2,
        }
    }

    pub(crate) fn http1_connector(&self) -> Plain {
        Plain {
            address: self.address,
            protocol: Protocol::Http1,
        }
    }
}

/// An answer's head.
pub(crate) fn head(status: u16) -> Response<()> {
    let status = StatusCode::from_u16(status).expect("a status");
    Response::builder().status(status).body(()).expect("a head")
}

/// Answers 200 with `content`.
pub(crate) fn reply(respond: &mut SendResponse<Bytes>, content: impl Into<Bytes>) {
    let mut stream = respond.send_response(head(200), false).expect("open");
    stream.send_data(content.into(), true).expect("open");
}

/// Reads a request body whole; `None` when it was cut.
pub(crate) async fn read_all(body: &mut RecvStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len());
        all.extend_from_slice(&chunk);
    }
    Some(all)
}
