use std::sync::Arc;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_identity::tls::{FlagFile, install_crypto_provider};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::flags::HostPort;
use cluster_proxy_runtime::operations::Operations;
use cluster_proxy_runtime::readiness::Readiness;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// A managed cluster, and a proxy-agent that the test makes ready.
struct World {
    kube: EmbeddedKube,
    drain: Drain,
    keeper: LeaseKeeper,
    connected: Condition,
    renewed: Readiness,
}

impl World {
    async fn new() -> Self {
        // Another test of this process may have been first.
        let _ = install_crypto_provider();
        let drain = Drain::new();
        let kube = EmbeddedKube::start(Config::new("managed"), &drain)
            .await
            .unwrap();
        kube.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "agent"},
        }))
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, kube.admin_kubeconfig()).unwrap();
        let managed = Connection::from_kubeconfig(FlagFile::new("--kubeconfig", path), None);

        let readiness = Readiness::new();
        let connected = readiness.condition("connected to a proxy-server");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let operations = Operations {
            readiness,
            drain: drain.clone(),
            registry: Arc::new(Registry::default()),
        };
        drain.spawn_until_ended(operations.serve(listener));

        let renewed = Readiness::new();
        let config = LeaseConfig {
            managed: managed.unwrap(),
            namespace: "agent".to_owned(),
            proxy_agent: Some(HostPort::new("127.0.0.1", port)),
        };
        let keeper = LeaseKeeper::new(config, Metrics::default(), renewed.condition("a Lease"));
        Self {
            kube,
            drain,
            keeper,
            connected,
            renewed,
        }
    }

    fn lease(&self) -> Option<Value> {
        self.kube
            .get("coordination.k8s.io/v1", "Lease", "agent", "cluster-proxy")
    }

    fn renew_time(&self) -> Timestamp {
        let lease = self.lease().expect("a Lease");
        let text = lease["spec"]["renewTime"].as_str().expect("a time");
        text.parse().expect("a time")
    }
}

#[tokio::test]
async fn the_lease_is_made_and_renewed_while_the_proxy_agent_is_ready() {
    let mut world = World::new().await;
    assert_eq!(world.keeper.beat().await, NOT_READY_INTERVAL);
    assert_eq!(world.lease(), None);
    assert_eq!(world.renewed.waiting_for(), ["a Lease"]);
    let said = world.keeper.trouble.clone().unwrap();
    assert!(
        said.contains("503") && said.contains("waiting for connected to a proxy-server"),
        "{said}"
    );

    world.connected.set(true);
    assert_eq!(world.keeper.beat().await, RENEW_INTERVAL);
    assert!(world.renewed.waiting_for().is_empty());
    let made = world.lease().unwrap();
    assert_eq!(made["spec"]["leaseDurationSeconds"], 60);
    let first = world.renew_time();

    assert_eq!(world.keeper.beat().await, RENEW_INTERVAL);
    let second = world.renew_time();
    assert!(second > first);
    assert_eq!(
        world.lease().unwrap()["metadata"]["uid"],
        made["metadata"]["uid"]
    );

    world.connected.set(false);
    assert_eq!(world.keeper.beat().await, NOT_READY_INTERVAL);
    assert_eq!(world.renew_time(), second);
    assert_eq!(world.renewed.waiting_for(), ["a Lease"]);
}

#[tokio::test]
async fn somebody_elses_lease_keeps_what_is_in_it() {
    let mut world = World::new().await;
    world.connected.set(true);
    world
        .kube
        .apply(&json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "cluster-proxy", "namespace": "agent", "labels": {"a": "b"}},
            "spec": {"holderIdentity": "upstream", "renewTime": "2026-01-01T00:00:00.000000Z"},
        }))
        .unwrap();
    assert_eq!(world.keeper.beat().await, RENEW_INTERVAL);
    let lease = world.lease().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "upstream");
    assert_eq!(lease["metadata"]["labels"]["a"], "b");
    let age = Timestamp::now().duration_since(world.renew_time());
    assert!(age.as_secs() < 60, "{age:?}");
}

#[tokio::test]
async fn a_kube_apiserver_that_is_gone_is_asked_less_and_less() {
    let mut world = World::new().await;
    world.connected.set(true);
    world.keeper.probe = None;
    world.drain.end();
    let mut longest = Duration::ZERO;
    for _ in 0..4 {
        let pause = world.keeper.beat().await;
        assert!(pause < RENEW_INTERVAL);
        longest = longest.max(pause);
    }
    assert!(longest >= Duration::from_secs(4), "{longest:?}");
    assert_eq!(world.renewed.waiting_for(), ["a Lease"]);
}

#[test]
fn an_account_of_the_same_namespace_owns_the_lease_and_nobody_else_does() {
    let owner = |username: &str, uid: Option<&str>| {
        let user = UserInfo {
            username: Some(username.to_owned()),
            uid: uid.map(str::to_owned),
            ..UserInfo::default()
        };
        account(user, "agent").map(|owner| (owner.kind, owner.name, owner.uid))
    };
    let parts = |name: &str| ("ServiceAccount".to_owned(), name.to_owned(), "u".to_owned());
    let found = owner("system:serviceaccount:agent:cluster-proxy", Some("u"));
    assert_eq!(found, Some(parts("cluster-proxy")));
    assert_eq!(
        owner("system:serviceaccount:agent:cluster-proxy", None),
        None
    );
    assert_eq!(
        owner("system:serviceaccount:other:cluster-proxy", Some("u")),
        None
    );
    assert_eq!(owner("system:admin", Some("u")), None);
}
