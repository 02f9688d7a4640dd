//! Servers keep Leases, and agents count servers by them, as the embedded Kubernetes API has them.

use std::collections::BTreeMap;

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_proxy_agent::{ProxyAgent, ServerCountSource, ServerLeasesConfig};
use cluster_proxy_proxy_server::ServerLeaseConfig;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use crate::harness::{ServerOptions, World, announcing, eventually, metric_of};
use crate::kube_hub::KubeHub;

const NAMESPACE: &str = "kube-system";

impl KubeHub {
    fn lease_config(&self) -> ServerLeaseConfig {
        let label = ("k8s-app".to_owned(), "konnectivity-server".to_owned());
        ServerLeaseConfig {
            hub: self.connection.clone(),
            namespace: NAMESPACE.to_owned(),
            labels: BTreeMap::from([label]),
        }
    }

    fn lease(&self, name: &str) -> Option<Value> {
        self.kube
            .get("coordination.k8s.io/v1", "Lease", NAMESPACE, name)
    }

    /// A Lease as Go's server writes it, renewed so many seconds ago.
    fn write(&self, name: &str, app: &str, seconds_ago: i64) {
        let renewed = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
        let renewed = jiff::Timestamp::from_microsecond(renewed.as_microsecond()).unwrap();
        self.kube
            .apply(&json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {
                    "name": name, "namespace": NAMESPACE, "labels": {"k8s-app": app},
                },
                "spec": {
                    "holderIdentity": name, "leaseDurationSeconds": 30,
                    "renewTime": format!("{renewed:.6}"),
                },
            }))
            .unwrap();
    }
}

#[tokio::test]
async fn a_server_keeps_its_lease_deletes_dead_ones_and_takes_its_own_along() {
    let (world, hub) = (World::new(), KubeHub::new().await);
    hub.write("konnectivity-proxy-server-gone", "konnectivity-server", 31);
    hub.write("konnectivity-proxy-server-here", "konnectivity-server", 5);
    hub.write("somebody-elses", "another", 3600);
    let options = ServerOptions {
        lease: Some(hub.lease_config()),
        ..ServerOptions::default()
    };
    let server = world.server(options).await;
    let name = "konnectivity-proxy-server-server-1";
    eventually(|| hub.lease(name).is_some()).await;
    let lease = hub.lease(name).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "server-1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 30);
    assert_eq!(
        lease["metadata"]["labels"]["k8s-app"],
        "konnectivity-server"
    );
    assert!(lease["spec"]["renewTime"].is_string(), "{lease}");

    eventually(|| hub.lease("konnectivity-proxy-server-gone").is_none()).await;
    assert!(hub.lease("konnectivity-proxy-server-here").is_some());
    assert!(hub.lease("somebody-elses").is_some());
    let metric = |name: &str| server.metric(&format!("konnectivity_network_proxy_server_{name}"));
    eventually(|| metric("culled_leases_count") == 1.0).await;
    assert!(metric("lease_list_total{http_status_code=\"200\",reason=\"\"}") >= 1.0);

    server.drain.start();
    eventually(|| hub.lease(name).is_none()).await;
    hub.drain.end();
}

#[tokio::test]
async fn an_agent_connects_to_as_many_servers_as_have_leases() {
    let (world, hub) = (World::new(), KubeHub::new().await);
    let server = world.server(ServerOptions::default()).await;
    hub.write("konnectivity-proxy-server-a", "konnectivity-server", 0);
    hub.write("konnectivity-proxy-server-b", "konnectivity-server", 0);
    hub.write("konnectivity-proxy-server-c", "konnectivity-server", 0);
    hub.write("konnectivity-proxy-server-old", "konnectivity-server", 31);
    hub.write("another", "another", 0);

    let leaf = Leaf::proxy_agent(&"managed".parse().unwrap());
    let address = server.agents.to_string().parse().unwrap();
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let mut config = world.agent_config(address, &leaf, &announcing("managed"), nowhere);
    config.server_leases = Some(ServerLeasesConfig {
        hub: hub.connection.clone(),
        namespace: NAMESPACE.to_owned(),
        selector: "k8s-app=konnectivity-server".to_owned(),
        source: ServerCountSource::Default,
    });
    let (mut registry, drain) = (Registry::default(), Drain::new());
    let agent = ProxyAgent::new(config, &mut registry, &Readiness::new()).unwrap();
    drain.spawn(agent.run(drain.clone()));
    let metric = |name: &str| {
        metric_of(
            &registry,
            &format!("konnectivity_network_proxy_agent_{name}"),
        )
    };
    eventually(|| metric("known_server_count") == 3.0).await;
    eventually(|| metric("open_server_connections") == 1.0).await;
    // The server itself says that there is one: the Leases' word holds, and the search goes on.
    let duplicates = "cluster_proxy_agent_connects_total{result=\"duplicate\"}";
    eventually(|| metric_of(&registry, duplicates) >= 2.0).await;

    hub.write("konnectivity-proxy-server-d", "konnectivity-server", 0);
    eventually(|| metric("known_server_count") == 4.0).await;
    for name in ["b", "c", "d"] {
        let name = format!("konnectivity-proxy-server-{name}");
        hub.kube
            .delete("coordination.k8s.io/v1", "Lease", NAMESPACE, &name)
            .unwrap();
    }
    eventually(|| metric("known_server_count") == 1.0).await;

    // Leases that cannot be read are not none.
    hub.write("konnectivity-proxy-server-b", "konnectivity-server", 0);
    eventually(|| metric("known_server_count") == 2.0).await;
    hub.drain.end();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(metric("known_server_count"), 2.0);
    drain.end();
}
