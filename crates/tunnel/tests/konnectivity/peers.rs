//! Introductions, and peers that are none.

use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::konnectivity::PendingAgent;

use crate::pair::{call, connected, hello, server_hello};

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
        let (requests, connection) = h2::client::handshake(client_io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("https://a/AgentService/Connect")
            .header("content-type", "application/grpc")
            .header("agentid", "x")
            .body(())
            .unwrap();
        let (answer, mut send) = requests
            .ready()
            .await
            .unwrap()
            .send_request(request, false)
            .unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["serverid"], "server-1");
        assert_eq!(answer.headers()["servercount"], "3");
        send.send_data(b"\x00\x00\x00\x00\x02\xff\xff".as_slice().into(), false)
            .unwrap();
        let mut body = answer.into_body();
        while let Some(Ok(_)) = body.data().await {}
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
