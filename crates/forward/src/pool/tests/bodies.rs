//! Bodies arrive whole or as an error, at the reader's pace, with their trailers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use h2::Reason;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;

use super::peer::{Peer, head, read_all, reply};
use super::*;
use crate::body::BodyError;

fn trailers(value: &'static str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("x-checksum", http::HeaderValue::from_static(value));
    map
}

/// A request body that a test writes frame by frame, through a connection of its own: the pool
/// takes only bodies that came over HTTP or from memory.
async fn streamed_request(frames: Vec<Result<Frame<Bytes>, &'static str>>) -> Request<Body> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (mut sender, driver) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(client),
    )
    .await
    .expect("in memory");
    tokio::spawn(driver);
    let (give, mut take) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let give = give.clone();
            async move {
                let (parts, incoming) = request.into_parts();
                let body = Body::from_request(incoming, http::Version::HTTP_2, None);
                let (done, wait) = tokio::sync::oneshot::channel::<()>();
                let _ = give.send((Request::from_parts(parts, body), done)).await;
                let _ = wait.await;
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }
        });
        let _ = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(hyper_util::rt::TokioIo::new(server), service)
            .await;
    });
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::post("http://in.memory/upload")
        .body(body)
        .expect("test request");
    tokio::spawn(async move {
        let _ = sender.send_request(request).await;
    });
    let (request, done) = take.recv().await.expect("a request");
    // The exchange stays open until the test ends.
    tokio::spawn(async move {
        let _done = done;
        std::future::pending::<()>().await;
    });
    request
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let peer = Peer::http2(100, |_, mut request, mut respond| async move {
        let mut body = read_all(request.body_mut()).await.expect("whole");
        let sent = request
            .body_mut()
            .trailers()
            .await
            .expect("whole")
            .expect("some");
        assert_eq!(sent, trailers("up"));
        body.reverse();
        let mut stream = respond.send_response(head(200), false).expect("open");
        stream.send_data(body.into(), false).expect("open");
        stream.send_trailers(trailers("down")).expect("open");
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let frames = vec![
        Ok(Frame::data(Bytes::from_static(b"abc"))),
        Ok(Frame::data(Bytes::from_static(b"def"))),
        Ok(Frame::trailers(trailers("up"))),
    ];
    let request = streamed_request(frames).await;
    let response = pool
        .send(request, Class::Short, None)
        .await
        .expect("answered");
    let collected = response.into_body().collect().await.expect("whole");
    assert_eq!(collected.trailers(), Some(&trailers("down")));
    assert_eq!(collected.to_bytes(), "fedcba");
}

#[tokio::test]
async fn hard_case_45_an_answer_cut_by_any_reset_is_an_error() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let peer = Peer::http2(100, move |_, _request, mut respond| async move {
            let mut stream = respond.send_response(head(200), false).expect("open");
            stream
                .send_data(Bytes::from_static(b"half"), false)
                .expect("open");
            // The half must leave before the reset does.
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.send_reset(reason);
        })
        .await;
        let pool = pool(peer.http2_connector(), PoolSettings::default());
        let response = pool
            .send(get("/"), Class::Short, None)
            .await
            .expect("a head");
        let mut body = response.into_body();
        let first = body.frame().await.expect("a frame").expect("whole");
        assert_eq!(first.into_data().expect("data"), "half");
        let error = body.frame().await.expect("not the end").expect_err("cut");
        assert!(
            matches!(error, BodyError::Reset { .. }),
            "{reason:?}: {error}"
        );
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn an_answer_cut_by_its_connection_is_an_error() {
    let peer = Peer::tcp(|_, tcp| async move {
        let mut connection = h2::server::handshake(tcp).await.expect("HTTP/2");
        let (_, mut respond) = connection
            .accept()
            .await
            .expect("a request")
            .expect("whole");
        let mut stream = respond.send_response(head(200), false).expect("open");
        stream
            .send_data(Bytes::from_static(b"half"), false)
            .expect("open");
        let _ = timeout(Duration::from_millis(20), connection.accept()).await;
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let response = pool
        .send(get("/"), Class::Short, None)
        .await
        .expect("a head");
    let error = response.into_body().collect().await.expect_err("cut");
    assert!(matches!(error, BodyError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_looks_whole() {
    let outcome = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&outcome);
    let peer = Peer::http2(100, move |_, mut request, _respond| {
        let seen = Arc::clone(&seen);
        async move {
            let whole = read_all(request.body_mut()).await.is_some();
            seen.store(if whole { 1 } else { 2 }, Ordering::SeqCst);
        }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let frames = vec![
        Ok(Frame::data(Bytes::from_static(b"half"))),
        Err("the client went away"),
    ];
    let request = streamed_request(frames).await;
    let error = pool
        .send(request, Class::Short, None)
        .await
        .expect_err("cut");
    assert_eq!(error.reason(), "request_body");
    eventually("the peer's view", || outcome.load(Ordering::SeqCst) != 0).await;
    assert_eq!(outcome.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn hard_case_7_an_early_answer_is_whole_and_the_connection_stays_good() {
    let peer = Peer::http2(100, |_, request, mut respond| async move {
        if request.uri().path() == "/upload" {
            // Answered without reading: RFC 9113 section 8.1.
            let mut stream = respond.send_response(head(413), false).expect("open");
            stream
                .send_data(Bytes::from_static(b"too large"), true)
                .expect("open");
            return;
        }
        reply(&mut respond, "next");
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let large: &'static [u8] = vec![b'x'; 1 << 20].leak();
    for _ in 0..1_000 {
        let answer = ask(&pool, post("/upload", large)).await.expect("answered");
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (413, &b"too large"[..])
        );
        assert_eq!(ask(&pool, get("/")).await.expect("answered").body(), "next");
    }
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn nothing_is_read_ahead_of_the_reader() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let peer = Peer::http2(100, move |_, _request, mut respond| {
        let count = Arc::clone(&count);
        async move {
            let mut stream = respond.send_response(head(200), false).expect("open");
            let chunk = Bytes::from_static(&[b'x'; 16 << 10]);
            loop {
                stream.reserve_capacity(chunk.len());
                let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
                let Some(Ok(capacity)) = capacity else { return };
                let part = chunk.slice(..capacity.min(chunk.len()));
                count.fetch_add(part.len() as u64, Ordering::SeqCst);
                if stream.send_data(part, false).is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let response = pool
        .send(get("/"), Class::Short, None)
        .await
        .expect("a head");
    let window = u64::from(Class::Short.stream_window());
    eventually("the window is full", || {
        sent.load(Ordering::SeqCst) >= window
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(sent.load(Ordering::SeqCst), window);

    // Ninety unread answers do not stop another request on the same connection.
    let mut unread = vec![response];
    for _ in 0..10 {
        unread.push(
            pool.send(get("/"), Class::Short, None)
                .await
                .expect("a head"),
        );
    }
    let mut body = pool
        .send(get("/"), Class::Short, None)
        .await
        .expect("a head")
        .into_body();
    let mut read = 0;
    while read < 3 * window {
        let frame = body.frame().await.expect("endless").expect("whole");
        read += frame.into_data().expect("data").len() as u64;
    }
    drop(unread);
}

#[tokio::test]
async fn an_answer_nobody_reads_any_more_is_cancelled() {
    let reset = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&reset);
    let peer = Peer::http2(100, move |_, _request, mut respond| {
        let seen = Arc::clone(&seen);
        async move {
            let mut stream = respond.send_response(head(200), false).expect("open");
            let reason = std::future::poll_fn(|context| stream.poll_reset(context)).await;
            assert_eq!(reason.expect("a reset"), Reason::CANCEL);
            seen.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    drop(
        pool.send(get("/"), Class::Long, None)
            .await
            .expect("a head"),
    );
    eventually("the peer hears of it", || reset.load(Ordering::SeqCst) == 1).await;
    eventually("the slot is free", || {
        pool.shared.roster(Class::Long).busy() == 0
    })
    .await;
}

#[tokio::test]
async fn hard_case_8_a_body_waits_for_100_continue_or_the_time_out() {
    let peer = Peer::http2(100, |_, mut request, mut respond| async move {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/refuse" => {
                let _ = respond.send_response(head(417), true);
                // Nothing of the body may have been sent.
                assert!(read_all(request.body_mut()).await.is_none());
            }
            "/continue" => {
                respond.send_informational(head(100)).expect("interim");
                let body = read_all(request.body_mut()).await.expect("whole");
                reply(&mut respond, body);
            }
            _ => {
                let body = read_all(request.body_mut()).await.expect("whole");
                reply(&mut respond, body);
            }
        }
    })
    .await;
    let settings = PoolSettings {
        expect_timeout: Duration::from_millis(150),
        ..PoolSettings::default()
    };
    let pool = pool(peer.http2_connector(), settings);
    let expecting = |path: &str| {
        let mut request = post(path, b"body");
        request
            .headers_mut()
            .insert("expect", http::HeaderValue::from_static("100-Continue"));
        request
    };
    assert_eq!(
        ask(&pool, expecting("/refuse"))
            .await
            .expect("answered")
            .status(),
        417
    );

    let begun = Instant::now();
    assert_eq!(
        ask(&pool, expecting("/continue"))
            .await
            .expect("answered")
            .body(),
        "body"
    );
    assert!(
        begun.elapsed() < Duration::from_millis(150),
        "went ahead at the peer's word"
    );

    let begun = Instant::now();
    assert_eq!(
        ask(&pool, expecting("/silent"))
            .await
            .expect("answered")
            .body(),
        "body"
    );
    assert!(
        begun.elapsed() >= Duration::from_millis(150),
        "waited for the peer's word"
    );
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn hard_case_13_a_flood_of_interim_answers_is_stopped() {
    let peer = Peer::http2(100, |_, _request, mut respond| async move {
        while respond.send_informational(head(103)).is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let error = ask(&pool, get("/")).await.expect_err("stopped");
    assert_eq!(error.reason(), "broken");
    assert!(error.to_string().contains("interim"), "{error}");
}

#[tokio::test]
async fn an_upload_that_cannot_move_marks_its_connection() {
    // Never reads, so its window stays closed.
    let peer = Peer::http2(100, |_, request, mut respond| async move {
        if request.uri().path() == "/stuck" {
            let _request = request;
            std::future::pending::<()>().await;
        }
        reply(&mut respond, "moves");
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let large: &'static [u8] = vec![b'x'; 4 << 20].leak();
    let stuck = {
        let pool = pool.clone();
        tokio::spawn(async move { ask(&pool, post("/stuck", large)).await })
    };
    eventually("the connection counts as stalled", || {
        pool.shared.roster(Class::Short).any_stalled()
    })
    .await;
    ask(&pool, get("/")).await.expect("answered");
    eventually("another connection is opened", || peer.accepted() == 2).await;
    stuck.abort();
}
