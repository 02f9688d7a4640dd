//! A request that no peer saw is tried again; one that a peer may have seen never is.

use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use h2::server;
use tokio::io::AsyncWriteExt;

use super::peer::{Peer, read_all, reply};
use super::*;

/// Counts requests whose head a peer has read.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<AtomicUsize>);

impl Seen {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_kept_connection_that_closed_costs_nothing() {
    // Each connection answers one request, says GOAWAY and closes.
    let peer = Peer::tcp(|number, tcp| async move {
        let mut connection = server::handshake(tcp).await.expect("HTTP/2");
        let (_, mut respond) = connection
            .accept()
            .await
            .expect("a request")
            .expect("whole");
        reply(&mut respond, number.to_string());
        connection.graceful_shutdown();
        while connection.accept().await.is_some() {}
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    for number in 0..20 {
        let answer = ask(&pool, post("/", b"body")).await.expect("answered");
        assert_eq!(answer.body(), &number.to_string());
    }
    assert_eq!(peer.accepted(), 20);
}

#[tokio::test]
async fn a_kept_connection_whose_socket_closed_costs_nothing() {
    let peer = Peer::tcp(|number, tcp| async move {
        let mut connection = server::handshake(tcp).await.expect("HTTP/2");
        let (_, mut respond) = connection
            .accept()
            .await
            .expect("a request")
            .expect("whole");
        reply(&mut respond, number.to_string());
        // Long enough for the answer to leave; then the socket goes without a word.
        let _ = timeout(Duration::from_millis(20), connection.accept()).await;
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    for number in 0..3 {
        let answer = ask(&pool, get("/")).await.expect("answered");
        assert_eq!(answer.body(), &number.to_string());
        eventually("connection gone", || pool.shared.metrics.open.get() == 0).await;
    }
}

#[tokio::test]
async fn a_refused_request_is_sent_again_whole() {
    let seen = Seen::default();
    let count = seen.clone();
    let peer = Peer::http2(100, move |_, mut request, mut respond| {
        let attempt = count.add();
        async move {
            if attempt < 2 {
                // The body may have been sent by now; the peer still promises not to have acted.
                read_all(request.body_mut()).await;
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
            let body = read_all(request.body_mut()).await.expect("whole");
            reply(&mut respond, body);
        }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let answer = ask(&pool, post("/", b"the whole body"))
        .await
        .expect("third time lucky");
    assert_eq!(answer.body(), "the whole body");
    assert_eq!(seen.count(), 3);
    assert_eq!(pool.shared.metrics.retries.get(), 2);
    assert_eq!(pool.shared.metrics.requests.get(), 1);
}

#[tokio::test]
async fn a_peer_that_always_refuses_is_not_asked_for_ever() {
    let seen = Seen::default();
    let count = seen.clone();
    let peer = Peer::http2(100, move |_, _request, mut respond| {
        count.add();
        async move { respond.send_reset(Reason::REFUSED_STREAM) }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let error = ask(&pool, get("/")).await.expect_err("never taken");
    assert_eq!(error.reason(), "not_taken");
    assert_eq!(seen.count(), MAX_ATTEMPTS);
}

#[tokio::test]
async fn a_large_body_that_was_begun_is_not_sent_again() {
    let seen = Seen::default();
    let count = seen.clone();
    let peer = Peer::http2(100, move |_, mut request, mut respond| {
        count.add();
        async move {
            // More than is kept for another try has certainly been taken by now.
            let mut taken = 0;
            while taken < 200 << 10 {
                let chunk = request
                    .body_mut()
                    .data()
                    .await
                    .expect("more")
                    .expect("whole");
                taken += chunk.len();
                let _ = request
                    .body_mut()
                    .flow_control()
                    .release_capacity(chunk.len());
            }
            respond.send_reset(Reason::REFUSED_STREAM);
        }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let large: &'static [u8] = vec![b'x'; 1 << 20].leak();
    let error = ask(&pool, post("/", large))
        .await
        .expect_err("cannot be sent again");
    assert_eq!(error.reason(), "not_taken");
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn what_a_peer_may_have_seen_is_never_sent_twice() {
    let seen = Seen::default();
    let count = seen.clone();
    let peer = Peer::tcp(move |_, tcp| {
        let count = count.clone();
        async move {
            let mut connection = server::handshake(tcp).await.expect("HTTP/2");
            let _unanswered = connection
                .accept()
                .await
                .expect("a request")
                .expect("whole");
            count.add();
            // The socket closes here.
        }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    for (sent, request) in [post("/", b"once"), get("/")].into_iter().enumerate() {
        let error = ask(&pool, request).await.expect_err("no answer");
        assert_eq!(error.reason(), "broken");
        assert_eq!(seen.count(), sent + 1);
    }
    assert_eq!(pool.shared.metrics.retries.get(), 0);
}

#[tokio::test]
async fn a_reset_other_than_refused_is_an_error_at_once() {
    let seen = Seen::default();
    let count = seen.clone();
    let peer = Peer::http2(100, move |_, _request, mut respond| {
        count.add();
        async move { respond.send_reset(Reason::INTERNAL_ERROR) }
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let error = ask(&pool, post("/", b"once")).await.expect_err("reset");
    assert_eq!(error.reason(), "broken");
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn a_peer_that_speaks_no_http2_is_a_clear_error() {
    let peer = Peer::tcp(|_, mut tcp| async move {
        let _ = tcp
            .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await;
        let _ = tcp.shutdown().await;
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let error = ask(&pool, get("/")).await.expect_err("not HTTP/2");
    assert!(["broken", "not_taken"].contains(&error.reason()), "{error}");
}
