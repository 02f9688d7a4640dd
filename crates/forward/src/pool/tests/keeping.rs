//! Connections are kept, shared, opened ahead of need and closed when nobody uses them.

use tokio::sync::watch;

use super::peer::{Peer, reply};
use super::*;

/// A peer that holds each answer back until told.
async fn holding_peer(max_streams: u32) -> (Peer, watch::Sender<bool>) {
    let (release, held) = watch::channel(false);
    let peer = Peer::http2(max_streams, move |number, _request, mut respond| {
        let mut held = held.clone();
        async move {
            let _ = held.wait_for(|released| *released).await;
            reply(&mut respond, number.to_string());
        }
    })
    .await;
    (peer, release)
}

async fn echo_peer() -> Peer {
    Peer::http2(100, |_, request, mut respond| async move {
        let uri = request.uri().clone();
        reply(&mut respond, uri.to_string());
    })
    .await
}

#[tokio::test]
async fn requests_share_one_connection() {
    let peer = echo_peer().await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    for number in 0..50 {
        let answer = ask(&pool, get(&format!("/{number}?q")))
            .await
            .expect("answered");
        assert_eq!(answer.body(), &format!("http://peer.test:8080/{number}?q"));
    }
    assert_eq!(pool.shared.metrics.dialled.get(), 1);
    assert_eq!(pool.shared.metrics.requests.get(), 50);
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn a_burst_at_the_start_dials_once() {
    let peer = echo_peer().await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let burst = (0..8).map(|_| ask(&pool, get("/")));
    for answer in futures_util::future::join_all(burst).await {
        assert_eq!(answer.expect("answered").status(), 200);
    }
    assert_eq!(pool.shared.metrics.dialled.get(), 1);
}

#[tokio::test]
async fn another_connection_opens_before_the_peers_limit() {
    let (peer, release) = holding_peer(10).await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let ask_held = || {
        let pool = pool.clone();
        tokio::spawn(async move { ask(&pool, get("/")).await })
    };
    let mut held: Vec<_> = (0..7).map(|_| ask_held()).collect();
    eventually("the peer's limit known, seven streams open", || {
        let roster = pool.shared.roster(Class::Short);
        roster.all_settled() && roster.busy() == 7
    })
    .await;
    assert_eq!(pool.shared.metrics.dialled.get(), 1);

    // The eighth of ten is the sign: dialled ahead, with two streams still free.
    held.push(ask_held());
    eventually("second connection", || peer.accepted() == 2).await;
    release.send(true).expect("peer runs");
    for answer in held {
        assert_eq!(
            answer.await.expect("no panic").expect("answered").status(),
            200
        );
    }
}

#[tokio::test]
async fn no_connection_carries_more_than_its_peer_allows() {
    let (peer, release) = holding_peer(10).await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let asking: Vec<_> = (0..40)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { ask(&pool, get("/")).await })
        })
        .collect();
    eventually("enough connections for forty", || peer.accepted() >= 4).await;
    release.send(true).expect("peer runs");
    let mut per_connection = [0; 8];
    for answer in asking {
        let answer = answer.await.expect("no panic").expect("answered");
        let number: usize = std::str::from_utf8(answer.body())
            .expect("digits")
            .parse()
            .expect("a number");
        per_connection[number] += 1;
    }
    assert_eq!(per_connection.iter().sum::<usize>(), 40);
    assert!(
        per_connection.iter().all(|count| *count <= 10),
        "{per_connection:?}"
    );
}

#[tokio::test]
async fn classes_ride_apart() {
    let (peer, release) = holding_peer(100).await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let watching = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.send(get("/?watch=1"), Class::Long, None).await })
    };
    eventually("the watch's connection", || peer.accepted() == 1).await;
    let asking = {
        let pool = pool.clone();
        tokio::spawn(async move { ask(&pool, get("/")).await })
    };
    eventually("a connection of its own", || peer.accepted() == 2).await;
    release.send(true).expect("peer runs");
    assert_eq!(
        asking.await.expect("no panic").expect("answered").body(),
        "1"
    );
    assert_eq!(
        watching
            .await
            .expect("no panic")
            .expect("answered")
            .status(),
        200
    );
}

#[tokio::test]
async fn waiting_for_a_slot_has_a_deadline_and_a_clear_error() {
    let (peer, release) = holding_peer(1).await;
    let settings = PoolSettings {
        max_connections: 1,
        max_streams: 1,
        slot_timeout: Duration::from_millis(100),
        ..PoolSettings::default()
    };
    let pool = pool(peer.http2_connector(), settings);
    let first = {
        let pool = pool.clone();
        tokio::spawn(async move { ask(&pool, get("/")).await })
    };
    eventually("first request on its connection", || peer.accepted() == 1).await;
    let error = ask(&pool, get("/")).await.expect_err("no place");
    assert_eq!(
        error.to_string(),
        "no free stream within 100ms: 1 connections are full"
    );
    assert_eq!(pool.shared.metrics.no_slot.get(), 1);

    // Whoever waits is served in the order of asking once there is room.
    release.send(true).expect("peer runs");
    first.await.expect("no panic").expect("answered");
    ask(&pool, get("/")).await.expect("room again");
}

#[tokio::test]
async fn idle_connections_close_the_extra_ones_first() {
    let (peer, release) = holding_peer(100).await;
    let settings = PoolSettings {
        comfortable_streams: 1,
        idle_timeout: Duration::from_millis(60),
        last_idle_timeout: Duration::from_secs(60),
        keepalive: Duration::from_millis(20),
        ..PoolSettings::default()
    };
    let pool = pool(peer.http2_connector(), settings);
    let ask_held = || {
        let pool = pool.clone();
        tokio::spawn(async move { ask(&pool, get("/")).await })
    };
    let mut asking = vec![ask_held()];
    eventually("the peer's limit known", || {
        let roster = pool.shared.roster(Class::Short);
        roster.all_settled() && roster.busy() == 1
    })
    .await;
    asking.push(ask_held());
    eventually("several connections", || {
        pool.shared.metrics.open.get() >= 2
    })
    .await;
    release.send(true).expect("peer runs");
    for answer in asking {
        answer.await.expect("no panic").expect("answered");
    }
    eventually("one connection left", || {
        pool.shared.metrics.open.get() == 1
    })
    .await;
    assert!(pool.idle_since().is_some());
    ask(&pool, get("/"))
        .await
        .expect("the last one still serves");
}

#[tokio::test]
async fn connections_close_with_the_pool() {
    let peer = echo_peer().await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    ask(&pool, get("/")).await.expect("answered");
    let open = pool.shared.metrics.open.clone();
    let tasks = pool.shared.tasks.clone();
    assert_eq!(open.get(), 1);
    drop(pool);
    tasks.close();
    timeout(Duration::from_secs(5), tasks.wait())
        .await
        .expect("all tasks end");
    assert_eq!(open.get(), 0);
}

#[tokio::test]
async fn a_silent_peer_is_found_dead() {
    // Accepts, reads, and never says a word.
    let peer = Peer::tcp(|_, tcp| async move {
        let (mut read, _write) = tcp.into_split();
        let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
    })
    .await;
    let settings = PoolSettings {
        keepalive: Duration::from_millis(30),
        ..PoolSettings::default()
    };
    let pool = pool(peer.http2_connector(), settings);
    let error = pool
        .send(get("/"), Class::Long, None)
        .await
        .expect_err("dead");
    assert_eq!(error.reason(), "broken");
    eventually("let go of", || pool.shared.metrics.open.get() == 0).await;
}

#[tokio::test]
async fn a_failed_dial_is_told_to_all_who_waited_and_tried_anew_by_the_next() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let connector = Plain {
        address,
        protocol: Protocol::Http2,
    };
    let pool = pool(connector, PoolSettings::default());
    let waiting = (0..5).map(|_| ask(&pool, get("/")));
    for answer in futures_util::future::join_all(waiting).await {
        let error = answer.expect_err("nobody listens");
        assert_eq!(error.reason(), "dial");
    }
    assert_eq!(pool.shared.metrics.dialled.get(), 1);
    assert_eq!(pool.shared.metrics.dial_failures.get(), 1);
    ask(&pool, get("/")).await.expect_err("still nobody");
    assert_eq!(pool.shared.metrics.dialled.get(), 2);
}

#[tokio::test]
async fn the_head_has_a_deadline_and_the_connection_stays() {
    let peer = Peer::http2(100, |_, request, mut respond| async move {
        if request.uri().path() == "/silent" {
            std::future::pending::<()>().await;
        }
        reply(&mut respond, "word");
    })
    .await;
    let pool = pool(peer.http2_connector(), PoolSettings::default());
    let after = Some(Duration::from_millis(50));
    let error = pool
        .send(get("/silent"), Class::Short, after)
        .await
        .expect_err("too late");
    assert_eq!(error.reason(), "head_timeout");
    ask(&pool, get("/")).await.expect("answered");
    assert_eq!(peer.accepted(), 1);
}
