//! Bytes through the tunnel, and how their end looks.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cluster_proxy_tunnel::{ProxyServerDialer, Target, TunnelStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Which way a transfer goes, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Upload,
    Download,
}

/// How a transfer looked to one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In order: an end of file.
    Finished,
    /// With an error.
    Cut,
}

/// Nothing that has ended takes longer to be seen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Reads until the end.
pub(crate) async fn read_on(mut from: impl AsyncRead + Unpin) -> End {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return End::Finished,
            Ok(_) => {}
            Err(_) => return End::Cut,
        }
    }
}

/// Writes until nothing more is taken, which is never the end in order.
pub(crate) async fn write_on(mut to: impl AsyncWrite + Unpin) -> End {
    let buffer = vec![7; 64 * 1024];
    loop {
        if to.write_all(&buffer).await.is_err() {
            return End::Cut;
        }
    }
}

/// One end of a transfer without end.
pub(crate) async fn take_part(stream: impl AsyncRead + AsyncWrite + Unpin, writes: bool) -> End {
    if writes {
        write_on(stream).await
    } else {
        read_on(stream).await
    }
}

/// Something that lasts too long is an error with these words.
pub(crate) async fn soon<T>(what: &str, waited: impl Future<Output = T>) -> Result<T> {
    timeout(PATIENCE, waited)
        .await
        .with_context(|| format!("{what}: nothing within {PATIENCE:?}"))
}

pub(crate) fn target(address: SocketAddr) -> Result<Target> {
    Ok(Target::new(&address.ip().to_string(), address.port())?)
}

/// A target that sends back what it gets; dropped, it is gone.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
}

impl Echo {
    pub(crate) async fn start(host: &str) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(echo(socket));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            _task: task,
        })
    }
}

async fn echo(mut socket: TcpStream) {
    let (mut read, mut write) = socket.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

/// One round trip on an open connection.
pub(crate) async fn round_trip(stream: &mut TunnelStream) -> std::io::Result<()> {
    let mut back = [0; 5];
    stream.write_all(b"hello").await?;
    stream.read_exact(&mut back).await?;
    if back == *b"hello" {
        Ok(())
    } else {
        Err(std::io::Error::new(
            ErrorKind::InvalidData,
            "other bytes came back",
        ))
    }
}

/// A connection from its dial to its end in order.
pub(crate) async fn whole_connection(dialer: &ProxyServerDialer, target: &Target) -> Result<()> {
    let mut stream = dialer.connect(target).await?;
    round_trip(&mut stream).await?;
    stream.shutdown().await?;
    ensure!(stream.read(&mut [0; 1]).await? == 0, "more came back");
    Ok(())
}

/// Makes new connections for `period`, one after the other, and says how long the longest took. One
/// that fails, or takes longer than `limit`, is an error.
pub(crate) async fn keep_connecting(
    dialer: &ProxyServerDialer,
    target: &Target,
    period: Duration,
    limit: Duration,
) -> Result<Duration> {
    let (begin, mut longest, mut made) = (Instant::now(), Duration::ZERO, 0);
    while begin.elapsed() < period {
        let one = Instant::now();
        let at = begin.elapsed();
        match timeout(limit, whole_connection(dialer, target)).await {
            Err(_) => bail!("{at:?} after the event: no connection within {limit:?}"),
            Ok(Err(error)) => bail!("{at:?} after the event: {error:#}"),
            Ok(Ok(())) => longest = longest.max(one.elapsed()),
        }
        made += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(made > 0, "no connection was made");
    Ok(longest)
}
