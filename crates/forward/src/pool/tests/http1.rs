//! Destinations that speak HTTP/1.1.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::peer::Peer;
use super::*;
use crate::body::BodyError;

/// Reads a request's head and returns it, or `None` at the end of the connection.
async fn read_head(tcp: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if tcp.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(head);
        }
        head.push_str(&line);
    }
}

/// Answers each request on a connection with `answer`, then closes if `close`.
async fn peer(answer: &'static str, close: bool) -> Peer {
    Peer::tcp(move |_, tcp| async move {
        let mut tcp = BufReader::new(tcp);
        while read_head(&mut tcp).await.is_some() {
            let _ = tcp.write_all(answer.as_bytes()).await;
            if close {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn connections_are_kept_and_requests_take_one_each() {
    let peer = peer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false).await;
    let pool = pool(peer.http1_connector(), PoolSettings::default());
    for _ in 0..20 {
        assert_eq!(ask(&pool, get("/")).await.expect("answered").body(), "ok");
    }
    assert_eq!(peer.accepted(), 1);

    let burst = (0..10).map(|_| ask(&pool, get("/")));
    for answer in futures_util::future::join_all(burst).await {
        assert_eq!(answer.expect("answered").body(), "ok");
    }
    assert!(
        peer.accepted() <= 11,
        "at most one more for each request of the burst"
    );
}

#[tokio::test]
async fn the_request_has_an_origin_form_target_and_our_host() {
    let (give, mut take) = tokio::sync::mpsc::channel(1);
    let peer = Peer::tcp(move |_, tcp| {
        let give = give.clone();
        async move {
            let mut tcp = BufReader::new(tcp);
            let head = read_head(&mut tcp).await.expect("a request");
            let _ = tcp.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = give.send(head).await;
        }
    })
    .await;
    let pool = pool(peer.http1_connector(), PoolSettings::default());
    let mut request = get("/a%2F../\"b\"//;c?d=%zz&&e={f}");
    request
        .headers_mut()
        .insert("host", http::HeaderValue::from_static("evil.test"));
    ask(&pool, request).await.expect("answered");
    let head = take.recv().await.expect("a head");
    assert_eq!(
        head,
        "GET /a%2F../\"b\"//;c?d=%zz&&e={f} HTTP/1.1\r\nhost: peer.test:8080\r\n"
    );
}

#[tokio::test]
async fn a_kept_connection_that_closed_costs_a_try_not_an_error() {
    let peer = peer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true).await;
    let pool = pool(peer.http1_connector(), PoolSettings::default());
    for _ in 0..20 {
        assert_eq!(ask(&pool, get("/")).await.expect("answered").body(), "ok");
    }
    assert_eq!(peer.accepted(), 20);
}

#[tokio::test]
async fn a_post_that_may_have_been_seen_is_not_sent_twice() {
    let peer = Peer::tcp(|_, tcp| async move {
        let mut tcp = BufReader::new(tcp);
        let _ = read_head(&mut tcp).await;
        let mut body = [0; 4];
        let _ = tcp.read_exact(&mut body).await;
    })
    .await;
    let pool = pool(peer.http1_connector(), PoolSettings::default());
    let error = ask(&pool, post("/", b"once")).await.expect_err("no answer");
    assert_eq!(error.reason(), "broken");
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn a_cut_answer_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
    ] {
        let peer = peer(answer, true).await;
        let pool = pool(peer.http1_connector(), PoolSettings::default());
        let response = pool
            .send(get("/"), Class::Short, None)
            .await
            .expect("a head");
        let error = response.into_body().collect().await.expect_err("cut");
        assert!(
            matches!(error, BodyError::Http { .. }),
            "{answer:?}: {error}"
        );
    }
}

#[tokio::test]
async fn an_answer_given_up_half_way_does_not_spoil_the_next() {
    let peer = peer(
        "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegin",
        false,
    )
    .await;
    let pool = pool(peer.http1_connector(), PoolSettings::default());
    for _ in 0..3 {
        let response = pool
            .send(get("/"), Class::Short, None)
            .await
            .expect("a head");
        let mut body = response.into_body();
        let frame = body.frame().await.expect("a frame").expect("whole so far");
        assert_eq!(frame.into_data().expect("data"), "begin");
    }
    assert_eq!(peer.accepted(), 3);
}
