use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_tunnel::lane::LANES;

use super::*;

fn server(server_id: &str, server_count: u32, lanes: bool) -> ServerHello {
    ServerHello {
        server_id: server_id.to_owned(),
        server_count,
        capabilities: lanes.then(|| LANES.to_owned()).into_iter().collect(),
    }
}

fn servers(base: usize) -> (Readiness, Arc<Servers>) {
    let readiness = Readiness::new();
    let ready = readiness.condition("connected");
    let source = ServerCountSource::Default;
    let servers = Servers::new(base, ready, Metrics::default(), source);
    (readiness, Arc::new(servers))
}

#[tokio::test]
async fn one_lane_to_each_server_that_takes_no_more() {
    let (readiness, servers) = servers(2);
    assert_eq!(servers.missing(), Missing::Servers);
    assert!(servers.wants(&server("a", 2, false)));
    let a = servers.connect(&server("a", 2, false));
    assert!(readiness.waiting_for().is_empty());
    assert!(!servers.wants(&server("a", 2, false)));
    assert_eq!(servers.missing(), Missing::Servers);
    let b = servers.connect(&server("b", 2, false));
    assert_eq!(servers.missing(), Missing::Nothing);
    a.drains();
    assert!(servers.take_upset());
    assert_eq!(servers.missing(), Missing::Servers);
    servers.set_count(1);
    assert_eq!(servers.missing(), Missing::Nothing);
    drop((a, b));
    assert!(servers.take_upset() && !servers.take_upset());
    assert_eq!(readiness.waiting_for(), ["connected"]);
    servers.changed().await;
}

#[tokio::test]
async fn lanes_come_when_asked_for_and_only_extra_ones_retire() {
    let (_readiness, servers) = servers(2);
    let one = server("a", 1, true);
    let mut lanes = vec![servers.connect(&one)];
    assert_eq!(servers.missing(), Missing::Lanes);
    assert!(servers.wants(&one));
    lanes.push(servers.connect(&one));
    assert_eq!(servers.missing(), Missing::Nothing);
    assert!(!servers.wants(&one) && !lanes[0].retire());

    // No more than there may be, whatever a server asks for.
    lanes[0].asked_for(u32::MAX);
    servers.changed().await;
    while servers.wants(&one) {
        lanes.push(servers.connect(&one));
    }
    assert_eq!(lanes.len(), MAX_LANES);
    let retired = lanes.iter_mut().map(|lane| lane.retire());
    assert_eq!(retired.filter(|retired| *retired).count(), MAX_LANES - 2);
    assert_eq!(servers.missing(), Missing::Nothing);
    lanes.retain(|lane| !lane.is_retired());
    assert_eq!((lanes.len(), servers.take_upset()), (2, false));

    // A draining server gets no more.
    lanes.pop();
    assert!(servers.take_upset() && servers.wants(&one));
    lanes[0].drains();
    assert!(!servers.wants(&one));
}

#[tokio::test]
async fn with_one_lane_no_more_are_given() {
    let (_readiness, servers) = servers(1);
    let one = server("a", 1, true);
    let lane = servers.connect(&one);
    lane.asked_for(16);
    assert!(!servers.wants(&one));
    assert_eq!(servers.missing(), Missing::Nothing);
}

#[tokio::test]
async fn leases_count_before_what_servers_say() {
    let readiness = Readiness::new();
    for (source, both) in [(ServerCountSource::Default, 2), (ServerCountSource::Max, 3)] {
        let ready = readiness.condition("connected");
        let servers = Servers::new(2, ready, Metrics::default(), source);
        assert!(servers.wants(&server("a", 3, true)));
        assert_eq!(servers.counts(), (0, 3), "no Leases were read yet");
        servers.set_leased(2);
        servers.changed().await;
        assert_eq!(servers.counts(), (0, both));
        servers.set_leased(4);
        assert_eq!(servers.counts(), (0, 4));
    }
}
