//! One access event for each connection: whose it was, how it ended, and whose fault that was.

use std::sync::LazyLock;

use cluster_proxy_testkit::captured_events::CapturedEvents;
use cluster_proxy_tunnel::TunnelStream;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::harness::{
    Agent, Server, ServerOptions, World, eventually, greeter, greeting, service_proxy,
};

/// The access events of this process: each test has clusters of its own.
static EVENTS: LazyLock<CapturedEvents> = LazyLock::new(|| {
    let events = CapturedEvents::default();
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(EnvFilter::new("off,access=info"))
        .with_writer(events.clone())
        .init();
    events
});

/// The events of connections to `cluster`, once there are so many.
async fn events_of(cluster: &str, count: usize) -> Vec<Value> {
    let dialled = format!("\"dialled\":\"{}\"", service_proxy(cluster));
    let found = || EVENTS.containing(&dialled);
    eventually(|| found().len() >= count).await;
    let found = found();
    assert_eq!(found.len(), count, "{found:?}");
    let fields = found.iter().map(|event| {
        let event: Value = serde_json::from_str(event).unwrap();
        event["fields"].clone()
    });
    fields.collect()
}

async fn connected(world: &World, cluster: &'static str) -> (Server, Agent, TunnelStream) {
    let server = world.server(ServerOptions::default()).await;
    let own = greeter("hello").await;
    let agent = world.connected_agent_at(&server, cluster, own).await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy(cluster)).await.unwrap();
    assert_eq!(greeting(&mut stream, 5).await, "hello");
    (server, agent, stream)
}

#[tokio::test]
async fn a_connection_that_ends_in_order_is_nobodys_fault() {
    LazyLock::force(&EVENTS);
    let world = World::new();
    let (_server, _agent, mut stream) = connected(&world, "in-order").await;
    stream.write_all(b"12345678").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"12345678");
    let event = &events_of("in-order", 1).await[0];
    assert_eq!(event["reason"], "finished");
    assert_eq!(event["fault"], Value::Null);
    assert_eq!(event["cluster"], "in-order");
    assert_eq!(event["client"], "user-server");
    assert_eq!(event["protocol"], "lane");
    assert_eq!(event["bytes_to_target"], 8);
    assert_eq!(event["bytes_to_client"], 13);
    assert!(event["dial_milliseconds"].is_u64(), "{event}");
    assert!(event["milliseconds"].is_u64(), "{event}");
    let agent = event["agent"].as_str().unwrap();
    assert!(agent.starts_with("agent-host="), "{event}");
}

/// As closing a TLS connection looks from below: nobody waits for the other end's close.
#[tokio::test]
async fn a_client_that_leaves_after_its_end_breaks_nothing() {
    LazyLock::force(&EVENTS);
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    // One that never ends what it sends.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = silent.local_addr().unwrap();
    let _agent = world.connected_agent_at(&server, "left", own).await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("left")).await.unwrap();
    let (mut socket, _) = silent.accept().await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"bye");
    drop(stream);
    let event = &events_of("left", 1).await[0];
    assert_eq!(event["reason"], "client_left");
    assert_eq!(event["fault"], Value::Null);
}

#[tokio::test]
async fn who_breaks_a_connection_is_named() {
    LazyLock::force(&EVENTS);
    let world = World::new();
    let (_server, _agent, stream) = connected(&world, "client-goes").await;
    drop(stream);
    let event = &events_of("client-goes", 1).await[0];
    assert_eq!(event["reason"], "client_broken");
    assert_eq!(event["fault"], "client");

    let (_server, agent, mut stream) = connected(&world, "agent-goes").await;
    agent.drain.end();
    stream.read(&mut [0; 8]).await.unwrap_err();
    let event = &events_of("agent-goes", 1).await[0];
    assert_eq!(event["reason"], "target_broken");
    assert_eq!(event["fault"], "agent", "{event}");
}

#[tokio::test]
async fn a_target_that_is_not_connected_is_told_with_its_cluster() {
    LazyLock::force(&EVENTS);
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let dialer = world.dialer(&server);
    let target = service_proxy("not-there");
    dialer.connect(&target).await.unwrap_err();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let _agent = world
        .connected_agent_at(&server, "not-there", nowhere)
        .await;
    dialer.connect(&target).await.unwrap_err();
    let events = events_of("not-there", 2).await;
    let told = |event: &Value| {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        [text("reason"), text("fault"), text("cluster")]
    };
    assert_eq!(told(&events[0]), ["no_agent", "agent", ""]);
    assert_eq!(told(&events[1]), ["refused", "target", "not-there"]);
    assert_eq!(events[1]["dial_milliseconds"], Value::Null);
}
