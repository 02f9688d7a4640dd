//! What passes through two hops, and what must not.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::harness::{LIMIT, ServerOptions, World, eventually, greeting, service_proxy};

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_half_closes_pass_both_ways() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let _agent = world.connected_agent(&server, "managed").await;
    let dialer = world.dialer(&server);
    let mut tunnels = JoinSet::new();
    for seed in 0..8_u8 {
        let dialer = dialer.clone();
        tunnels.spawn(async move {
            let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
            assert_eq!(greeting(&mut stream, 7).await, "managed");
            let blob: Vec<u8> = (0..2_000_000_u32).map(|i| seed ^ (i % 251) as u8).collect();
            let (mut read, mut write) = tokio::io::split(stream);
            let sent = blob.clone();
            let writing = tokio::spawn(async move {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut back = Vec::new();
            read.read_to_end(&mut back).await.unwrap();
            assert!(back == blob, "{} bytes came back", back.len());
            writing.await.unwrap();
        });
    }
    while let Some(done) = tunnels.join_next().await {
        done.unwrap();
    }
    eventually(|| server.metric("cluster_proxy_server_active_tunnels") == 0.0).await;
    assert_eq!(
        server.metric("cluster_proxy_server_tunnels_total{result=\"opened\"}"),
        8.0
    );
    let to_client = "cluster_proxy_server_tunnelled_bytes_total{direction=\"to_client\"}";
    assert_eq!(server.metric(to_client), 8.0 * 2_000_007.0);
    assert_eq!(server.metric("cluster_proxy_server_connected_agents"), 1.0);
}

#[tokio::test]
async fn nothing_is_dialled_for_a_tunnel() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let _agent = world.connected_agent(&server, "managed").await;
    let leaf = cluster_proxy_identity::ca::Leaf::proxy_client();
    let (dialer, metrics) = world.dialer_with(server.frontend, &leaf);
    for _ in 0..100 {
        let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
        assert_eq!(greeting(&mut stream, 7).await, "managed");
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
    assert_eq!(metrics.tunnels_opened(), 100);
    assert!(
        metrics.connections_dialled() <= 2,
        "{}",
        metrics.connections_dialled()
    );
}

#[tokio::test]
async fn an_abort_by_client_or_target_reaches_the_other() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = target.local_addr().unwrap();
    let _agent = world.connected_agent_at(&server, "managed", own).await;
    let dialer = world.dialer(&server);

    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    stream.write_all(b"part").await.unwrap();
    let (mut socket, _) = target.accept().await.unwrap();
    socket.read_exact(&mut [0; 4]).await.unwrap();
    drop(stream);
    let error = timeout(LIMIT, socket.read(&mut [0; 1]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    let (mut socket, _) = target.accept().await.unwrap();
    socket.write_all(b"part").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    socket.set_zero_linger().unwrap();
    drop(socket);
    let error = timeout(LIMIT, stream.read(&mut [0; 1]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_stalled_readers_stop_nobody_else() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let source = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endless = source.local_addr().unwrap().to_string().parse().unwrap();
    let sources = tokio::spawn(async move {
        let mut senders = JoinSet::new();
        while let Ok((mut socket, _)) = source.accept().await {
            senders.spawn(async move {
                let blob = vec![0; 64 * 1024];
                while socket.write_all(&blob).await.is_ok() {}
            });
        }
    });
    let options = ServerOptions {
        strategies: "destHost,default",
        ..ServerOptions::default()
    };
    let other = world.server(options).await;
    drop(server);
    let _agent = world.connected_agent(&other, "managed").await;
    let dialer = world.dialer(&other);
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut stream = dialer.connect(&endless).await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        stalled.push(stream);
    }
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
    let begin = Instant::now();
    for _ in 0..200 {
        stream.write_all(&[5; 1024]).await.unwrap();
        timeout(LIMIT, stream.read_exact(&mut [0; 1024]))
            .await
            .unwrap()
            .unwrap();
    }
    assert!(begin.elapsed() < LIMIT / 2, "{:?}", begin.elapsed());
    sources.abort();
}
