//! What the admin port tells, and the metrics under konnectivity's names.

use std::time::Duration;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_proxy_server::{AgentIdentity, ServerStatus};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::harness::{
    KONNECTIVITY, LANES, LIMIT, ServerOptions, World, eventually, greeting, service_proxy,
};
use crate::konnectivity::call;

#[tokio::test]
async fn agents_are_told_with_what_they_carry_now() {
    for (alpn, protocol, version) in [
        (LANES, "lane", Some(env!("CARGO_PKG_VERSION"))),
        (KONNECTIVITY, "konnectivity", None),
    ] {
        let world = World::new();
        let options = ServerOptions {
            identity: AgentIdentity::Prefer,
            agent_alpn: alpn,
            ..ServerOptions::default()
        };
        let server = world.server(options).await;
        assert_eq!(server.status.read(&server.drain).agents, []);
        let _agent = world.connected_agent(&server, "managed").await;
        let mut stream = world
            .dialer(&server)
            .connect(&service_proxy("managed"))
            .await
            .unwrap();
        assert_eq!(greeting(&mut stream, 7).await, "managed");
        stream.write_all(&[1; 1000]).await.unwrap();
        assert_eq!(greeting(&mut stream, 1000).await.len(), 1000);

        // Counted while the connection is open.
        let status = server.status.read(&server.drain);
        let [agent] = &status.agents[..] else {
            panic!("{status:?}");
        };
        assert_eq!(agent.cluster.as_deref(), Some("managed"));
        assert!(agent.agent_id.starts_with("agent-host="), "{agent:?}");
        assert_eq!(
            (agent.protocol.as_str(), agent.version.as_deref()),
            (protocol, version)
        );
        assert_eq!((agent.lanes, agent.streams), (1, 1));
        assert_eq!((agent.bytes_to_target, agent.bytes_to_client), (1000, 1007));
        assert!(!agent.draining && !status.draining);
        assert!(agent.peers[0].starts_with("127.0.0.1:"), "{agent:?}");
        let bytes = "cluster_proxy_server_tunnelled_bytes_total{direction=\"to_client\"}";
        assert_eq!(server.metric(bytes), 1007.0);

        // What is written is what is read.
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<ServerStatus>(&json).unwrap(), status);

        drop(stream);
        eventually(|| server.status.read(&server.drain).agents[0].streams == 0).await;
        server.drain.start();
        assert!(server.status.read(&server.drain).draining);
    }
}

#[tokio::test]
async fn konnectivitys_names_count_both_protocols() {
    for (alpn, streams) in [(LANES, 0.0), (KONNECTIVITY, 1.0)] {
        let world = World::new();
        let options = ServerOptions {
            agent_alpn: alpn,
            ..ServerOptions::default()
        };
        let server = world.server(options).await;
        let metric =
            |name: &str| server.metric(&format!("konnectivity_network_proxy_server_{name}"));
        assert_eq!(metric("ready_backends{proxy_strategy=\"destHost\"}"), 0.0);
        let _agent = world.connected_agent(&server, "managed").await;
        assert_eq!(metric("ready_backend_connections"), 1.0);
        assert_eq!(metric("ready_backends{proxy_strategy=\"destHost\"}"), 1.0);
        assert_eq!(
            metric("grpc_connections{service_method=\"Connect\"}"),
            streams
        );

        let dialer = world.dialer(&server);
        let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
        assert_eq!(greeting(&mut stream, 7).await, "managed");
        for name in [
            "established_connections",
            "http_connections",
            "dial_duration_seconds_count",
        ] {
            assert_eq!(metric(name), 1.0, "{name}");
        }
        assert_eq!(metric("pending_backend_dials"), 0.0);
        dialer.connect(&service_proxy("other")).await.unwrap_err();
        assert_eq!(metric("dial_failure_count{reason=\"no_agent\"}"), 1.0);
        drop(stream);
        eventually(|| metric("established_connections") == 0.0).await;
        eventually(|| metric("http_connections") == 0.0).await;
    }
}

#[tokio::test]
async fn a_dial_takes_no_longer_than_its_limit() {
    let world = World::new();
    let options = ServerOptions {
        identity: AgentIdentity::Any,
        dial_limit: Duration::from_millis(200),
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let leaf = Leaf::proxy_agent(&"managed".parse().unwrap());
    let mut agent = call(&world, &server, &leaf, KONNECTIVITY).await.unwrap();
    eventually(|| server.links() == 1.0).await;
    // It takes the dial and never answers.
    let silent = tokio::spawn(async move {
        let dial = agent.next().await;
        let _ = agent.next().await;
        drop(dial);
    });
    let begun = Instant::now();
    let (dialer, target) = (world.dialer(&server), service_proxy("managed"));
    let dialled = timeout(LIMIT, dialer.connect(&target)).await;
    let error = dialled.unwrap().unwrap_err();
    assert_eq!(error.reason(), "timed_out", "{error}");
    assert!(begun.elapsed() < LIMIT / 2, "{error}");
    let failed =
        "konnectivity_network_proxy_server_dial_failure_count{reason=\"backend_dial_timeout\"}";
    assert_eq!(server.metric(failed), 1.0);
    silent.abort();
}
