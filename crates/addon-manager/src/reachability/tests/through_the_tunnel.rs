//! With a real proxy-server, proxy-agent and service-proxy.

use std::net::SocketAddr;

use cluster_proxy_identity::TunnelHost;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use cluster_proxy_proxy_agent::ProxyAgent;
use cluster_proxy_proxy_server::{AgentIdentity, Config, Port, ProxyServer};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_service_proxy::{ServiceProxy, ServiceProxyMetrics};
use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::frontend::HTTP2_ALPN;
use cluster_proxy_tunnel::lane::LANE_ALPN;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::*;

fn server_tls(
    ca: &CertificateAuthority,
    leaf: &Leaf,
    client_auth: ClientAuth,
    alpn: &[&[u8]],
) -> ServerTls {
    let issued = ca.issue(leaf).unwrap();
    let (cert, key) = (issued.cert_pem.as_bytes(), issued.key_pem.as_bytes());
    let alpn = alpn.iter().map(|it| it.to_vec()).collect();
    let trusted = Some(ca.cert_pem().as_bytes());
    ServerTls::from_pem(cert, key, trusted, client_auth, alpn).unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Its addresses for clients and for agents.
async fn proxy_server(ca: &CertificateAuthority, drain: &Drain) -> (SocketAddr, SocketAddr) {
    let leaf = Leaf::server(vec!["127.0.0.1".to_owned()]);
    let port = |listener, alpn: &[u8]| Port {
        listener,
        tls: server_tls(ca, &leaf, ClientAuth::Required, &[alpn]),
    };
    let (frontend, for_clients) = listener().await;
    let (agents, for_agents) = listener().await;
    let config = Config {
        frontend: Some(port(frontend, HTTP2_ALPN)),
        frontend_socket: None,
        agents: port(agents, LANE_ALPN),
        server_id: "server".to_owned(),
        server_count: 1,
        strategies: "destHost".parse().unwrap(),
        agent_identity: AgentIdentity::Cluster,
        agent_table: None,
        agent_tokens: None,
        server_lease: None,
        dial_limit: cluster_proxy_proxy_server::DIAL_LIMIT,
        http2: Http2Settings::default(),
        unread_limit: 16 * 1024 * 1024,
    };
    let server = ProxyServer::new(config, &mut Registry::default(), &Readiness::new());
    drain.spawn(server.run(drain.clone()));
    (for_clients, for_agents)
}

fn proxy_agent(
    ca: &CertificateAuthority,
    server: SocketAddr,
    service_proxy: SocketAddr,
    drain: &Drain,
) {
    let cluster = "managed".parse().unwrap();
    let issued = ca.issue(&Leaf::proxy_agent(&cluster)).unwrap();
    let pair = (issued.cert_pem.as_bytes(), issued.key_pem.as_bytes());
    let tls = ClientTls::from_pem(ca.cert_pem().as_bytes(), Some(pair), Vec::new()).unwrap();
    let server = server.to_string().parse().unwrap();
    let mut config = cluster_proxy_proxy_agent::Config::new(server, tls, "managed".to_owned());
    let identifiers = format!("host={}", TunnelHost::of(&cluster));
    config.identifiers = identifiers.parse().unwrap();
    config.service_proxy = service_proxy.to_string().parse().unwrap();
    config.sync_interval = Duration::from_millis(50);
    config.sync_interval_cap = Duration::from_millis(200);
    let agent = ProxyAgent::new(config, &mut Registry::default(), &Readiness::new()).unwrap();
    drain.spawn(agent.run(drain.clone()));
}

/// The service-proxy of a cluster whose kube-apiserver is the hub's own.
async fn service_proxy(hub: &Hub, tls: ServerTls, drain: &Drain) -> SocketAddr {
    let config = cluster_proxy_service_proxy::Config::new(tls, hub.hub.connection.clone());
    let metrics = ServiceProxyMetrics::default();
    let proxy = ServiceProxy::new(&config, metrics, drain.clone()).unwrap();
    let (listener, address) = listener().await;
    drain.spawn(proxy.run(listener));
    address
}

#[tokio::test]
async fn true_only_when_a_request_went_through() {
    let hub = Hub::start().await;
    deploy(&hub, "managed").await;
    let ca = hub.context.ca.current().unwrap();
    let drain = hub.context.drain.child();
    let tls = |cluster: &str| {
        let leaf = Leaf::service_proxy(&cluster.parse().unwrap());
        server_tls(&ca, &leaf, ClientAuth::Optional, &[b"h2", b"http/1.1"])
    };
    let (frontend, agents) = proxy_server(&ca, &drain).await;
    let own = service_proxy(&hub, tls("managed"), &drain).await;
    let agent = drain.child();
    proxy_agent(&ca, agents, own, &agent);
    let tunnel = Tunnel::to(
        hub.context.client.clone(),
        hub.context.ca.clone(),
        frontend.to_string().parse().unwrap(),
    );
    let running = tokio::spawn(run_with(Arc::clone(&hub.context), Arc::new(tunnel), FAST));
    let reached = soon("reached", || condition(&hub, "True")).await;
    let message = reached["message"].as_str().unwrap();
    assert!(message.contains("and back in "), "{message}");

    agent.end();
    let lost = soon("lost", || condition(&hub, "False")).await;
    assert_eq!(lost["reason"], "AgentNotConnected");
    let message = lost["message"].as_str().unwrap();
    assert!(
        message.contains("namespace agents of the managed cluster"),
        "{message}"
    );

    // Another agent, behind which is another cluster's service-proxy.
    let other = service_proxy(&hub, tls("other"), &drain).await;
    let agent = drain.child();
    proxy_agent(&ca, agents, other, &agent);
    soon("the wrong certificate", || {
        (condition(&hub, "False")?["reason"] == "CertificateNotAccepted").then_some(())
    })
    .await;
    agent.end();

    // And one at whose service-proxy's port nobody listens.
    let (unused, nobody) = listener().await;
    drop(unused);
    let agent = drain.child();
    proxy_agent(&ca, agents, nobody, &agent);
    soon("the refusal", || {
        (condition(&hub, "False")?["reason"] == "ConnectionRefused").then_some(())
    })
    .await;
    agent.end();
    let agent = drain.child();
    proxy_agent(&ca, agents, own, &agent);
    soon("reached again", || condition(&hub, "True")).await;

    drain.end();
    soon("the hub's fault", || {
        (condition(&hub, "False")?["reason"] == "ProxyServerUnreachable").then_some(())
    })
    .await;
    running.abort();
}
