//! What an operator sees: readiness, metrics, access events and nothing secret in them.

use std::sync::LazyLock;

use cluster_proxy_testkit::captured_events::CapturedEvents;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::client::{bearer, read_until};
use crate::world::{ALICES_TOKEN, End, MANAGED_TOKEN, Options, World, eventually};

/// Everything that this process logs, at every level.
static LOGS: LazyLock<CapturedEvents> = LazyLock::new(|| {
    let logs = CapturedEvents::default();
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(logs.clone())
        .init();
    logs
});

/// The last event that contains `text`.
fn find(text: &str) -> Option<String> {
    LOGS.containing(text).pop()
}

/// The access event of the request with this id.
async fn access(id: &str) -> Value {
    let mark = format!("\"request_id\":\"{id}\"");
    eventually("the access event", || find(&mark).is_some()).await;
    let event: Value = serde_json::from_str(&find(&mark).unwrap()).unwrap();
    assert_eq!(event["target"], "access");
    event["fields"].clone()
}

#[tokio::test]
async fn each_request_leaves_one_event_and_no_secret() {
    LazyLock::force(&LOGS);
    let world = World::start().await;
    let token = format!("{ALICES_TOKEN}-hush");
    world
        .hub
        .knows(&token, serde_json::json!({"username": "alice"}));
    let cookie = "cookie-hush";
    let headers = [
        ("authorization", bearer(&token)),
        ("cookie", format!("a={cookie}")),
        ("x-anything", "header-hush".to_owned()),
        ("audit-id", "audit-hush".to_owned()),
    ];
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let answer = world
        .get("/managed/api/v1/pods?token=query-hush", &headers)
        .await;
    let event = access(answer.headers["audit-id"].to_str().unwrap()).await;
    assert_eq!(event["user"], "alice");
    assert_eq!(event["cluster"], "managed");
    assert_eq!(event["method"], "GET");
    assert_eq!(event["path"], "/managed/api/v1/pods");
    assert_eq!(event["code"], 200);
    assert_eq!(event["end"], "whole");
    assert!(event["milliseconds"].is_u64());

    let away = world.get("/away/api", &headers[..1]).await;
    let event = access(away.headers["audit-id"].to_str().unwrap()).await;
    assert_eq!(event["code"], 503);
    assert_eq!(event["bytes_to_client"], away.body.len());
    let cause = event["cause"].as_str().unwrap();
    assert!(cause.contains("no agent is connected"), "{cause}");
    assert!(
        cause.contains("10.9.8.7"),
        "the operator's part of the story: {cause}"
    );

    let stranger = bearer(&format!("{MANAGED_TOKEN}-hush"));
    for headers in [&[("authorization", stranger.as_str())] as &[_], &[]] {
        let answer = world.get("/nowhere/api", headers).await;
        let event = access(answer.headers["audit-id"].to_str().unwrap()).await;
        assert_eq!(
            (event["user"].as_str(), event["code"].as_u64()),
            (Some("-"), Some(401))
        );
    }
    assert_eq!(find("hush"), None);
    assert!(
        find("\"level\":\"TRACE\"").is_some(),
        "even what libraries trace"
    );
}

#[tokio::test]
async fn a_stream_is_told_of_when_it_is_over() {
    LazyLock::force(&LOGS);
    let world = World::start().await;
    let text = format!(
        "GET /managed/watch?watch=1 HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {ALICES_TOKEN}\r\n\r\n"
    );
    let mut io = world.connect(b"http/1.1").await;
    io.write_all(text.as_bytes()).await.unwrap();
    let head = read_until(&mut io, "one line").await;
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("audit-id: "))
        .unwrap();
    assert_eq!(find(id), None, "it is not over yet");
    drop(io);
    let event = access(id).await;
    assert_eq!(event["end"], "abandoned");
    assert_eq!(event["bytes_to_client"], "one line\n".len());
}

#[tokio::test]
async fn a_client_that_does_not_wait_is_told_of_too() {
    LazyLock::force(&LOGS);
    let world = World::start().await;
    world.tunnel.leads("away", End::Silence);
    let mut io = world.connect(b"http/1.1").await;
    let text = format!(
        "GET /away/impatient HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICES_TOKEN}\r\n\r\n"
    );
    io.write_all(text.as_bytes()).await.unwrap();
    eventually("the request is under way", || world.tunnel.dialled() == 1).await;
    drop(io);
    eventually("the event", || find("/away/impatient").is_some()).await;
    let event: Value = serde_json::from_str(&find("/away/impatient").unwrap()).unwrap();
    assert_eq!(event["fields"]["end"], "abandoned");
    assert_eq!(event["fields"]["user"], "alice");
    assert_eq!(event["fields"].get("code"), None);
    assert_eq!(
        world.metric("cluster_proxy_user_server_requests_total{code=\"none\"}"),
        1
    );
}

#[tokio::test]
async fn a_refused_head_is_a_whole_answer() {
    LazyLock::force(&LOGS);
    let world = World::start().await;
    let answer = world
        .raw(b"HEAD /managed/api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("audit-id: "))
        .unwrap();
    assert_eq!(access(id).await["end"], "whole");
}

#[tokio::test]
async fn ready_means_that_the_hubs_keys_are_known() {
    let world = World::start().await;
    eventually("ready", || world.readiness.waiting_for().is_empty()).await;

    let world = World::with(Options {
        hub_down: Some(503),
        ..Options::default()
    })
    .await;
    eventually("listening", || {
        world.readiness.waiting_for() == ["the hub's signing keys"]
    })
    .await;

    let world = World::with(Options {
        hub_down: Some(503),
        managed_review: true,
        ..Options::default()
    })
    .await;
    eventually("ready without the hub", || {
        world.readiness.waiting_for().is_empty()
    })
    .await;
}

#[tokio::test]
async fn requests_are_counted_by_class_and_result() {
    let world = World::start().await;
    world.get_as_alice("/managed/api").await;
    world.get_as_alice("/managed/redirect").await;
    world.get_as_alice("/away/api").await;
    world.get("/managed/api", &[]).await;
    world
        .get("/managed/api", &[("authorization", &bearer(MANAGED_TOKEN))])
        .await;
    let count = |labels: &str| world.metric(&format!("cluster_proxy_user_server_{labels}"));
    assert_eq!(count("requests_total{code=\"2xx\"}"), 2);
    assert_eq!(count("requests_total{code=\"3xx\"}"), 1);
    assert_eq!(count("requests_total{code=\"4xx\"}"), 1);
    assert_eq!(count("requests_total{code=\"5xx\"}"), 1);
    assert_eq!(count("authentications_total{result=\"hub_user\"}"), 3);
    assert_eq!(count("authentications_total{result=\"no_token\"}"), 1);
    assert_eq!(count("authentications_total{result=\"not_the_hubs\"}"), 1);
    eventually("nothing is active", || count("requests_active") == 0).await;
}

#[tokio::test]
async fn the_end_waits_for_open_requests_and_then_cuts_them() {
    let world = World::start().await;
    let mut sender = world.http2().await;
    let request = http::Request::get("https://x/managed/watch?watch=1")
        .header("authorization", bearer(ALICES_TOKEN))
        .body(http_body_util::Full::default())
        .unwrap();
    let watch = sender.send_request(request).await.unwrap();
    world.drain.close();
    eventually("no longer listening", || {
        world.readiness.waiting_for() == ["user-server listening"]
    })
    .await;
    assert_eq!(world.managed.open_drips(), 1, "what is under way goes on");
    world.drain.end();
    watch
        .into_body()
        .collect()
        .await
        .expect_err("cut, not ended");
    eventually("the service-proxy is told", || {
        world.managed.open_drips() == 0
    })
    .await;
    eventually("every task has ended", || world.drain.tasks() == 0).await;
}
