//! Clusters that cannot be reached, and what their users read.

use std::time::Duration;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_tunnel::DialError;
use tokio::time::Instant;

use crate::client::bearer;
use crate::service_proxy::ServiceProxy;
use crate::world::{End, MANAGED_TOKEN, Options, World, cluster};

const PATH: &str = "/away/api/v1/pods";

#[tokio::test]
async fn a_cluster_without_agent_is_not_connected_and_says_so_at_once() {
    let world = World::start().await;
    world.get_as_alice("/managed/api").await;
    let begun = Instant::now();
    let message = world
        .get_as_alice(PATH)
        .await
        .message(503, "ServiceUnavailable");
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        message.contains("cluster \"away\" is not connected"),
        "{message}"
    );
    let other = world
        .get_as_alice("/unknown/api")
        .await
        .message(503, "ServiceUnavailable");
    assert_eq!(message.replace("away", "unknown"), other);
}

#[tokio::test]
async fn a_failed_dial_is_told_with_whose_fault_it_is() {
    let world = World::start().await;
    let details = || "10.9.8.7:7443".to_owned();
    for (error, code, reason, words) in [
        (
            DialError::AgentLost { details: details() },
            503,
            "ServiceUnavailable",
            "not connected",
        ),
        (
            DialError::Refused { details: details() },
            502,
            "",
            "service-proxy",
        ),
        (
            DialError::TimedOut { details: details() },
            504,
            "Timeout",
            "in time",
        ),
        (
            DialError::Overloaded { details: details() },
            503,
            "ServiceUnavailable",
            "connections",
        ),
        (
            DialError::ServerUnreachable { details: details() },
            503,
            "ServiceUnavailable",
            "proxy-server",
        ),
        (
            DialError::Forbidden { details: details() },
            502,
            "",
            "--proxy-cert",
        ),
    ] {
        world.tunnel.leads("away", End::Fails(error));
        let answer = world.get_as_alice(PATH).await;
        let message = answer.message(code, reason);
        assert!(message.contains(words), "{message}");
        assert!(!message.contains("10.9.8.7"), "{message}");
    }
}

#[tokio::test]
async fn a_dial_that_hangs_ends_in_time() {
    let world = World::with(Options {
        dial_timeout: Duration::from_millis(100),
        ..Options::default()
    })
    .await;
    world.tunnel.leads("away", End::Silence);
    let message = world.get_as_alice(PATH).await.message(504, "Timeout");
    assert!(message.contains("\"away\""), "{message}");
}

/// The certificate decides who is a cluster's service-proxy, not the way that led there.
#[tokio::test]
async fn another_clusters_service_proxy_is_not_taken_for_this_one() {
    let world = World::start().await;
    world.tunnel.leads("away", End::At(world.managed.address()));
    let message = world.get_as_alice(PATH).await.message(502, "");
    assert!(message.contains("\"away\" did not prove"), "{message}");
    assert!(message.contains("certificate"), "{message}");
    assert!(world.managed.seen().is_empty());

    let anybody = Leaf::server(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let impostor = ServiceProxy::start(&world.ca, &anybody, &[b"h2"]).await;
    world.tunnel.leads("away", End::At(impostor.address()));
    world.get_as_alice(PATH).await.message(502, "");
    assert!(impostor.seen().is_empty());
}

#[tokio::test]
async fn a_stranger_learns_nothing_from_any_failure() {
    let world = World::with(Options {
        dial_timeout: Duration::from_millis(100),
        ..Options::default()
    })
    .await;
    let details = || "10.9.8.7:7443".to_owned();
    let token = bearer(MANAGED_TOKEN);
    let unknown = world
        .get("/unknown/api", &[("authorization", &token)])
        .await;
    unknown.message(401, "Unauthorized");
    for end in [
        End::Fails(DialError::NoAgent { details: details() }),
        End::Fails(DialError::Refused { details: details() }),
        End::Fails(DialError::Overloaded { details: details() }),
        End::Fails(DialError::TimedOut { details: details() }),
        End::Silence,
        End::At(world.managed.address()),
    ] {
        world.tunnel.leads("away", end.clone());
        let answer = world.get(PATH, &[("authorization", &token)]).await;
        assert_eq!(answer.tells(), unknown.tells(), "{end:?}");
    }
}

#[tokio::test]
async fn a_cluster_that_comes_back_is_reached_at_once() {
    let world = World::start().await;
    world
        .get_as_alice(PATH)
        .await
        .message(503, "ServiceUnavailable");
    let back = ServiceProxy::start(
        &world.ca,
        &Leaf::service_proxy(&cluster("away")),
        &[b"h2", b"http/1.1"],
    )
    .await;
    world.tunnel.leads("away", End::At(back.address()));
    assert_eq!(world.get_as_alice(PATH).await.code, 200);
    assert_eq!(back.only().target, "/api/v1/pods");
    assert!(world.managed.seen().is_empty());
}
