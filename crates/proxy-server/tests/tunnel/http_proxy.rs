//! Agents whose only way out is an HTTP proxy.

use std::collections::HashMap;

use cluster_proxy_http_proxy::Proxies;
use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_identity::tls::{ClientAuth, ServerTls};
use cluster_proxy_testkit::http_proxy::{HttpProxy, HttpProxyScript};
use cluster_proxy_tunnel::Target;

use crate::harness::{
    Agent, HUB, LIMIT, Server, ServerOptions, World, announcing, eventually, greeter, greeting,
    run_agent, service_proxy,
};

/// `agent:s3cret`
const CREDENTIALS: &str = "YWdlbnQ6czNjcmV0";

/// A proxy that leads to the agent port under the name that nobody else resolves.
async fn proxy(server: &Server, script: HttpProxyScript) -> HttpProxy {
    let name = format!("{HUB}:{}", server.agents.port());
    HttpProxy::start(HttpProxyScript {
        routes: HashMap::from([(name, server.agents)]),
        ..script
    })
    .await
    .unwrap()
}

/// An agent of the cluster `managed` that knows the server by name only.
async fn agent(world: &World, server: &Server, variables: &[(&str, String)]) -> Agent {
    let target = Target::new(HUB, server.agents.port()).unwrap();
    let leaf = Leaf::proxy_agent(&"managed".parse().unwrap());
    let (identifiers, own) = (announcing("managed"), greeter("managed").await);
    let mut config = world.agent_config(target, &leaf, &identifiers, own);
    let proxies = Proxies::from_variables(|name| {
        let mut found = variables.iter().filter(|(own, _)| *own == name);
        found.next().map(|(_, value)| value.clone())
    });
    let chosen = proxies.unwrap();
    config.http_proxy = chosen.towards(HUB, server.agents.port()).cloned();
    run_agent(config)
}

#[tokio::test]
async fn a_lane_stands_through_a_plain_proxy() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let proxy = proxy(&server, HttpProxyScript::default()).await;
    let url = format!("http://{}", proxy.address());
    let agent = agent(&world, &server, &[("HTTPS_PROXY", url)])
        .await
        .connected(&server)
        .await;
    let dialer = world.dialer(&server);
    for _ in 0..3 {
        let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
        assert_eq!(greeting(&mut stream, 7).await, "managed");
    }
    assert_eq!(proxy.heads().len(), 1, "{:?}", proxy.heads());
    // The lane is the proxy's to keep: with it goes the connection, and the agent knows.
    drop(proxy);
    eventually(|| !agent.readiness.waiting_for().is_empty()).await;
}

#[tokio::test]
async fn a_lane_stands_through_an_encrypted_proxy_that_wants_a_password() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let own = world.ca.issue(&Leaf::server(vec!["127.0.0.1".to_owned()]));
    let own = own.unwrap();
    let tls = ServerTls::from_pem(
        own.cert_pem.as_bytes(),
        own.key_pem.as_bytes(),
        None,
        ClientAuth::Off,
        vec![],
    );
    let script = HttpProxyScript {
        credentials: Some(CREDENTIALS),
        tls: Some(tls.unwrap()),
        ..HttpProxyScript::default()
    };
    let proxy = proxy(&server, script).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, world.ca.cert_pem()).unwrap();
    let variables = [
        (
            "HTTPS_PROXY",
            format!("https://agent:s3cret@{}", proxy.address()),
        ),
        ("ROOT_CA_CERT", ca.display().to_string()),
    ];
    let _agent = agent(&world, &server, &variables)
        .await
        .connected(&server)
        .await;
    let dialer = world.dialer(&server);
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
}

#[tokio::test]
async fn a_proxy_that_is_passed_over_is_not_asked() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let proxy = proxy(&server, HttpProxyScript::default()).await;
    let variables = [
        ("HTTPS_PROXY", proxy.address().to_string()),
        ("NO_PROXY", format!("other.test,{HUB}")),
    ];
    // Nobody resolves the name, so this agent stays outside.
    let agent = agent(&world, &server, &variables).await;
    let refused = tokio::time::timeout(LIMIT / 20, async {
        eventually(|| agent.readiness.waiting_for().is_empty()).await;
    });
    assert!(refused.await.is_err(), "it found a way");
    assert!(proxy.heads().is_empty());
}
