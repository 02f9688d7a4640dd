//! Killed ends, targets that cannot be reached, garbage: what is cut is an error at every hop, and
//! what lives goes on.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::harness::{LIMIT, ServerOptions, World, eventually, greeting, service_proxy};

#[tokio::test]
async fn a_killed_agent_or_server_is_an_error_at_both_ends() {
    for kill_server in [false, true] {
        let world = World::new();
        let server = world.server(ServerOptions::default()).await;
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = target.local_addr().unwrap();
        let agent = world.connected_agent_at(&server, "managed", own).await;
        let dialer = world.dialer(&server);
        let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
        let (mut socket, _) = target.accept().await.unwrap();
        socket.write_all(b"part").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        if kill_server {
            server.drain.end()
        } else {
            agent.drain.end()
        }
        let error = timeout(LIMIT, stream.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "server killed: {kill_server}"
        );
        let error = timeout(LIMIT, socket.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "server killed: {kill_server}"
        );
    }
}

#[tokio::test]
async fn why_a_target_is_not_reached_comes_back() {
    let world = World::new();
    let options = ServerOptions {
        strategies: "default",
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let _agent = world.connected_agent(&server, "managed").await;
    let dialer = world.dialer(&server);

    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = dialer
        .connect(&free.to_string().parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "refused");
    assert_eq!(error.details(), format!("{free}: connection refused"));

    let error = dialer
        .connect(&"nowhere.invalid:1".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "unresolvable");

    let error = dialer
        .connect(
            &format!("{}:22", service_proxy("managed").host())
                .parse()
                .unwrap(),
        )
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "refused");

    // A listener whose backlog is full answers no further SYN.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(socket)) =
        timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        held.push(socket);
    }
    let error = dialer
        .connect(&address.to_string().parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "timed_out");
}

#[tokio::test]
async fn everything_finds_together_again_after_a_restart() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let agent = world.connected_agent(&server, "managed").await;
    let dialer = world.dialer(&server);
    assert!(dialer.connect(&service_proxy("managed")).await.is_ok());

    server.drain.end();
    eventually(|| !agent.readiness.waiting_for().is_empty()).await;
    let error = dialer.connect(&service_proxy("managed")).await.unwrap_err();
    assert_eq!(error.reason(), "server_unreachable");

    let ports = Some((server.frontend, server.agents));
    eventually(|| server.drain.tasks() == 0).await;
    let server = world
        .server(ServerOptions {
            ports,
            ..ServerOptions::default()
        })
        .await;
    let agent = agent.connected(&server).await;
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
    drop(agent);
}

#[tokio::test]
async fn garbage_ends_neither_listener() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    for port in [server.frontend, server.agents] {
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0x16, 3, 1, 0xff, 0xff],
            b"",
        ] {
            let mut socket = TcpStream::connect(port).await.unwrap();
            socket.write_all(garbage).await.unwrap();
            socket.shutdown().await.unwrap();
            let _ = timeout(LIMIT, socket.read_to_end(&mut Vec::new()))
                .await
                .unwrap();
        }
    }
    // Those that connect and say nothing stay, and hold nobody up.
    let mut silent = Vec::new();
    for port in [server.frontend, server.agents].repeat(50) {
        silent.push(TcpStream::connect(port).await.unwrap());
    }
    let begin = Instant::now();
    let _agent = world.connected_agent(&server, "managed").await;
    let mut stream = world
        .dialer(&server)
        .connect(&service_proxy("managed"))
        .await
        .unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
    assert!(begin.elapsed() < LIMIT / 2, "{:?}", begin.elapsed());
    assert!(server.metric("cluster_proxy_server_handshakes_failed_total{port=\"agent\"}") >= 3.0);
}

#[tokio::test]
async fn many_callers_share_one_dial_and_one_failure() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let _agent = world.connected_agent(&server, "managed").await;
    let leaf = cluster_proxy_identity::ca::Leaf::user_server_client();
    let (dialer, metrics) = world.dialer_with(server.frontend, &leaf);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let dialer = dialer.clone();
        callers.spawn(async move { dialer.connect(&service_proxy("managed")).await });
    }
    while let Some(connected) = callers.join_next().await {
        connected.unwrap().unwrap();
    }
    assert!(
        metrics.connections_dialled() <= 2,
        "{}",
        metrics.connections_dialled()
    );

    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (dialer, metrics) = world.dialer_with(free, &leaf);
    for _ in 0..50 {
        let dialer = dialer.clone();
        callers.spawn(async move { dialer.connect(&service_proxy("managed")).await });
    }
    while let Some(connected) = callers.join_next().await {
        assert_eq!(
            connected.unwrap().unwrap_err().reason(),
            "server_unreachable"
        );
    }
    // Each tries a few times, and shares the dials with the others: alone they made 200.
    assert!(
        metrics.connections_dialled() <= 20,
        "{}",
        metrics.connections_dialled()
    );
}
