//! What happens by itself: one task that looks at the whole state after each change and takes it
//! a step further. The state is small and in memory, so that looking at all of it is cheaper than
//! being clever, and nothing is ever missed.

mod garbage;
mod namespaces;

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::User;
use cluster_proxy_kube_api::names::MASTERS_GROUP;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::cluster::Cluster;
use crate::pods::{self, Kubelet};
use crate::rbac::aggregation;

/// Runs until it is dropped.
pub(crate) async fn run(cluster: Arc<Cluster>, mut kubelet: Kubelet) {
    let mut changes = cluster.store.changes();
    let mut ticks = interval(pods::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pods_wait = true;
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep(SETTLE).await;
            }
            () = sleep(pods::STEP), if pods_wait => {}
            _ = ticks.tick() => cluster.store.read(|view| kubelet.tick(view, &cluster.logs)),
        }
        changes.mark_unchanged();
        pods_wait = step(&cluster, &mut kubelet);
    }
}

/// One step of everything. `true` while a pod waits for its time.
fn step(cluster: &Cluster, kubelet: &mut Kubelet) -> bool {
    let user = controller();
    cluster
        .store
        .write(false, |state| {
            aggregation::reconcile(state);
            namespaces::reconcile(state, cluster, &user);
            garbage::reconcile(state, cluster, &user);
            Ok(kubelet.reconcile(state, &cluster.logs))
        })
        .expect("nothing in it refuses")
}

/// Who the controllers are. They call the objects' code directly, so nobody authorizes them.
fn controller() -> User {
    User {
        name: "system:embedded-controller".to_owned(),
        groups: vec![MASTERS_GROUP.to_owned()],
        ..User::default()
    }
}

/// Changes come in bursts (a manifest of many objects); one look after the burst is enough.
const SETTLE: Duration = Duration::from_millis(20);
