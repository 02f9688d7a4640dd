//! HTTP/2 frames by hand (RFC 9113 section 4 and 6), for peers that keep to no rule.

use std::io;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_tunnel::tls::{self, ClientStream, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::hub::GET_LIMIT;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame on the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// One setting of a SETTINGS frame.
pub(crate) fn setting(name: u16, value: u32) -> Vec<u8> {
    let mut payload = name.to_be_bytes().to_vec();
    payload.extend_from_slice(&value.to_be_bytes());
    payload
}

/// A header block of literals without indexing (RFC 7541 section 6.2.2); names and values are
/// shorter than 127 bytes, or as `long` makes them.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(bytes: &mut Vec<u8>, value: usize) {
    if value < 127 {
        bytes.push(value.to_le_bytes()[0]);
        return;
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(0x80 | (rest % 128).to_le_bytes()[0]);
        rest /= 128;
    }
    bytes.push(rest.to_le_bytes()[0]);
}

/// A frame as it was received.
pub(crate) struct Received {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

/// A connection on which anything may be said.
pub(crate) struct RawPeer {
    pub(crate) read: ReadHalf<ClientStream>,
    pub(crate) write: WriteHalf<ClientStream>,
}

impl RawPeer {
    /// Shakes hands with the server on a port of this machine.
    pub(crate) async fn connect(port: u16, tls: &ClientTls, alpn: &[u8]) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("127.0.0.1")?;
        let config = tls.with_alpn(&[alpn]).config();
        let connected = tls::connect(socket, name, config, GET_LIMIT).await?;
        ensure!(connected.alpn.as_deref() == Some(alpn), "another protocol");
        let (read, write) = tokio::io::split(connected.stream);
        Ok(Self { read, write })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    /// The next frame.
    pub(crate) async fn receive(&mut self) -> Result<Received> {
        receive(&mut self.read).await
    }

    /// The next frame of this kind; what else comes is dropped.
    pub(crate) async fn receive_a(&mut self, kind: u8) -> Result<Received> {
        let receiving = async {
            loop {
                let received = self.receive().await?;
                if received.kind == kind && !(kind == SETTINGS && received.flags & ACK != 0) {
                    return Ok(received);
                }
            }
        };
        timeout(GET_LIMIT, receiving)
            .await
            .context("no such frame")?
    }
}

/// The next frame of a half.
pub(crate) async fn receive(read: &mut ReadHalf<ClientStream>) -> Result<Received> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length)?];
    read.read_exact(&mut payload).await?;
    Ok(Received {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
    })
}
