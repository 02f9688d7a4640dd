use cluster_proxy_kube_api::names::MANAGER_LEASE;
use tokio::time::timeout;

use super::*;
use crate::testing::{Hub, LIMIT, NAMESPACE};

const FAST: Timing = Timing {
    lease: Duration::from_secs(2),
    renew_deadline: Duration::from_millis(1200),
    retry: Duration::from_millis(300),
};

fn candidate(hub: &Hub, identity: &str) -> Candidate {
    Candidate::with_timing(hub.connection.client(), &Hub::config(identity), FAST)
}

fn holder(hub: &Hub) -> String {
    let lease = hub
        .kube
        .get("coordination.k8s.io/v1", "Lease", NAMESPACE, MANAGER_LEASE)
        .unwrap();
    lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn of_two_candidates_one_leads() {
    let hub = Hub::start().await;
    let (mut one, mut two) = (candidate(&hub, "one"), candidate(&hub, "two"));
    timeout(LIMIT, one.acquire()).await.unwrap();
    assert_eq!(holder(&hub), "one");
    // While the first one renews, the second waits, longer than a Lease lasts.
    let waited = tokio::select! {
        lost = one.hold() => panic!("{lost}"),
        waited = timeout(FAST.lease * 2, two.acquire()) => waited,
    };
    assert!(waited.is_err());
    one.release().await;
    assert_eq!(holder(&hub), "");
    timeout(LIMIT, two.acquire()).await.unwrap();
    assert_eq!(holder(&hub), "two");
    let lost = timeout(LIMIT, one.hold()).await.unwrap();
    let holder = "two".to_owned();
    assert_eq!(lost, Lost::Taken { holder });
    // What is another's is not given back.
    one.release().await;
    assert_eq!(self::holder(&hub), "two");
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken() {
    let hub = Hub::start().await;
    let (mut one, mut two) = (candidate(&hub, "one"), candidate(&hub, "two"));
    timeout(LIMIT, one.acquire()).await.unwrap();
    let begun = Instant::now();
    timeout(LIMIT, two.acquire()).await.unwrap();
    assert!(begun.elapsed() >= FAST.lease, "{:?}", begun.elapsed());
    assert_eq!(holder(&hub), "two");
}

#[tokio::test]
async fn who_cannot_renew_stops_before_another_may_begin() {
    let hub = Hub::start().await;
    let mut one = candidate(&hub, "one");
    timeout(LIMIT, one.acquire()).await.unwrap();
    let begun = Instant::now();
    hub.drain.end();
    let lost = timeout(LIMIT, one.hold()).await.unwrap();
    assert!(matches!(lost, Lost::NotRenewed { .. }), "{lost}");
    assert!(begun.elapsed() < FAST.lease, "{:?}", begun.elapsed());
}
