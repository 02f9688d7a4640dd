//! What a table of agents changes, while agents are connected.

use std::sync::Arc;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_proxy_server::AgentTable;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::harness::{
    AgentAlpn, LANES, LIMIT, Server, ServerOptions, World, announcing, eventually, greeter,
    greeting, service_proxy,
};

type Table = watch::Sender<Option<Arc<AgentTable>>>;

fn table(identity: &str, clusters: &str) -> Option<Arc<AgentTable>> {
    Some(Arc::new(
        AgentTable::from_parts(identity, clusters).unwrap(),
    ))
}

async fn server(
    world: &World,
    first: Option<Arc<AgentTable>>,
    agent_alpn: AgentAlpn,
) -> (Server, Table) {
    let (sender, receiver) = watch::channel(first);
    let options = ServerOptions {
        table: Some(receiver),
        agent_alpn,
        ..ServerOptions::default()
    };
    (world.server(options).await, sender)
}

/// As a Go addon's agents are: one subject for all clusters.
fn shared_certificate() -> Leaf {
    Leaf::client("open-cluster-management:cluster-proxy:proxy-agent", vec![])
}

#[tokio::test]
async fn a_removed_clusters_lanes_close() {
    removal(LANES).await;
}

pub(crate) async fn removal(agent_alpn: AgentAlpn) {
    let world = World::new();
    let (server, rows) = server(
        &world,
        table("cluster", "[{name: one}, {name: two}]"),
        agent_alpn,
    )
    .await;
    let dialer = world.dialer(&server);
    let _one = world.connected_agent(&server, "one").await;
    let _two = world.connected_agent(&server, "two").await;
    let mut of_one = dialer.connect(&service_proxy("one")).await.unwrap();
    let mut of_two = dialer.connect(&service_proxy("two")).await.unwrap();
    greeting(&mut of_one, 3).await;
    greeting(&mut of_two, 3).await;

    rows.send_replace(table("cluster", "[{name: two}]"));
    // An abort, and no clean end.
    let end = timeout(LIMIT, of_one.read(&mut [0; 8])).await.unwrap();
    assert!(end.is_err(), "{end:?}");
    eventually(|| server.links() == 1.0).await;
    let error = dialer.connect(&service_proxy("one")).await.unwrap_err();
    assert_eq!(error.reason(), "no_agent");
    // It knocks again and again, and stays out; the other one notices nothing.
    eventually(|| server.metric("cluster_proxy_server_agents_refused_total") >= 3.0).await;
    assert!(
        timeout(LIMIT / 100, of_two.read(&mut [0; 8]))
            .await
            .is_err()
    );

    rows.send_replace(table("cluster", "[{name: one}, {name: two}]"));
    eventually(|| server.links() == 2.0).await;
    let mut again = dialer.connect(&service_proxy("one")).await.unwrap();
    assert_eq!(greeting(&mut again, 3).await, "one");
}

#[tokio::test]
async fn nobody_is_let_in_before_the_table_is_read() {
    let world = World::new();
    let (server, rows) = server(&world, None, LANES).await;
    let own = greeter("one").await;
    let agent = world.agent(server.agents, "one", &announcing("one"), own);
    eventually(|| server.metric("cluster_proxy_server_agents_refused_total") >= 2.0).await;
    rows.send_replace(table("cluster", "[{name: one}]"));
    agent.connected(&server).await;
}

#[tokio::test]
async fn names_are_lent_until_their_owner_has_its_certificate() {
    lending(LANES).await;
}

pub(crate) async fn lending(agent_alpn: AgentAlpn) {
    let world = World::new();
    let (server, rows) = server(
        &world,
        table("prefer", "[{name: one}, {name: two}]"),
        agent_alpn,
    )
    .await;
    let dialer = world.dialer(&server);
    let (old, new) = (greeter("old").await, greeter("new").await);
    let names = format!("{}&{}&host=three", announcing("one"), announcing("two"));
    let _old = world
        .agent_with(server.agents, &shared_certificate(), &names, old)
        .connected(&server)
        .await;
    for cluster in ["one", "two"] {
        let mut stream = dialer.connect(&service_proxy(cluster)).await.unwrap();
        assert_eq!(greeting(&mut stream, 3).await, "old");
    }
    let rows_now = "[{name: one, certificate: true}, {name: two}]";
    rows.send_replace(table("prefer", rows_now));
    // Even while the owner is away, and without the lane that carries other names ending.
    let error = loop {
        match dialer.connect(&service_proxy("one")).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "no_agent");
    let mut stream = dialer.connect(&service_proxy("two")).await.unwrap();
    assert_eq!(greeting(&mut stream, 3).await, "old");
    let _new = world.connected_agent_at(&server, "one", new).await;
    let mut of_one = dialer.connect(&service_proxy("one")).await.unwrap();
    assert_eq!(greeting(&mut of_one, 3).await, "new");

    // The whole fleet has certificates: who proves nothing goes.
    rows.send_replace(table(
        "cluster",
        "[{name: one, certificate: true}, {name: two, certificate: true}]",
    ));
    eventually(|| server.links() == 1.0).await;
    let error = dialer.connect(&service_proxy("two")).await.unwrap_err();
    assert_eq!(error.reason(), "no_agent");
}
