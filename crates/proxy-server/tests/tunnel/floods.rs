//! Clients that hurry, give up or attack: nothing is left behind, and others go on.

use std::time::Duration;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_tunnel::DialError;
use cluster_proxy_tunnel::frontend::HTTP2_ALPN;
use cluster_proxy_tunnel::tls::{self, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{LIMIT, Server, ServerOptions, World, eventually, greeting, service_proxy};

#[tokio::test(flavor = "multi_thread")]
async fn dials_given_up_at_any_moment_leave_nothing_behind() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let agent = world.connected_agent(&server, "managed").await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    greeting(&mut stream, 7).await;
    drop(stream);
    eventually(|| server.metric("cluster_proxy_server_active_tunnels") == 0.0).await;

    let mut dials = JoinSet::new();
    for turn in 0..600_u64 {
        let dialer = dialer.clone();
        dials.spawn(async move {
            let patience = Duration::from_micros(turn * 37 % 20_000);
            let _ = timeout(patience, dialer.connect(&service_proxy("managed"))).await;
        });
        if dials.len() >= 40 {
            dials.join_next().await;
        }
    }
    while dials.join_next().await.is_some() {}
    eventually(|| server.metric("cluster_proxy_server_active_tunnels") == 0.0).await;
    // Two listeners, the server itself, the lane, at most two connections of the dialer.
    eventually(|| server.drain.tasks() <= 6).await;
    eventually(|| agent.drain.tasks() <= 2).await;
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_only_the_attackers_connection() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let _agent = world.connected_agent(&server, "managed").await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    greeting(&mut stream, 7).await;

    for _ in 0..3 {
        rapid_resets(&world, &server).await;
    }
    let another = match dialer.connect(&service_proxy("managed")).await {
        // What was given up may still be in the target's backlog.
        Err(DialError::TimedOut { .. }) => dialer.connect(&service_proxy("managed")).await,
        connected => connected,
    };
    let mut another = another.unwrap();
    assert_eq!(greeting(&mut another, 7).await, "managed");
    drop((stream, another));
    eventually(|| server.metric("cluster_proxy_server_active_tunnels") == 0.0).await;
}

/// Opens streams and resets each at once (CVE-2023-44487), until the server has had enough.
async fn rapid_resets(world: &World, server: &Server) {
    let socket = TcpStream::connect(server.frontend).await.unwrap();
    let config = world
        .client_tls(&Leaf::proxy_client())
        .with_alpn(&[HTTP2_ALPN])
        .config();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tls = tls::connect(socket, name, config, LIMIT).await.unwrap();
    let (requests, connection) = h2::client::Builder::new()
        .handshake::<_, bytes::Bytes>(tls.stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let target = service_proxy("managed").to_string();
    for _ in 0..5_000 {
        let request = http::Request::connect(target.as_str()).body(()).unwrap();
        let Ok(mut ready) = requests.clone().ready().await else {
            break;
        };
        let Ok((_, mut stream)) = ready.send_request(request, false) else {
            break;
        };
        stream.send_reset(h2::Reason::CANCEL);
    }
    drop(requests);
    let _ = timeout(LIMIT, connection)
        .await
        .expect("the connection ends");
}
