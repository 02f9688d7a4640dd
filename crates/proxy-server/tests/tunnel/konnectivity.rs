//! Agents that speak konnectivity: the same table, the same rules, the same cuts as with lanes.

use std::time::Duration;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_proxy_agent::Config as AgentConfig;
use cluster_proxy_proxy_server::AgentIdentity;
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_tunnel::konnectivity::{KONNECTIVITY_ALPN, ServerStream};
use cluster_proxy_tunnel::lane::{AgentHello, LaneEvent};
use cluster_proxy_tunnel::tls::{self, ClientStream, ServerName};
use cluster_proxy_tunnel::{Http2Settings, TunnelError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{
    KONNECTIVITY, LIMIT, Server, ServerOptions, World, announcing, eventually, greeter, greeting,
    run_agent, service_proxy,
};
use crate::{identity, table};

fn konnectivity() -> ServerOptions {
    ServerOptions {
        agent_alpn: KONNECTIVITY,
        ..ServerOptions::default()
    }
}

#[tokio::test]
async fn an_agent_is_found_under_its_own_clusters_names_alone() {
    identity::own_names_alone(KONNECTIVITY).await;
}

#[tokio::test]
async fn an_agent_that_proves_no_cluster_is_refused() {
    identity::proof_of_a_cluster(KONNECTIVITY).await;
}

#[tokio::test]
async fn who_proves_nothing_serves_only_until_the_owner_comes() {
    identity::until_the_owner_comes(KONNECTIVITY).await;
}

#[tokio::test]
async fn a_removed_clusters_streams_are_cut() {
    table::removal(KONNECTIVITY).await;
}

#[tokio::test]
async fn names_are_lent_until_their_owner_has_its_certificate() {
    table::lending(KONNECTIVITY).await;
}

#[tokio::test]
async fn where_nothing_is_to_be_proven_an_agents_word_is_taken() {
    let world = World::new();
    let options = ServerOptions {
        identity: AgentIdentity::Any,
        ..konnectivity()
    };
    let server = world.server(options).await;
    let own = greeter("other").await;
    let _other = world
        .agent(server.agents, "other", &announcing("managed"), own)
        .connected(&server)
        .await;
    let mut stream = world
        .dialer(&server)
        .connect(&service_proxy("managed"))
        .await
        .unwrap();
    assert_eq!(greeting(&mut stream, 5).await, "other");
}

#[tokio::test]
async fn bytes_and_ends_pass_and_are_counted() {
    let world = World::new();
    let server = world.server(konnectivity()).await;
    let agent = world.connected_agent(&server, "managed").await;
    assert_eq!(
        server.metric("cluster_proxy_server_konnectivity_streams"),
        1.0
    );
    assert_eq!(server.metric("cluster_proxy_server_lanes"), 0.0);
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    let sent = vec![7; 1_000_000];
    let back = async {
        let mut back = vec![0; 7 + sent.len()];
        stream.write_all(&sent[..1000]).await?;
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let (written, read) = tokio::join!(write.write_all(&sent[1000..]), async {
            read.read_exact(&mut back).await.map(|_| back)
        });
        written.and(read)
    };
    let back = timeout(LIMIT, back).await.unwrap().unwrap();
    assert_eq!(&back[..7], b"managed");
    assert_eq!(&back[7..], &sent[..]);
    let error = dialer
        .connect(&"127.0.0.1:1".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "no_agent");

    // The agent gone, the rest is cut and no end in order.
    agent.drain.end();
    let end = timeout(LIMIT, stream.read(&mut [0; 8])).await.unwrap();
    assert!(end.is_err(), "{end:?}");
    eventually(|| server.links() == 0.0).await;
    let error = dialer.connect(&service_proxy("managed")).await.unwrap_err();
    assert_eq!(error.reason(), "no_agent");
}

#[tokio::test]
async fn both_ends_drain_in_order() {
    let limits = DrainLimits {
        min: Duration::from_millis(100),
        limit: LIMIT / 2,
    };
    for server_goes in [true, false] {
        let world = World::new();
        let server = world.server(konnectivity()).await;
        let agent = world.connected_agent(&server, "managed").await;
        let dialer = world.dialer(&server);
        let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
        assert_eq!(greeting(&mut stream, 7).await, "managed");
        let drain = if server_goes {
            server.drain.clone()
        } else {
            agent.drain.clone()
        };
        let waited = drain.clone();
        let draining = tokio::spawn(async move { drain.run(limits).await });
        eventually(|| waited.is_closing()).await;
        stream.write_all(b"still").await.unwrap();
        assert_eq!(greeting(&mut stream, 5).await, "still");
        drop(stream);
        let in_order = timeout(LIMIT, draining).await.unwrap().unwrap();
        assert!(in_order, "server goes: {server_goes}");
    }
}

#[tokio::test]
async fn a_protocol_offered_for_what_is_on_the_way_carries_konnectivity() {
    let world = World::new();
    let options = ServerOptions {
        agent_alpn: &[b"routed"],
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let own = greeter("managed").await;
    let leaf = Leaf::proxy_agent(&"managed".parse().unwrap());
    let address = server.agents.to_string().parse().unwrap();
    let config = AgentConfig {
        more_alpn: vec!["h2".to_owned(), "routed".to_owned()],
        ..world.agent_config(address, &leaf, &announcing("managed"), own)
    };
    let _agent = run_agent(config).connected(&server).await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
}

pub(crate) type Dialled = ClientStream<TcpStream>;

/// An agent's stream to the port, with these protocols offered.
pub(crate) async fn call(
    world: &World,
    server: &Server,
    leaf: &Leaf,
    alpn: &[&[u8]],
) -> Result<ServerStream<Dialled>, TunnelError> {
    let socket = TcpStream::connect(server.agents).await.unwrap();
    let tls = world.client_tls(leaf).with_alpn(alpn);
    let name = ServerName::try_from("localhost").unwrap();
    let connected = tls::connect(socket, name, tls.config(), LIMIT)
        .await
        .unwrap();
    let hello = AgentHello {
        agent_id: "raw".to_owned(),
        identifiers: announcing("managed").parse().unwrap(),
        version: String::new(),
        capabilities: vec![],
    };
    let settings = Http2Settings::default();
    ServerStream::open_over(
        connected.stream,
        "hub:8091",
        &hello,
        None,
        &settings,
        |_| true,
    )
    .await
}

#[tokio::test]
async fn one_port_has_both_protocols() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let leaf = Leaf::proxy_agent(&"managed".parse().unwrap());
    // Go's agents offer `h2`, those with an old gRPC nothing.
    for alpn in [&[KONNECTIVITY_ALPN][..], &[]] {
        let mut stream = call(&world, &server, &leaf, alpn).await.unwrap();
        assert_eq!(stream.server().server_id, "server-1");
        eventually(|| server.metric("cluster_proxy_server_konnectivity_streams") == 1.0).await;
        let dialer = world.dialer(&server);
        let target = service_proxy("managed");
        let (dialled, event) = tokio::join!(dialer.connect(&target), async {
            let event = timeout(LIMIT, stream.next()).await.unwrap().unwrap();
            let LaneEvent::Connect(incoming) = event else {
                panic!("{event:?}");
            };
            assert_eq!(*incoming.target(), target);
            let details = "no".to_owned();
            let error = cluster_proxy_tunnel::DialError::Refused { details };
            incoming.refuse(&error).await;
            timeout(LIMIT / 50, stream.next()).await
        });
        assert_eq!(dialled.unwrap_err().reason(), "refused");
        assert!(event.is_err(), "{event:?}");
        drop(stream);
        eventually(|| server.links() == 0.0).await;
    }
}

#[tokio::test]
async fn who_is_refused_is_told_why() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let nobody = Leaf::client("open-cluster-management:cluster-proxy:proxy-agent", vec![]);
    let error = call(&world, &server, &nobody, KONNECTIVITY)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "refused", "{error}");
    assert!(error.in_full().contains("gRPC status 7"), "{error}");
    eventually(|| server.metric("cluster_proxy_server_agents_refused_total") == 1.0).await;
}
