//! CONNECT of HTTP/1.1 over mTLS: a connection for each tunnel, as konnectivity's clients do it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_tunnel::tls::{self, ClientStream, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For a connection, a handshake, or a tunnel's answer.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A tunnel to `target` through the proxy at `proxy`, whose certificate is for 127.0.0.1.
pub(crate) async fn dial(
    proxy: SocketAddr,
    tls: &ClientTls,
    target: SocketAddr,
) -> Result<ClientStream> {
    let mut stream = handshake(proxy, tls).await?;
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let head = tokio::time::timeout(CONNECT_LIMIT, read_head(&mut stream))
        .await
        .context("no answer to CONNECT in time")??;
    ensure!(
        head.starts_with("HTTP/1.1 200 "),
        "CONNECT {target}: {}",
        head.lines().next().unwrap_or_default()
    );
    Ok(stream)
}

/// TLS with that server.
pub(crate) async fn handshake(server: SocketAddr, tls: &ClientTls) -> Result<ClientStream> {
    let socket = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(server))
        .await
        .context("no connection in time")?
        .with_context(|| format!("connect to {server}"))?;
    let name = ServerName::from(server.ip());
    let connected = tls::connect(socket, name, tls.config(), CONNECT_LIMIT)
        .await
        .with_context(|| format!("TLS with {server}"))?;
    Ok(connected.stream)
}

/// The head of a request or an answer, its empty line included; nothing behind it is taken.
pub(crate) async fn read_head<T: AsyncRead + Unpin>(stream: &mut T) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < MAX_HEAD, "a head without an end");
        head.push(stream.read_u8().await.context("a head's bytes")?);
    }
    Ok(String::from_utf8(head)?)
}

const MAX_HEAD: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_ends_where_it_ends() {
        let mut bytes = &b"HTTP/1.1 200 OK\r\n\r\nmore"[..];
        assert_eq!(
            read_head(&mut bytes).await.unwrap(),
            "HTTP/1.1 200 OK\r\n\r\n"
        );
        assert_eq!(bytes, b"more");
        assert!(read_head(&mut &b"HTTP/1.1 200"[..]).await.is_err());
    }
}
