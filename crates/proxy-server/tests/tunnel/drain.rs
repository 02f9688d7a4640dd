//! Ending in order: nobody is cut who could have finished.

use std::net::SocketAddr;
use std::time::Duration;

use cluster_proxy_runtime::drain::DrainLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::{
    LIMIT, ServerOptions, World, announcing, eventually, greeter, greeting, service_proxy,
};

const LIMITS: DrainLimits = DrainLimits {
    min: Duration::from_millis(100),
    limit: Duration::from_secs(5),
};

#[tokio::test]
async fn a_draining_server_finishes_what_is_open() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let agent = world.connected_agent(&server, "managed").await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");

    let drain = server.drain.clone();
    let draining = tokio::spawn(async move { drain.run(LIMITS).await });
    eventually(|| server.drain.is_closing()).await;
    // No new ones, on the kept connection or on another.
    let refused = async || match dialer.connect(&service_proxy("managed")).await {
        Ok(_) => false,
        Err(error) => error.reason() == "server_unreachable",
    };
    while !refused().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is open goes on to its own end.
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(back.len(), 100_000);
    drop(stream);
    assert!(
        timeout(LIMIT, draining).await.unwrap().unwrap(),
        "the server was cut"
    );
    eventually(|| !agent.readiness.waiting_for().is_empty()).await;
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let _agent = world.connected_agent(&server, "managed").await;
    let mut stream = world
        .dialer(&server)
        .connect(&service_proxy("managed"))
        .await
        .unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
    let limits = DrainLimits {
        limit: Duration::from_millis(300),
        ..LIMITS
    };
    assert!(!timeout(LIMIT, server.drain.run(limits)).await.unwrap());
    assert!(
        timeout(LIMIT, stream.read(&mut [0; 1]))
            .await
            .unwrap()
            .is_err()
    );
    eventually(|| server.drain.tasks() == 0).await;
}

#[tokio::test]
async fn a_draining_agent_finishes_what_is_open() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let agent = world.connected_agent(&server, "managed").await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");

    let drain = agent.drain.clone();
    let draining = tokio::spawn(async move { drain.run(LIMITS).await });
    eventually(|| agent.drain.is_started()).await;
    // The next agent takes over, and the old one still serves what it has.
    let next = greeter("another").await;
    let _next = world.connected_agent_at(&server, "managed", next).await;
    eventually(|| agent.drain.is_closing()).await;
    for _ in 0..4 {
        let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
        assert_eq!(greeting(&mut stream, 7).await, "another");
    }
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(back.len(), 100_000);
    assert!(
        timeout(LIMIT, draining).await.unwrap().unwrap(),
        "the agent was cut"
    );
    eventually(|| server.metric("cluster_proxy_server_lanes") == 1.0).await;
}

#[tokio::test]
async fn an_agent_connects_to_every_server_and_leaves_the_draining_one() {
    let world = World::new();
    let options = |server_id| ServerOptions {
        server_id,
        server_count: 2,
        ..Default::default()
    };
    let (one, two) = (
        world.server(options("one")).await,
        world.server(options("two")).await,
    );
    let balancer = balancer(vec![one.agents, two.agents]).await;
    let own = greeter("managed").await;
    let _agent = world.agent(balancer, "managed", &announcing("managed"), own);
    let lanes = "cluster_proxy_server_lanes";
    eventually(|| one.metric(lanes) == 1.0 && two.metric(lanes) == 1.0).await;
    for server in [&one, &two] {
        let mut stream = world
            .dialer(server)
            .connect(&service_proxy("managed"))
            .await
            .unwrap();
        assert_eq!(greeting(&mut stream, 7).await, "managed");
    }
    // Told at once, the agent looks for another server, which comes behind the same address.
    one.drain.start();
    let three = world.server(options("three")).await;
    balancer_adds(balancer, three.agents).await;
    eventually(|| three.metric(lanes) == 1.0).await;
    assert_eq!(one.metric(lanes), 1.0);
    one.drain.close();
    eventually(|| one.metric(lanes) == 0.0).await;
    assert_eq!(two.metric(lanes), 1.0);
}

/// A load balancer that takes its backends in turn. A connection that begins with `+` adds one.
pub(crate) async fn balancer(mut backends: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut front, _) = listener.accept().await.unwrap();
            let mut first = [0];
            if front.peek(&mut first).await.unwrap() == 1 && first == *b"+" {
                let mut text = String::new();
                front.read_to_string(&mut text).await.unwrap();
                backends.push(text[1..].parse().unwrap());
                continue;
            }
            let backend = backends[turn % backends.len()];
            tokio::spawn(async move {
                let mut back = TcpStream::connect(backend).await.unwrap();
                let _ = copy_bidirectional(&mut front, &mut back).await;
            });
        }
    });
    address
}

async fn balancer_adds(balancer: SocketAddr, backend: SocketAddr) {
    let mut socket = TcpStream::connect(balancer).await.unwrap();
    socket
        .write_all(format!("+{backend}").as_bytes())
        .await
        .unwrap();
    socket.shutdown().await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.unwrap();
}
