//! Several lanes of one agent.

use std::net::SocketAddr;
use std::time::Duration;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_proxy_agent::Config as AgentConfig;
use cluster_proxy_tunnel::lane::MAX_LANES;
use cluster_proxy_tunnel::{ProxyServerDialer, TunnelStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::drain::balancer;
use crate::harness::{
    Agent, LIMIT, Server, ServerOptions, World, announcing, eventually, greeter, greeting,
    run_agent, service_proxy,
};

const LANES: &str = "cluster_proxy_server_lanes";
const AGENTS: &str = "cluster_proxy_server_connected_agents";

async fn config(world: &World, server: SocketAddr, cluster: &str) -> AgentConfig {
    let leaf = Leaf::proxy_agent(&cluster.parse().unwrap());
    let own = greeter("managed").await;
    let address = server.to_string().parse().unwrap();
    let mut config = world.agent_config(address, &leaf, &announcing(cluster), own);
    config.lanes = 2;
    // Long enough for all lanes to come up before the first becomes idle.
    config.lane_idle = Duration::from_secs(2);
    config
}

/// A server and an agent with both its lanes.
async fn pair(world: &World) -> (Server, Agent) {
    let server = world.server(ServerOptions::default()).await;
    let agent = run_agent(config(world, server.agents, "managed").await);
    eventually(|| server.metric(LANES) == 2.0).await;
    (server, agent)
}

async fn open(dialer: &ProxyServerDialer) -> TunnelStream {
    let mut stream = dialer.connect(&service_proxy("managed")).await.unwrap();
    assert_eq!(greeting(&mut stream, 7).await, "managed");
    stream
}

/// Sends and reads until it is aborted.
async fn echo_for_ever(mut stream: TunnelStream) {
    let (mut there, mut back) = ([7; 100], [0; 100]);
    loop {
        stream.write_all(&there).await.unwrap();
        timeout(LIMIT, stream.read_exact(&mut back))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(there, back);
        there[0] = there[0].wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn busy_lanes_bring_more_and_idle_ones_close() {
    let world = World::new();
    let (server, _agent) = pair(&world).await;
    let dialer = world.dialer(&server);
    let mut busy = JoinSet::new();
    for _ in 0..3 {
        busy.spawn(echo_for_ever(open(&dialer).await));
    }
    eventually(|| server.metric(LANES) >= 3.0).await;
    // Who finds a lane that is free asks for none: it takes one more until all are busy.
    let most = f64::from(u32::try_from(MAX_LANES).unwrap());
    for _ in 0..20 * MAX_LANES {
        if server.metric(LANES) >= most {
            break;
        }
        busy.spawn(echo_for_ever(open(&dialer).await));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eventually(|| server.metric(LANES) >= most).await;
    assert_eq!(server.metric(LANES), most);
    assert_eq!(server.metric(AGENTS), 1.0);
    assert!(busy.try_join_next().is_none(), "a stream has failed");
    busy.shutdown().await;
    // Those that are always kept stay, and work.
    eventually(|| server.metric(LANES) == 2.0).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(server.metric(LANES), 2.0);
    open(&dialer).await;
}

#[tokio::test]
async fn open_and_idle_connections_ask_for_nothing() {
    let world = World::new();
    let (server, _agent) = pair(&world).await;
    let dialer = world.dialer(&server);
    let mut idle = vec![open(&dialer).await];
    for _ in 0..3 {
        // Longer than what moved counts as busy.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        idle.push(open(&dialer).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.metric(LANES), 2.0);
}

#[tokio::test]
async fn nothing_is_lost_while_lanes_come_and_go() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let mut config = config(&world, server.agents, "managed").await;
    config.lane_idle = Duration::from_millis(1);
    let _agent = run_agent(config);
    eventually(|| server.metric(LANES) >= 2.0).await;
    let dialer = world.dialer(&server);
    for _ in 0..30 {
        let mut opening = JoinSet::new();
        for _ in 0..8 {
            let dialer = dialer.clone();
            opening.spawn(async move {
                let mut stream = open(&dialer).await;
                stream.write_all(b"echo").await.unwrap();
                stream.shutdown().await.unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).await.unwrap();
                assert_eq!(back, b"echo");
            });
        }
        opening.join_all().await;
    }
}

#[tokio::test]
async fn an_agent_with_one_lane_is_asked_for_no_more() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let mut config = config(&world, server.agents, "managed").await;
    config.lanes = 1;
    let _agent = run_agent(config).connected(&server).await;
    let dialer = world.dialer(&server);
    let mut busy = JoinSet::new();
    for _ in 0..4 {
        busy.spawn(echo_for_ever(open(&dialer).await));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.metric(LANES), 1.0);
    assert!(busy.try_join_next().is_none(), "a stream has failed");
}

#[tokio::test]
async fn agents_with_the_same_id_and_other_certificates_are_two() {
    let world = World::new();
    let server = world.server(ServerOptions::default()).await;
    let mut agents = Vec::new();
    for cluster in ["managed", "other", "managed"] {
        let mut config = config(&world, server.agents, cluster).await;
        config.agent_id = "same".to_owned();
        agents.push(run_agent(config));
    }
    eventually(|| server.metric(LANES) == 6.0).await;
    assert_eq!(server.metric(AGENTS), 2.0);
}

#[tokio::test]
async fn two_lanes_to_each_server_behind_one_address() {
    let world = World::new();
    let mut servers = Vec::new();
    for server_id in ["one", "two", "three"] {
        let options = ServerOptions {
            server_id,
            server_count: 3,
            ..Default::default()
        };
        servers.push(world.server(options).await);
    }
    let balancer = balancer(servers.iter().map(|server| server.agents).collect()).await;
    let _agent = run_agent(config(&world, balancer, "managed").await);
    eventually(|| servers.iter().all(|server| server.metric(LANES) == 2.0)).await;
    for server in &servers {
        open(&world.dialer(server)).await;
    }
}
