//! Introductions, and peers that are none.

use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, Packet};
use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::konnectivity::{AgentStream, PendingAgent};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::pair::{LIMIT, call, connected, hello, server_hello};
use crate::raw_stream::RawStream;

#[tokio::test]
async fn an_agent_shows_its_token_and_may_be_refused() {
    let (hub_io, agent_io) = connected();
    let calling = tokio::spawn(async move { call(agent_io, Some("secret")).await });
    let mut pending = PendingAgent::open_over(hub_io, &Http2Settings::default())
        .await
        .unwrap();
    assert_eq!(pending.hello(), &hello());
    let token = pending.take_token().unwrap().unwrap();
    assert_eq!(token.expose(), "secret");
    assert_eq!(pending.take_token(), Ok(None));
    assert!(!format!("{pending:?}").contains("secret"));
    pending.refuse("the token is not accepted").await;
    let error = calling.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), "refused");
    assert!(error.to_string().contains("the token is not accepted"));
}

#[tokio::test]
async fn a_call_of_something_else_is_no_agent() {
    let (hub_io, client_io) = connected();
    let client = tokio::spawn(async move {
        let (requests, connection) = h2::client::handshake(client_io).await.unwrap();
        let driving = tokio::spawn(connection);
        let request = http::Request::post("https://a/Other/Call")
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (answer, _send) = requests
            .ready()
            .await
            .unwrap()
            .send_request(request, false)
            .unwrap();
        let answer = answer.await.unwrap();
        drop(driving);
        answer.headers()["grpc-status"].clone()
    });
    let error = PendingAgent::open_over(hub_io, &Http2Settings::default())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "protocol");
    assert_eq!(client.await.unwrap(), "12");
}

#[tokio::test]
async fn an_agent_that_sends_garbage_loses_its_stream() {
    let (hub_io, client_io) = connected();
    let client = tokio::spawn(async move {
        let mut agent = RawStream::of_agent(client_io).await;
        assert_eq!(agent.headers["serverid"], "server-1");
        assert_eq!(agent.headers["servercount"], "3");
        agent.say_raw(Bytes::from_static(b"\x00\x00\x00\x00\x02\xff\xff"));
        agent.ended().await;
    });
    let pending = PendingAgent::open_over(hub_io, &Http2Settings::default())
        .await
        .unwrap();
    let (hub, mut driver) = pending.accept(&server_hello()).unwrap();
    let end = driver.run().await;
    assert_eq!(end.reason(), "protocol", "{}", end.in_full());
    assert!(!hub.is_usable());
    drop(driver);
    client.await.unwrap();
}

/// An agent that is connected, and the hub's end of its stream.
async fn raw_agent() -> (RawStream, AgentStream) {
    let (hub_io, agent_io) = connected();
    let calling = tokio::spawn(RawStream::of_agent(agent_io));
    let pending = PendingAgent::open_over(hub_io, &Http2Settings::default())
        .await
        .unwrap();
    let (hub, mut driver) = pending.accept(&server_hello()).unwrap();
    tokio::spawn(async move { driver.run().await });
    (calling.await.unwrap(), hub)
}

async fn asked_to_dial(agent: &mut RawStream) -> DialId {
    match agent.hear().await {
        Some(Packet::DialRequest { dial, .. }) => dial,
        other => panic!("{other:?}"),
    }
}

/// Another cluster's agent knows the numbers of a dial and its connection.
#[tokio::test]
async fn hard_case_16_an_agent_speaks_for_its_own_connections_alone() {
    let (mut own, hub) = raw_agent().await;
    let (mut other, _others_hub) = raw_agent().await;
    let opening = tokio::spawn(async move {
        let target = "a:1".parse().unwrap();
        hub.open(&target, LIMIT).await
    });
    let dial = asked_to_dial(&mut own).await;
    let connect = ConnectId::new(7).unwrap();
    let forged = Bytes::from_static(b"forged");
    let answer = Packet::DialResponse {
        dial,
        result: Ok(connect),
    };
    other.say(&answer);
    other.say(&Packet::Data {
        connect,
        data: forged.clone(),
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!opening.is_finished(), "opened by another agent");
    own.say(&answer);
    let mut stream = opening.await.unwrap().unwrap();
    other.say(&Packet::Data {
        connect,
        data: forged,
    });
    other.say(&Packet::CloseRequest { connect });
    // A number that nobody was given, from the agent itself.
    own.say(&Packet::Data {
        connect: ConnectId::new(8).unwrap(),
        data: Bytes::from_static(b"nobody's"),
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    own.say(&Packet::Data {
        connect,
        data: Bytes::from_static(b"own"),
    });
    let mut seen = [0; 3];
    timeout(LIMIT, stream.read_exact(&mut seen))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&seen, b"own");
}
