//! Who is found under which name, and who may ask.

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_proxy_server::AgentIdentity;
use tokio::time::Instant;

use crate::harness::{
    AgentAlpn, LANES, LIMIT, ServerOptions, World, announcing, eventually, greeter, greeting,
    service_proxy,
};

fn shared_agent_certificate() -> Leaf {
    Leaf::client("open-cluster-management:cluster-proxy:proxy-agent", vec![])
}

#[tokio::test]
async fn without_an_agent_the_answer_comes_at_once() {
    let world = World::new();
    let options = ServerOptions {
        strategies: "destHost,defaultRoute,default",
        identity: AgentIdentity::Any,
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let dialer = world.dialer(&server);
    let begin = Instant::now();
    let error = dialer.connect(&service_proxy("managed")).await.unwrap_err();
    assert_eq!(error.reason(), "no_agent");
    // Another cluster's agent, even one for everything, is none for a tunnel host.
    let own = greeter("other").await;
    let identifiers = format!("{}&default-route=true", announcing("other"));
    let _other = world
        .agent(server.agents, "other", &identifiers, own)
        .connected(&server)
        .await;
    for target in [
        service_proxy("managed").to_string(),
        service_proxy("managed").to_string().to_uppercase(),
        "x.open-cluster-management.proxy:7443".to_owned(),
    ] {
        let error = dialer.connect(&target.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.reason(), "no_agent", "{target}");
    }
    assert!(begin.elapsed() < LIMIT / 10, "{:?}", begin.elapsed());
    // Any other name takes the default route.
    let mut stream = dialer
        .connect(&own.to_string().parse().unwrap())
        .await
        .unwrap();
    assert_eq!(greeting(&mut stream, 5).await, "other");
}

#[tokio::test]
async fn an_agent_is_found_under_its_own_clusters_names_alone() {
    own_names_alone(LANES).await;
}

pub(crate) async fn own_names_alone(agent_alpn: AgentAlpn) {
    let world = World::new();
    let options = ServerOptions {
        agent_alpn,
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let dialer = world.dialer(&server);
    let one = greeter("one").await;
    let both = format!("{}&{}&host=two", announcing("one"), announcing("two"));
    let _thief = world
        .agent(server.agents, "one", &both, one)
        .connected(&server)
        .await;
    // With the right owner away, and with it there.
    let error = dialer.connect(&service_proxy("two")).await.unwrap_err();
    assert_eq!(error.reason(), "no_agent");
    let _owner = world.connected_agent(&server, "two").await;
    for _ in 0..4 {
        let mut stream = dialer.connect(&service_proxy("two")).await.unwrap();
        assert_eq!(greeting(&mut stream, 3).await, "two");
        let mut stream = dialer.connect(&service_proxy("one")).await.unwrap();
        assert_eq!(greeting(&mut stream, 3).await, "one");
    }
    let upper = service_proxy("one")
        .to_string()
        .to_uppercase()
        .parse()
        .unwrap();
    let mut stream = dialer.connect(&upper).await.unwrap();
    assert_eq!(greeting(&mut stream, 3).await, "one");
    assert_eq!(
        server.metric("cluster_proxy_server_announcements_dropped_total"),
        2.0
    );
}

#[tokio::test]
async fn an_agent_that_proves_no_cluster_is_refused() {
    proof_of_a_cluster(LANES).await;
}

pub(crate) async fn proof_of_a_cluster(agent_alpn: AgentAlpn) {
    let world = World::new();
    let options = ServerOptions {
        agent_alpn,
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let own = greeter("managed").await;
    let leaf = shared_agent_certificate();
    let agent = world.agent_with(server.agents, &leaf, &announcing("managed"), own);
    eventually(|| server.metric("cluster_proxy_server_agents_refused_total") >= 1.0).await;
    let error = world
        .dialer(&server)
        .connect(&service_proxy("managed"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "no_agent");
    assert!(!agent.readiness.waiting_for().is_empty());
}

#[tokio::test]
async fn who_proves_nothing_serves_only_until_the_owner_comes() {
    until_the_owner_comes(LANES).await;
}

pub(crate) async fn until_the_owner_comes(agent_alpn: AgentAlpn) {
    let world = World::new();
    let options = ServerOptions {
        agent_alpn,
        identity: AgentIdentity::Prefer,
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let dialer = world.dialer(&server);
    let (old, new) = (greeter("old").await, greeter("new").await);
    let leaf = shared_agent_certificate();
    let _old = world
        .agent_with(server.agents, &leaf, &announcing("managed"), old)
        .connected(&server)
        .await;
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 3).await, "old");
    let owner = world.connected_agent_at(&server, "managed", new).await;
    for _ in 0..4 {
        let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
        assert_eq!(greeting(&mut stream, 3).await, "new");
    }
    owner.drain.end();
    eventually(|| server.links() == 1.0).await;
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 3).await, "old");
}

#[tokio::test]
async fn agents_may_not_open_tunnels() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let _agent = world.connected_agent(&server, "managed").await;
    let own_certificate = Leaf::proxy_agent(&"managed".parse().unwrap());
    for leaf in [own_certificate, shared_agent_certificate()] {
        let (dialer, _) = world.dialer_with(server.frontend, &leaf);
        let error = dialer.connect(&service_proxy("managed")).await.unwrap_err();
        assert_eq!(error.reason(), "forbidden");
    }
    let (dialer, _) = world.dialer_with(server.frontend, &Leaf::proxy_client());
    assert!(dialer.connect(&service_proxy("managed")).await.is_ok());
}

#[tokio::test]
async fn certificates_of_another_ca_open_nothing() {
    let (world, foreign) = (World::new(), World::new());
    let server = world.server(ServerOptions::default()).await;
    let own = greeter("managed").await;
    let agent = foreign.agent(server.agents, "managed", &announcing("managed"), own);
    let error = foreign
        .dialer(&server)
        .connect(&service_proxy("managed"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "server_unreachable");
    eventually(|| {
        server.metric("cluster_proxy_server_handshakes_failed_total{port=\"agent\"}") >= 1.0
    })
    .await;
    assert!(!agent.readiness.waiting_for().is_empty());
}

#[tokio::test]
async fn an_announced_ipv6_address_is_found() {
    let world = World::new();
    let server = world
        .server(ServerOptions {
            identity: AgentIdentity::Any,
            ..Default::default()
        })
        .await;
    let own = greeter("managed").await;
    let _agent = world
        .agent(server.agents, "managed", "ipv6=::1", own)
        .connected(&server)
        .await;
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let dialer = world.dialer(&server);
    let here = listener.local_addr().unwrap().to_string();
    dialer.connect(&here.parse().unwrap()).await.unwrap();
    let elsewhere = dialer.connect(&"[::2]:1".parse().unwrap()).await;
    assert_eq!(elsewhere.unwrap_err().reason(), "no_agent");
}
