//! Connections that are shared, kept apart, upgraded, cut and left.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use cluster_proxy_user_server::Limits;

use crate::client::{bearer, read, read_until};
use crate::world::{ALICES_TOKEN, NAME, Options, World, eventually};

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("https://{NAME}{path}"))
        .header("authorization", bearer(ALICES_TOKEN))
        .body(Full::from(body.into()))
        .unwrap()
}

#[tokio::test]
async fn nothing_is_dialled_per_request() {
    let world = World::start().await;
    let mut sender = world.http2().await;
    for number in 0..200 {
        let answer = sender
            .send_request(request("GET", "/managed/api", ""))
            .await
            .unwrap();
        assert_eq!(read(answer).await.code, 200, "request {number}");
    }
    assert_eq!(world.managed.seen().len(), 200);
    assert_eq!(world.managed.accepted(), 1);
    assert_eq!(world.tunnel.dialled(), 1);
    let dialled = "cluster_proxy_user_server_upstream_connections_dialled_total";
    assert_eq!(world.metric(dialled), 1);
}

#[tokio::test]
async fn content_comes_and_goes_whole() {
    for alpn in [&[b"h2" as &[u8], b"http/1.1"] as &[&[u8]], &[b"http/1.1"]] {
        let world = World::with(Options {
            alpn,
            ..Options::default()
        })
        .await;
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
            let mut sender = world.http2().await;
            let answer = sender.send_request(request(method, "/managed/api", content.clone()));
            let answer = read(answer.await.unwrap()).await;
            assert_eq!(answer.code, 200);
            assert!(
                answer.body == content,
                "{method}: {} bytes",
                answer.body.len()
            );
        }
        assert_eq!(world.managed.seen()[2].method, "PATCH");
    }
}

#[tokio::test]
async fn watches_ride_apart_and_end_with_their_clients() {
    let world = World::start().await;
    let mut sender = world.http2().await;
    let watch = request("GET", "/managed/watch?watch=true", "");
    let mut watch = sender.send_request(watch).await.unwrap().into_body();
    let first = watch.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "one line\n", "what has come is handed on at once");
    let logs = request("GET", "/managed/watch?follow=1&tailLines=5", "");
    let logs = sender.send_request(logs).await.unwrap().into_body();
    let answer = sender
        .send_request(request("GET", "/managed/api", ""))
        .await
        .unwrap();
    assert_eq!(read(answer).await.code, 200);

    let seen = world.managed.seen();
    assert_eq!(seen[0].connection, seen[1].connection, "both are long");
    assert_ne!(
        seen[0].connection, seen[2].connection,
        "and this one is short"
    );
    assert_eq!(world.managed.open_drips(), 2);
    assert_eq!(world.metric("cluster_proxy_user_server_requests_active"), 2);
    drop((watch, logs));
    eventually("the service-proxy is told", || {
        world.managed.open_drips() == 0
    })
    .await;
    eventually("nothing is active", || {
        world.metric("cluster_proxy_user_server_requests_active") == 0
    })
    .await;
}

#[tokio::test]
async fn hard_case_45_an_answer_that_is_cut_ends_in_an_error() {
    for alpn in [&[b"h2" as &[u8], b"http/1.1"] as &[&[u8]], &[b"http/1.1"]] {
        let world = World::with(Options {
            alpn,
            ..Options::default()
        })
        .await;
        let mut sender = world.http2().await;
        let answer = sender
            .send_request(request("GET", "/managed/cut", ""))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "half"
        );
        world.managed.break_off();
        body.collect().await.expect_err("a cut is no end");

        let mut io = world.connect(b"http/1.1").await;
        let text = format!(
            "GET /managed/cut HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICES_TOKEN}\r\n\r\n"
        );
        io.write_all(text.as_bytes()).await.unwrap();
        let mut answer = read_until(&mut io, "half").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        world.managed.break_off();
        let mut rest = Vec::new();
        let _ = io.read_to_end(&mut rest).await;
        answer.push_str(&String::from_utf8(rest).unwrap());
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn trailers_are_handed_on() {
    for alpn in [&[b"h2" as &[u8], b"http/1.1"] as &[&[u8]], &[b"http/1.1"]] {
        let world = World::with(Options {
            alpn,
            ..Options::default()
        })
        .await;
        let mut asking = request("GET", "/managed/trailers", "");
        asking
            .headers_mut()
            .insert("te", "trailers".parse().unwrap());
        let answer = world.http2().await.send_request(asking).await.unwrap();
        let content = answer.into_body().collect().await.unwrap();
        assert_eq!(
            content.trailers().expect("trailers")["grpc-status"],
            "0",
            "{alpn:?}"
        );
    }
}

/// Who waits for leave to send its content gets it when the cluster gives it, or an answer.
#[tokio::test]
async fn content_is_asked_for_only_when_it_is_wanted() {
    let world = World::start().await;
    let head = "POST /managed/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\
                Connection: close\r\nExpect: 100-continue\r\n";
    let answer = world.raw(format!("{head}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");

    let mut io = world.connect(b"http/1.1").await;
    let text = format!("{head}Authorization: Bearer {ALICES_TOKEN}\r\n\r\n");
    io.write_all(text.as_bytes()).await.unwrap();
    let leave = read_until(&mut io, "\r\n\r\n").await;
    assert!(leave.starts_with("HTTP/1.1 100"), "{leave}");
    io.write_all(b"four").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nfour"), "{answer}");
}

/// `kubectl exec`: both directions, and the end of one while the other goes on.
#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    for (protocol, alpn) in [
        ("SPDY/3.1", &[b"h2" as &[u8], b"http/1.1"] as &[&[u8]]),
        ("websocket", &[b"http/1.1"]),
    ] {
        let world = World::with(Options {
            alpn,
            ..Options::default()
        })
        .await;
        let mut io = world.connect(b"http/1.1").await;
        let text = format!(
            "POST /managed/exec?command=sh&stdin=true HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {ALICES_TOKEN}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: {protocol}\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
             Content-Length: 0\r\n\r\n"
        );
        io.write_all(text.as_bytes()).await.unwrap();
        io.write_all(b"and back").await.unwrap();
        io.shutdown().await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        let (head, bytes) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{answer}");
        let head = head.to_lowercase();
        assert!(
            head.contains(&format!("upgrade: {}", protocol.to_lowercase())),
            "{head}"
        );
        assert_eq!(
            head.matches("x-stream-protocol-version").count(),
            2,
            "kept separate: {head}"
        );
        assert_eq!(bytes, "hello and back bye");
        let seen = world.managed.only();
        assert_eq!(seen.target, "/exec?command=sh&stdin=true");
        assert_eq!(seen.all("x-remote-user"), ["alice"]);
        assert_eq!(seen.all("authorization"), [""; 0]);
        assert_eq!(
            world.metric("cluster_proxy_user_server_upstream_upgrades_total"),
            1
        );
    }
}

#[tokio::test]
async fn an_upgrade_needs_a_token_too() {
    let world = World::start().await;
    let answer = world
        .raw(
            b"POST /managed/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n\
              Upgrade: SPDY/3.1\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(world.tunnel.dialled(), 0);
}

#[tokio::test]
async fn hard_case_12_a_redirect_is_passed_back_and_never_followed() {
    let world = World::start().await;
    let answer = world.get_as_alice("/managed/redirect").await;
    assert_eq!(answer.code, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(
        answer.headers["location"],
        "https://elsewhere.example/steal"
    );
    assert_eq!(world.tunnel.dialled(), 1);

    // One that asks for an upgrade has a connection of its own, to the same cluster.
    let text = format!(
        "GET /managed/redirect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICES_TOKEN}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    let head = world.raw_head(text.as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 307 "), "{head}");
    assert!(
        head.contains("location: https://elsewhere.example/steal\r\n"),
        "{head}"
    );
    assert_eq!(world.tunnel.dialled(), 2);
}

#[tokio::test]
async fn a_cookie_comes_back_to_its_own_cluster_only() {
    let world = World::start().await;
    let answer = world.get_as_alice("/managed/cookie").await;
    assert_eq!(
        answer.headers["set-cookie"],
        "session=1; Secure; Path=/managed/"
    );
}

/// A refusal while the content is still on its way: the next request on the connection is read
/// right, or there is none.
#[tokio::test]
async fn a_refusal_before_the_content_is_read_confuses_nobody() {
    let world = World::start().await;
    let content = "x".repeat(100_000);
    let mut io = world.connect(b"http/1.1").await;
    let text = format!(
        "POST /managed/api HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{content}\
         GET /managed/next HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICES_TOKEN}\r\n\
         Connection: close\r\n\r\n"
    );
    let _ = io.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let seen = world.managed.seen();
    assert!(seen.iter().all(|seen| seen.target == "/next"), "{seen:#?}");
}

#[tokio::test]
async fn a_thousand_watches_of_one_cluster_are_open_at_once() {
    let world = World::start().await;
    let mut watches = Vec::new();
    for _ in 0..10 {
        let mut sender = world.http2().await;
        for _ in 0..100 {
            let watch = request("GET", "/managed/watch?watch=true", "");
            let mut body = sender.send_request(watch).await.unwrap().into_body();
            let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(line, "one line\n");
            watches.push(body);
        }
        watches.push(
            sender
                .send_request(request("GET", "/managed/api", ""))
                .await
                .unwrap()
                .into_body(),
        );
    }
    assert_eq!(world.managed.open_drips(), 1_000);
    assert!(
        world.managed.accepted() <= 16,
        "{}",
        world.managed.accepted()
    );
}

#[tokio::test]
async fn who_is_over_a_limit_is_told_which() {
    let world = World::with(Options {
        limits: Limits {
            requests_per_user: Some(2),
            ..Limits::default()
        },
        ..Options::default()
    })
    .await;
    let mut sender = world.http2().await;
    let mut watches = Vec::new();
    for _ in 0..2 {
        let watch = request("GET", "/managed/watch?watch=true", "");
        watches.push(sender.send_request(watch).await.unwrap().into_body());
    }
    let answer = world.get_as_alice("/managed/api").await;
    let message = answer.message(429, "TooManyRequests");
    assert!(
        message.contains("\"alice\"") && message.contains("--max-requests-per-user"),
        "{message}"
    );
    assert_eq!(answer.headers["retry-after"], "1");
    let limited = "cluster_proxy_user_server_requests_limited_total{limit=\"requests_per_user\"}";
    assert_eq!(world.metric(limited), 1);
    drop(watches);
    eventually("the watches are over", || world.managed.open_drips() == 0).await;
    let deadline = tokio::time::Instant::now() + crate::world::LIMIT;
    while world.get_as_alice("/managed/api").await.code != 200 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the limit stays reached"
        );
    }
}
