use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cluster_proxy_kube_api::addon::TUNNEL_REACHABLE;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kube::ResourceExt;
use serde_json::json;

use super::request::RequestError;
use super::*;
use crate::fleet_testing::Fleet as Hub;
use crate::testing::soon;

mod through_the_tunnel;

/// Everything takes a few hundred milliseconds.
const FAST: Pace = Pace {
    interval: Duration::from_millis(100),
    soon: Duration::from_millis(20),
    confirm: Duration::from_millis(50),
    grace: Duration::from_millis(100),
    first_grace: Duration::from_millis(200),
    min_backoff: Duration::from_millis(50),
    max_backoff: Duration::from_millis(100),
};

/// Answers as it is told, and remembers who was asked.
#[derive(Default)]
struct Scripted {
    fails: Mutex<Option<&'static str>>,
    asked: Mutex<Vec<(ClusterName, Asked)>>,
    takes: Duration,
    at_once: AtomicUsize,
    most: AtomicUsize,
    time: AtomicU64,
}

impl Scripted {
    fn asked(&self) -> Vec<(ClusterName, Asked)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Ask for Scripted {
    fn ask<'a>(
        &'a self,
        cluster: &'a ClusterName,
        asked: Asked,
    ) -> BoxFuture<'a, Result<Duration, AskError>> {
        let answer = async move {
            self.asked.lock().unwrap().push((cluster.clone(), asked));
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(self.takes).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            match *self.fails.lock().unwrap() {
                Some(step) => Err(RequestError::TimedOut { step }.into()),
                None => Ok(Duration::from_millis(self.time.load(Ordering::SeqCst))),
            }
        };
        answer.boxed()
    }
}

async fn deploy(hub: &Hub, cluster: &str) {
    hub.join(cluster).await;
    let status = json!({"namespace": "agents", "conditions": [
        {"type": "ManifestApplied", "status": "True", "reason": "R", "message": "",
         "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]});
    hub.set_addon_status(cluster, status).await;
}

fn condition(hub: &Hub, state: &str) -> Option<Value> {
    let condition = hub.condition("managed", TUNNEL_REACHABLE)?;
    (condition["status"] == state).then_some(condition)
}

fn metrics(hub: &Hub) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    hub.context.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

#[tokio::test]
async fn the_status_is_written_when_there_is_news() {
    let hub = Hub::start().await;
    hub.keep_events();
    hub.join("managed").await;
    let ask = Arc::new(Scripted::default());
    ask.time.store(30, Ordering::SeqCst);
    let running = tokio::spawn(run_with(Arc::clone(&hub.context), ask.clone(), FAST));
    let unknown = soon("unknown", || condition(&hub, "Unknown")).await;
    assert_eq!(unknown["reason"], "AgentNotDeployed");
    assert_eq!(ask.asked(), []);

    deploy(&hub, "managed").await;
    let reached = soon("reached", || condition(&hub, "True")).await;
    assert_eq!(reached["reason"], "RequestAnswered");
    assert!(
        reached["message"]
            .as_str()
            .unwrap()
            .contains("service-proxy and back in 30 ms")
    );
    // Asked again and again, and nothing written.
    let version = hub.addon("managed").resource_version();
    let before = ask.asked().len();
    soon("more requests", || {
        (ask.asked().len() > before + 5).then_some(())
    })
    .await;
    assert_eq!(hub.addon("managed").resource_version(), version);
    let reachable = "cluster_proxy_manager_tunnel_reachable{cluster=\"managed\"}";
    assert!(
        metrics(&hub).contains(&format!("{reachable} 1")),
        "{}",
        metrics(&hub)
    );
    ask.time.store(90, Ordering::SeqCst);
    soon("the longer way", || {
        let message = condition(&hub, "True")?["message"].to_string();
        message.contains("90 ms").then_some(())
    })
    .await;

    *ask.fails.lock().unwrap() = Some("the answer");
    let lost = soon("lost", || condition(&hub, "False")).await;
    assert_eq!(lost["reason"], "TimedOut");
    let message = lost["message"].as_str().unwrap();
    assert!(
        message.contains("the answer: nothing within 12 s"),
        "{message}"
    );
    assert!(metrics(&hub).contains(&format!("{reachable} 0")));
    let others = hub.condition("managed", "ManifestApplied").unwrap();
    assert_eq!(others["status"], "True", "the others' conditions stay");
    *ask.fails.lock().unwrap() = None;
    soon("reached again", || condition(&hub, "True")).await;
    for reason in [TUNNEL_REACHABLE, "TimedOut"] {
        hub.event("managed", reason).await;
    }

    let version = "addon.open-cluster-management.io/v1alpha1";
    let kube = &hub.hub.kube;
    kube.delete(version, "ManagedClusterAddOn", "managed", "cluster-proxy")
        .unwrap();
    soon("the end of the metric", || {
        (!metrics(&hub).contains(reachable)).then_some(())
    })
    .await;
    let asked = ask.asked().len();
    tokio::time::sleep(FAST.interval * 4).await;
    assert_eq!(ask.asked().len(), asked, "a removed addon is asked on");
    hub.context.drain.start();
    timeout(crate::testing::LIMIT, running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn requests_at_once_are_bounded_and_end_with_leadership() {
    let hub = Hub::start().await;
    for number in 0..CONCURRENCY * 2 {
        deploy(&hub, &format!("cluster-{number}")).await;
    }
    let ask = Arc::new(Scripted {
        takes: Duration::from_mins(10),
        ..Scripted::default()
    });
    let running = tokio::spawn(run_with(Arc::clone(&hub.context), ask.clone(), FAST));
    soon("requests", || {
        (ask.asked().len() >= CONCURRENCY).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ask.most.load(Ordering::SeqCst), CONCURRENCY);
    hub.context.drain.end();
    timeout(crate::testing::LIMIT, running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn whom_to_ask_follows_the_configuration() {
    let hub = Hub::start().await;
    let namespace = crate::testing::NAMESPACE;
    let config = |name: &str, variables: Value| {
        hub.hub.apply(json!({
            "apiVersion": "addon.open-cluster-management.io/v1alpha1",
            "kind": "AddOnDeploymentConfig",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"customizedVariables": variables},
        }));
        json!([{
            "group": "addon.open-cluster-management.io", "resource": "addondeploymentconfigs",
            "name": name, "namespace": namespace, "lastObservedGeneration": 1,
            "desiredConfig": {"name": name, "namespace": namespace, "specHash": ""},
        }])
    };
    let off = json!({"name": "enableServiceProxy", "value": "false"});
    let all_off = json!([off, {"name": "enableKubeApiProxy", "value": "false"}]);
    let wrong = json!([{"name": "enableServiceProxy", "value": "perhaps"}]);
    for (references, expected) in [
        (Value::Null, Some(Asked::ServiceProxy)),
        (config("off", json!([off])), Some(Asked::KubeApiserver)),
        (config("all-off", all_off), None),
        (config("wrong", wrong), Some(Asked::ServiceProxy)),
    ] {
        let found = whom_to_ask(&hub.context, &references).await.unwrap();
        assert_eq!(found, expected, "{references}");
    }
}
