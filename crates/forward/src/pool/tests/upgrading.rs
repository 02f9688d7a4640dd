//! Upgrades: a connection of their own, bytes both ways, repeated fields kept apart.

use http::{HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::peer::Peer;
use super::*;
use cluster_proxy_runtime::drain::Drain;

/// Reads a head, answers `answer`, then echoes until the end, which it says back.
async fn echo_peer(answer: &'static str) -> Peer {
    Peer::tcp(move |_, tcp| async move {
        let mut tcp = BufReader::new(tcp);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if tcp.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        assert!(head.contains("upgrade: SPDY/3.1\r\n"), "{head}");
        assert!(head.contains("connection: Upgrade\r\n"), "{head}");
        let _ = tcp.write_all(answer.as_bytes()).await;
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = tcp.read(&mut buffer).await {
            if tcp.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
        let _ = tcp.write_all(b"bye").await;
    })
    .await
}

/// A client connection to a server that answers its request with `switched`'s head.
async fn switch_client(
    switched: Switched,
    drain: Drain,
) -> (
    hyper::upgrade::Upgraded,
    tokio::task::JoinHandle<std::io::Result<(u64, u64)>>,
) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (tell, told) = tokio::sync::oneshot::channel();
    let shared = Arc::new(Mutex::new(Some((switched, tell))));
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |mut request| {
            let (switched, tell) = shared
                .lock()
                .expect("not poisoned")
                .take()
                .expect("one request");
            let drain = drain.clone();
            async move {
                let client = hyper::upgrade::on(&mut request);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = switched.head.status();
                *response.headers_mut() = switched.head.headers().clone();
                let relay = tokio::spawn(async move { switched.relay(client, &drain).await });
                let _ = tell.send(relay);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), service)
            .with_upgrades()
            .await
    });
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .expect("in memory");
    tokio::spawn(driver.with_upgrades());
    let request = Request::get("/")
        .header("connection", "upgrade")
        .header("upgrade", "SPDY/3.1")
        .body(Body::empty())
        .expect("test request");
    let mut response = sender.send_request(request).await.expect("answered");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = hyper::upgrade::on(&mut response).await.expect("switched");
    (upgraded, told.await.expect("relay started"))
}

async fn upgrade(pool: &Pool<Plain>) -> Upgrade {
    pool.upgrade(
        get("/exec"),
        HeaderValue::from_static("SPDY/3.1"),
        Duration::from_secs(5),
    )
    .await
    .expect("answered")
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
    upgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n\
    x-stream-protocol-version: v3.channel.k8s.io\r\n\r\n";

#[tokio::test]
async fn bytes_go_both_ways_and_one_side_may_end_first() {
    let peer = echo_peer(SWITCHING).await;
    // The pool would speak HTTP/2 there; the upgrade does not.
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let Upgrade::Switched(switched) = upgrade(&pool).await else {
        panic!("not switched")
    };
    let versions: Vec<_> = switched
        .head
        .headers()
        .get_all("x-stream-protocol-version")
        .iter()
        .collect();
    assert_eq!(versions, ["v4.channel.k8s.io", "v3.channel.k8s.io"]);

    let (client, relay) = switch_client(switched, Drain::new()).await;
    let mut client = TokioIo::new(client);
    client.write_all(b"ping").await.expect("open");
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.expect("echoed");
    assert_eq!(&echoed, b"ping");
    // Our end of input travels on; the other direction stays open for the last words.
    client.shutdown().await.expect("open");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("a clean end");
    assert_eq!(rest, b"bye");
    assert_eq!(relay.await.expect("no panic").expect("clean"), (4, 7));
    assert_eq!(pool.shared.metrics.upgrades.get(), 1);
    assert!(pool.is_unused());
}

#[tokio::test]
async fn a_relay_is_cut_when_the_drain_ends() {
    let peer = echo_peer(SWITCHING).await;
    let pool = pool(peer.http1_connector(), PoolSettings::default());
    let Upgrade::Switched(switched) = upgrade(&pool).await else {
        panic!("not switched")
    };
    let drain = Drain::new();
    let (client, relay) = switch_client(switched, drain.clone()).await;
    drain.close();
    let mut client = TokioIo::new(client);
    client
        .write_all(b"ping")
        .await
        .expect("closing alone cuts nothing");
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.expect("echoed");
    drain.end();
    relay.await.expect("no panic").expect_err("cut");
}

#[tokio::test]
async fn hard_case_5_a_refused_upgrade_is_an_answer_and_its_connection_is_not_used_again() {
    let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\n\
        content-length: 5\r\n\r\nstray";
    let peer = echo_peer(answer).await;
    let pool = pool(peer.http1_connector(), PoolSettings::default());
    for number in 1..=3 {
        let Upgrade::Answered(response) = upgrade(&pool).await else {
            panic!("switched")
        };
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let content = response
            .into_body()
            .collect()
            .await
            .expect("whole")
            .to_bytes();
        assert_eq!(content, "no");
        assert_eq!(peer.accepted(), number, "each on a connection of its own");
    }
    assert!(pool.is_unused());
}

#[tokio::test]
async fn upgraded_connections_are_bounded() {
    let peer = echo_peer(SWITCHING).await;
    let settings = PoolSettings {
        max_upgrades: 1,
        ..PoolSettings::default()
    };
    let pool = pool(peer.http1_connector(), settings);
    let first = upgrade(&pool).await;
    let protocol = HeaderValue::from_static("SPDY/3.1");
    let second = pool
        .upgrade(get("/"), protocol, Duration::from_secs(5))
        .await;
    assert_eq!(
        second.expect_err("one at a time").reason(),
        "too_many_upgrades"
    );
    drop(first);
    assert!(matches!(upgrade(&pool).await, Upgrade::Switched(_)));
}
