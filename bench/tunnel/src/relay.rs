//! The floor: what a tunnel costs that does nothing but encrypt and copy.
//!
//! A relay takes CONNECT over mTLS and dials either the target, or the next relay by mTLS and
//! CONNECT, anew for each connection (two of these are the two-hop floor). It is tuned as the
//! tunnel is: sockets are read 64 KiB ahead, 128 KiB are copied at once, no Nagle, both ends
//! resume TLS sessions on the way between them. It has no limits, metrics, identities or drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use cluster_proxy_testkit::certificates::CertificateFiles;
use cluster_proxy_tunnel::frontend::{FRONTEND_ALPN, HTTP2_ALPN, Http2Frontend};
use cluster_proxy_tunnel::tls::ServerStream;
use cluster_proxy_tunnel::{Http2Settings, IncomingConnect, socket, tls};
use rustls::ServerConfig;
use rustls::server::ServerSessionMemoryCache;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http1::{self, CONNECT_LIMIT};

/// One relay.
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    #[arg(long)]
    listen: SocketAddr,
    /// The next relay; without it, targets are dialled here.
    #[arg(long)]
    next: Option<SocketAddr>,
    /// Folder of the certificates.
    #[arg(long)]
    certificates: PathBuf,
}

#[derive(Debug, Clone)]
struct Way {
    next: Option<SocketAddr>,
    tls: ClientTls,
}

/// Bytes copied at once in each direction.
const COPY: usize = 128 * 1024;

/// TLS sessions remembered: more than connections at a time.
const SESSIONS: usize = 4096;

/// Serves until it is killed.
pub(crate) async fn run(args: RelayArgs) -> Result<()> {
    let certificates = CertificateFiles::open(args.certificates);
    let way = Way {
        next: args.next,
        tls: certificates.client_tls("client")?.with_alpn(&[]),
    };
    let mut config = ServerConfig::clone(&server_tls(&certificates)?.config());
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    let config = Arc::new(config);
    let listener = TcpListener::bind(args.listen).await?;
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let (config, way) = (Arc::clone(&config), way.clone());
        connections.spawn(async move { drop(serve(socket, config, way).await) });
    }
}

/// HTTP/2 and HTTP/1.1, as the frontend has them.
fn server_tls(certificates: &CertificateFiles) -> Result<ServerTls> {
    Ok(ServerTls::from_pem(
        &certificates.read("server.crt")?,
        &certificates.read("server.key")?,
        Some(&certificates.read("ca.crt")?),
        ClientAuth::Required,
        FRONTEND_ALPN.map(<[u8]>::to_vec).to_vec(),
    )?)
}

async fn serve(socket: TcpStream, config: Arc<ServerConfig>, way: Way) -> Result<()> {
    let accepted = tls::accept(socket, config, CONNECT_LIMIT).await?;
    if accepted.alpn.as_deref() == Some(HTTP2_ALPN) {
        return serve_http2(accepted.stream, way).await;
    }
    let mut stream = accepted.stream;
    let head = http1::read_head(&mut stream).await?;
    let target = head.split(' ').nth(1).context("no CONNECT")?.parse()?;
    match way.next {
        None => {
            let far = dial_target(target).await?;
            answer(&mut stream).await?;
            copy(stream, far).await
        }
        Some(next) => {
            let far = http1::dial(next, &way.tls, target).await?;
            answer(&mut stream).await?;
            copy(stream, far).await
        }
    }
}

async fn answer(stream: &mut ServerStream) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    Ok(stream.flush().await?)
}

async fn serve_http2(stream: ServerStream, way: Way) -> Result<()> {
    let mut front = Http2Frontend::open_over(stream, &Http2Settings::default()).await?;
    let mut tunnels = JoinSet::new();
    while let Ok(incoming) = front.next().await {
        while tunnels.try_join_next().is_some() {}
        let way = way.clone();
        tunnels.spawn(async move { drop(serve_stream(incoming, way).await) });
    }
    Ok(())
}

async fn serve_stream(incoming: IncomingConnect, way: Way) -> Result<()> {
    let target = incoming.target().to_string().parse()?;
    match way.next {
        None => {
            let far = dial_target(target).await?;
            copy(incoming.accept()?, far).await
        }
        Some(next) => {
            let far = http1::dial(next, &way.tls, target).await?;
            copy(incoming.accept()?, far).await
        }
    }
}

async fn dial_target(target: SocketAddr) -> Result<TcpStream> {
    let far = TcpStream::connect(target).await?;
    socket::tune_target(&far)?;
    Ok(far)
}

async fn copy<N, F>(mut near: N, mut far: F) -> Result<()>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(&mut near, &mut far, COPY, COPY).await?;
    Ok(())
}
