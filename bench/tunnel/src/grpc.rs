//! A tunnel by konnectivity's `ProxyService`, as Go's client package makes it: a gRPC connection
//! for each tunnel, with one call on it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_konnectivity_wire::framing::{Unframer, frame};
use cluster_proxy_konnectivity_wire::headers::{CONTENT_TYPE, PROXY_PATH};
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, Packet};
use h2::{RecvStream, SendStream};
use http::{Method, Request, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;

use crate::http1::{CONNECT_LIMIT, handshake};

/// One tunnel; dropped, its gRPC connection ends.
#[derive(Debug)]
pub(crate) struct GrpcTunnel {
    send: SendStream<Bytes>,
    recv: RecvStream,
    connect: ConnectId,
    unframer: Unframer,
    unread: Bytes,
    /// A framed packet, as far as it has not been taken.
    unsent: Bytes,
    closing: bool,
    _driver: JoinSet<()>,
}

/// As much as Go's `io.Copy` writes at once: one packet each.
const WRITE: usize = 32 * 1024;

/// Go's server finds a dial by its number alone, whoever asked: no two may have the same.
static DIALS: AtomicI64 = AtomicI64::new(1);

/// Beyond what one tunnel has under way.
const WINDOW: u32 = 4 * 1024 * 1024;

/// A tunnel to `target` through the server at `proxy`.
pub(crate) async fn dial(
    proxy: SocketAddr,
    tls: &ClientTls,
    target: SocketAddr,
) -> Result<GrpcTunnel> {
    tokio::time::timeout(CONNECT_LIMIT, call(proxy, tls, target))
        .await
        .context("no answer to DIAL_REQ in time")?
}

async fn call(proxy: SocketAddr, tls: &ClientTls, target: SocketAddr) -> Result<GrpcTunnel> {
    let stream = handshake(proxy, tls).await?;
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .handshake(stream)
        .await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("https://{proxy}{PROXY_PATH}"))
        .header("content-type", CONTENT_TYPE)
        .header("te", "trailers")
        .body(())?;
    let (answer, mut send) = requests.ready().await?.send_request(request, false)?;
    let dial = DialId::new(DIALS.fetch_add(1, Ordering::Relaxed));
    let asked = Packet::DialRequest {
        protocol: "tcp".to_owned(),
        address: target.to_string(),
        dial,
    };
    send.send_data(frame(&asked), false)?;
    let answer = answer.await.context("ProxyService")?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    let mut recv = answer.into_body();
    let mut unframer = Unframer::default();
    let connect = loop {
        if let Some(message) = unframer.next_message()? {
            match Packet::decode(message)? {
                Packet::DialResponse {
                    dial: answered,
                    result,
                } if answered == dial => match result {
                    Ok(connect) => break connect,
                    Err(reason) => bail!("dial: {}", reason.as_str()),
                },
                other => bail!("instead of DIAL_RSP: {other:?}"),
            }
        }
        let piece = recv.data().await.context("no DIAL_RSP")??;
        recv.flow_control().release_capacity(piece.len())?;
        unframer.push(piece);
    };
    Ok(GrpcTunnel {
        send,
        recv,
        connect,
        unframer,
        unread: Bytes::new(),
        unsent: Bytes::new(),
        closing: false,
        _driver: driver,
    })
}

impl GrpcTunnel {
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            self.send.reserve_capacity(self.unsent.len());
            let room = match self.send.capacity() {
                0 => match ready!(self.send.poll_capacity(cx)) {
                    Some(room) => room.map_err(io::Error::other)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => room,
            };
            let piece = self.unsent.split_to(room.min(self.unsent.len()));
            self.send
                .send_data(piece, false)
                .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for GrpcTunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() {
            if let Some(message) = this.unframer.next_message().map_err(io::Error::other)? {
                match Packet::decode(message).map_err(io::Error::other)? {
                    Packet::Data { connect, data } if connect == this.connect => {
                        this.unread = data;
                    }
                    Packet::CloseResponse { .. } => return Poll::Ready(Ok(())),
                    other => return Poll::Ready(Err(io::Error::other(format!("{other:?}")))),
                }
                continue;
            }
            match ready!(this.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(piece) => {
                    let piece = piece.map_err(io::Error::other)?;
                    this.recv
                        .flow_control()
                        .release_capacity(piece.len())
                        .map_err(io::Error::other)?;
                    this.unframer.push(piece);
                }
            }
        }
        let taken = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..taken]);
        this.unread.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GrpcTunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        let taken = buf.len().min(WRITE);
        self.unsent = frame(&Packet::Data {
            connect: self.connect,
            data: Bytes::copy_from_slice(&buf[..taken]),
        });
        // What is not taken now is by the next call.
        if let Poll::Ready(Err(error)) = self.poll_unsent(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        if !self.closing {
            self.closing = true;
            self.unsent = frame(&Packet::CloseRequest {
                connect: self.connect,
            });
        }
        self.poll_unsent(cx)
    }
}
