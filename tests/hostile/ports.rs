//! What comes to the two ports and is no peer: silence, garbage, more connections than there are
//! descriptors, calls of no known path.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_testkit::eventually;
use cluster_proxy_testkit::process_usage::{descriptors, limit_descriptors};
use cluster_proxy_tunnel::frontend::HTTP2_ALPN;
use cluster_proxy_tunnel::konnectivity::KONNECTIVITY_ALPN;
use cluster_proxy_tunnel::tls::{self, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::frames::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, RawPeer, SETTINGS};
use crate::frames::{block, frame};
use crate::hub::{AgentKind, GET_LIMIT, Hub, WINDOW, Workshop};
use crate::report::Report;
use crate::round_trips::Pinger;

/// Who says nothing is gone after this.
const SILENCE: Duration = Duration::from_secs(32);

/// Silent peers of each kind.
const SILENT: usize = 20;

/// Garbage comes on so many connections.
const GARBAGE: usize = 200;

pub(crate) async fn silence_and_garbage(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let _agent = hub.agent(AgentKind::Lane, &[]).await?;
    let mut pinger = Pinger::start(&hub.client(WINDOW)?).await?;
    let before = descriptors(hub.server.id())?;
    let mut closing = JoinSet::new();
    for port in [hub.frontend, hub.agents] {
        for _ in 0..SILENT {
            let socket = TcpStream::connect(("127.0.0.1", port)).await?;
            closing.spawn(closed(socket, "no TLS"));
            // The beginning of a ClientHello, and no more.
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
            socket.write_all(&[22, 3, 1, 2, 0, 1]).await?;
            closing.spawn(closed(socket, "half a ClientHello"));
        }
        for number in 0..GARBAGE {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
            let byte = u8::try_from(number)?;
            let _ = socket.write_all(&[byte; 700]).await;
        }
    }
    let tls = workshop.certificates.tls(&Leaf::proxy_client())?;
    for _ in 0..SILENT {
        let peer = RawPeer::connect(hub.frontend, &tls, HTTP2_ALPN).await?;
        closing.spawn(closed(peer.read.unsplit(peer.write), "no HTTP/2"));
        let mut peer = RawPeer::connect(hub.frontend, &tls, HTTP2_ALPN).await?;
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        peer.send(&frame(SETTINGS, 0, 0, &[])).await?;
        let head = frame(HEADERS, END_HEADERS, 1, &block(&[(":method", "CONNECT")]));
        peer.send(&head[..head.len() - 3]).await?;
        closing.spawn(closed(peer.read.unsplit(peer.write), "half a head"));
    }
    let mut longest = Duration::ZERO;
    while let Some(closed) = closing.join_next().await {
        longest = longest.max(closed??);
        pinger.once().await?;
    }
    report.note(
        "silent connections: the last is closed",
        format!("after {longest:.1?}"),
    );
    eventually(SILENCE, "descriptors are given back", async || {
        let now = descriptors(hub.server.id())?;
        ensure!(now <= before, "{now} of {before}");
        Ok::<_, anyhow::Error>(())
    })
    .await;
    Ok(())
}

/// How long it takes the server to close a connection on which nothing more is said.
async fn closed(mut io: impl tokio::io::AsyncRead + Unpin, what: &'static str) -> Result<Duration> {
    let began = Instant::now();
    let reading = async {
        let mut said = [0; 1024];
        while matches!(io.read(&mut said).await, Ok(1..)) {}
    };
    timeout(SILENCE, reading)
        .await
        .with_context(|| format!("{what}: still open after {SILENCE:?}"))?;
    Ok(began.elapsed())
}

/// Descriptors left when the connections come.
const LEFT: u64 = 20;

pub(crate) async fn no_descriptors(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let _agent = hub.agent(AgentKind::Lane, &[]).await?;
    let mut pinger = Pinger::start(&hub.client(WINDOW)?).await?;
    let open = descriptors(hub.server.id())?;
    limit_descriptors(hub.server.id(), open as u64 + LEFT)?;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        for port in [hub.frontend, hub.agents] {
            crowd.push(TcpStream::connect(("127.0.0.1", port)).await?);
        }
    }
    hub.server
        .running
        .wait_for_line("cannot accept connections", GET_LIMIT)?;
    // Who is connected already has nothing to do with it.
    for _ in 0..20 {
        pinger.once().await?;
    }
    drop(crowd);
    let began = Instant::now();
    let dialer = hub.client(WINDOW)?;
    eventually(SILENCE, "connections are accepted again", async || {
        Pinger::start(&dialer).await.map(drop)
    })
    .await;
    report.note(
        "out of descriptors: served again after the crowd has left",
        format!("after {:.1?}", began.elapsed()),
    );
    Ok(())
}

/// Paths that are nearly those of konnectivity's two services, on both ports.
const PATHS: &[&str] = &[
    "/proxyservice/proxy",
    "/ProxyService/proxy",
    "/ProxyService/Proxy/",
    "//ProxyService/Proxy",
    "/ProxyService/Proxy2",
    "/proxy.ProxyService/Proxy",
    "/agentservice/connect",
    "/AgentService/Connect/",
    "/AgentService/Disconnect",
    "/",
];

pub(crate) async fn paths(workshop: &Workshop, _report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let client = workshop.certificates.tls(&Leaf::proxy_client())?;
    let agent = workshop
        .certificates
        .tls(&Leaf::proxy_agent(&"hostile".parse()?))?;
    for (port, tls, alpn) in [
        (hub.frontend, &client, HTTP2_ALPN),
        (hub.agents, &agent, KONNECTIVITY_ALPN),
    ] {
        for path in PATHS {
            let socket = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = ServerName::try_from("127.0.0.1")?;
            let config = tls.with_alpn(&[alpn]).config();
            let connected = tls::connect(socket, name, config, GET_LIMIT).await?;
            let (mut requests, connection) = h2::client::Builder::new()
                .handshake::<_, Bytes>(connected.stream)
                .await?;
            let driving = tokio::spawn(connection);
            let request = http::Request::post(format!("https://hub{path}"))
                .header("content-type", "application/grpc")
                .header("agentid", "hostile")
                .header("agentidentifiers", "ipv4=127.0.0.1")
                .body(())?;
            let (answer, _stream) = requests.send_request(request, false)?;
            // A reset, or the end of the connection, is an answer too.
            if let Ok(answer) = timeout(GET_LIMIT, answer).await.context("no answer")? {
                let grpc = answer.headers().get("grpc-status");
                let refused = grpc.is_some_and(|status| status != "0");
                ensure!(
                    refused || !answer.status().is_success(),
                    "{port} {path}: {answer:?}"
                );
            }
            driving.abort();
        }
        without_slash(port, tls, alpn).await?;
    }
    let taken = hub
        .server
        .metric("cluster_proxy_server_konnectivity_streams")
        .await?;
    ensure!(taken == 0.0, "{taken} agents were taken");
    Ok(())
}

/// A path that does not begin with a slash (CVE-2026-33186), which no honest library sends.
async fn without_slash(
    port: u16,
    tls: &cluster_proxy_identity::tls::ClientTls,
    alpn: &[u8],
) -> Result<()> {
    for path in ["ProxyService/Proxy", "AgentService/Connect"] {
        let mut peer = RawPeer::connect(port, tls, alpn).await?;
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        peer.send(&frame(SETTINGS, 0, 0, &[])).await?;
        let fields = block(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "hub"),
            (":path", path),
            ("content-type", "application/grpc"),
            ("agentid", "hostile"),
        ]);
        peer.send(&frame(HEADERS, END_HEADERS, 1, &fields)).await?;
        let end = Instant::now() + GET_LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match timeout(left, peer.receive()).await.context("no answer")? {
                Ok(frame) if frame.kind == RST_STREAM || frame.kind == GOAWAY => break,
                // Ended with its head: no call is.
                Ok(frame) if frame.kind == HEADERS && frame.flags & END_STREAM != 0 => break,
                Ok(frame) if frame.kind == HEADERS => bail!("{port} {path}: taken"),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    Ok(())
}
