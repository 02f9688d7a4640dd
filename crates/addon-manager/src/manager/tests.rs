use cluster_proxy_kube_api::names::MANAGER_LEASE;
use cluster_proxy_runtime::drain::DrainLimits;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{Hub, NAMESPACE, soon};

struct Running {
    drain: Drain,
    metrics: Metrics,
    task: JoinHandle<()>,
}

fn start(hub: &Hub, identity: &str) -> Running {
    let drain = Drain::new();
    let config = ManagerConfig {
        leader_election: true,
        ..Hub::config(identity)
    };
    let manager = Manager::new(
        hub.connection.clone(),
        config,
        &mut Registry::default(),
        &Readiness::new(),
    );
    Running {
        metrics: manager.metrics.clone(),
        task: drain.spawn(manager.run(drain.clone())),
        drain,
    }
}

fn holder(hub: &Hub) -> Option<String> {
    let lease = hub
        .kube
        .get("coordination.k8s.io/v1", "Lease", NAMESPACE, MANAGER_LEASE)?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn one_of_two_leads_until_it_ends() {
    let hub = Hub::start().await;
    let (one, two) = (start(&hub, "one"), start(&hub, "two"));
    let first = soon("a leader", || {
        let holder = holder(&hub)?;
        let leading = [&one, &two].map(|running| running.metrics.is_leading());
        (leading != [false, false]).then_some((holder, leading))
    })
    .await;
    let (ending, staying, name) = match first {
        (holder, [true, false]) if holder == "one" => (one, two, "two"),
        (holder, [false, true]) if holder == "two" => (two, one, "one"),
        other => panic!("not one leader, the one of the Lease: {other:?}"),
    };
    assert!(ending.drain.run(LIMITS).await, "it ends by itself");
    ending.task.await.unwrap();
    assert!(!ending.metrics.is_leading());
    soon("the other leader", || {
        (staying.metrics.is_leading() && holder(&hub)? == name).then_some(())
    })
    .await;
    assert!(staying.drain.run(LIMITS).await, "it ends by itself");
    assert_eq!(holder(&hub).as_deref(), Some(""));
}

#[tokio::test]
async fn a_manager_that_lost_the_lease_stops_its_work() {
    let hub = Hub::start().await;
    let running = start(&hub, "one");
    soon("the leader", || running.metrics.is_leading().then_some(())).await;
    let mut lease = hub
        .kube
        .get("coordination.k8s.io/v1", "Lease", NAMESPACE, MANAGER_LEASE)
        .unwrap();
    lease["spec"]["holderIdentity"] = serde_json::json!("thief");
    hub.apply(lease);
    soon("the end of the work", || {
        (!running.metrics.is_leading()).then_some(())
    })
    .await;
    assert_eq!(holder(&hub).as_deref(), Some("thief"));
    assert!(running.drain.run(LIMITS).await, "it ends by itself");
}

const LIMITS: DrainLimits = DrainLimits {
    min: Duration::ZERO,
    limit: Duration::from_secs(20),
};
