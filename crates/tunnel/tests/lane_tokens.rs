//! A token on a lane: who sees it, and that nothing is served before the server's word.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use cluster_proxy_identity::Token;
use cluster_proxy_tunnel::lane::{
    AGENT_TOKENS, AgentHello, AgentLane, HubLane, HubLaneDriver, LaneEvent, ServerHello,
};
use cluster_proxy_tunnel::{Http2Settings, TunnelError};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(5);

fn server(capabilities: &[&str]) -> ServerHello {
    ServerHello {
        server_id: "s".into(),
        server_count: 1,
        capabilities: capabilities.iter().copied().map(str::to_owned).collect(),
    }
}

type Opening = JoinHandle<Result<AgentLane<DuplexStream>, TunnelError>>;

/// The hub's end of a lane, and the agent that still opens its own.
async fn open(
    capabilities: &[&str],
    token: Option<&str>,
    settings: &Http2Settings,
) -> (HubLane, HubLaneDriver<DuplexStream>, Opening) {
    let (hub_io, agent_io) = tokio::io::duplex(256 * 1024);
    let token = token.map(|text| Token::parse(text).unwrap());
    let theirs = settings.clone();
    let agent = tokio::spawn(async move {
        let hello = AgentHello {
            agent_id: "a".into(),
            identifiers: "host=managed".parse().unwrap(),
            version: "0".into(),
            capabilities: vec![],
        };
        let token = token.as_ref();
        let mut lane = AgentLane::open_over(agent_io, &hello, token, &theirs, |_| true).await?;
        // What was answered leaves when the lane is polled.
        let _ = timeout(Duration::from_millis(10), lane.next()).await;
        Ok(lane)
    });
    let server = server(capabilities);
    let opened = timeout(LIMIT, HubLane::open_over(hub_io, &server, settings));
    let (hub, driver) = opened.await.unwrap().unwrap();
    (hub, driver, agent)
}

#[tokio::test]
async fn a_server_that_reviews_tokens_sees_it_and_the_agent_waits_for_its_word() {
    let settings = Http2Settings::default();
    let (hub, mut driver, agent) = open(&[AGENT_TOKENS], Some("secret"), &settings).await;
    assert!(!format!("{driver:?}{hub:?}").contains("secret"));
    assert_eq!(driver.take_token().unwrap().unwrap().expose(), "secret");
    assert_eq!(driver.take_token(), Ok(None));
    let driving = tokio::spawn(async move { driver.run().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!agent.is_finished(), "it did not wait");
    hub.admit();
    let mut lane = timeout(LIMIT, agent).await.unwrap().unwrap().unwrap();
    let target = "a:1".parse().unwrap();
    let opening = tokio::spawn(async move { hub.open(&target, LIMIT).await });
    let event = timeout(LIMIT, lane.next()).await.unwrap().unwrap();
    assert!(matches!(event, LaneEvent::Connect(_)), "{event:?}");
    opening.abort();
    driving.abort();
}

#[tokio::test]
async fn no_other_server_sees_it() {
    let settings = Http2Settings::default();
    let (_hub, mut driver, agent) = open(&["another"], Some("secret"), &settings).await;
    assert_eq!(driver.take_token(), Ok(None));
    timeout(LIMIT, agent).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn who_is_refused_reads_why() {
    let settings = Http2Settings::default();
    let (hub, mut driver, agent) = open(&[AGENT_TOKENS], None, &settings).await;
    assert_eq!(driver.take_token(), Ok(None));
    timeout(LIMIT, hub.refuse(driver, "it showed\nno token"))
        .await
        .unwrap();
    let error = timeout(LIMIT, agent).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server refuses this agent: it showed?no token"
    );
}

#[tokio::test]
async fn a_server_without_a_word_is_given_up_in_time() {
    let settings = Http2Settings {
        handshake_timeout: Duration::from_millis(200),
        ..Http2Settings::default()
    };
    let (_hub, mut driver, agent) = open(&[AGENT_TOKENS], None, &settings).await;
    let driving = tokio::spawn(async move { driver.run().await });
    let error = timeout(LIMIT, agent).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, TunnelError::TimedOut { .. }), "{error:?}");
    driving.abort();
}
