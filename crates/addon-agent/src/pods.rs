//! The proxy-servers' pods, and which of them a connection goes to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use rand::RngExt;

/// How many connections each pod has from here. Clones are the same table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load(Arc<Mutex<HashMap<String, usize>>>);

impl Load {
    /// The pods in the order in which they are to be tried: those with the fewest connections from
    /// here first, in random order among equals, since every agent of a fleet makes this choice
    /// for itself.
    pub(crate) fn order(&self, pods: Vec<String>) -> Vec<String> {
        let table = self.table();
        let mut rng = rand::rng();
        let mut pods: Vec<(usize, u32, String)> = pods
            .into_iter()
            .map(|pod| (table.get(&pod).copied().unwrap_or(0), rng.random(), pod))
            .collect();
        pods.sort();
        pods.into_iter().map(|(_, _, pod)| pod).collect()
    }

    /// Counts a connection to `pod` until the result is dropped.
    pub(crate) fn enter(&self, pod: &str) -> Entered {
        *self.table().entry(pod.to_owned()).or_default() += 1;
        Entered {
            load: self.clone(),
            pod: pod.to_owned(),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection to a pod.
#[derive(Debug)]
pub(crate) struct Entered {
    load: Load,
    pod: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut table = self.load.table();
        if let Some(count) = table.get_mut(&self.pod) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.pod);
            }
        }
    }
}

/// The names of those pods that run, are ready and are not about to go.
pub(crate) fn ready_names(pods: Vec<Pod>) -> Vec<String> {
    pods.into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod))
        .filter_map(|pod| pod.metadata.name)
        .filter(|name| fits_into_a_path(name))
        .collect()
}

fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let mut conditions = status.conditions.iter().flatten();
    status.phase.as_deref() == Some("Running")
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a name is what Kubernetes lets a pod or a namespace be called (RFC 1123), and so needs
/// no escaping.
fn fits_into_a_path(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(allowed))
}

/// The label that proxy-servers' pods bear, of upstream's installations too.
pub(crate) const POD_SELECTOR: &str =
    "proxy.open-cluster-management.io/component-name=proxy-server";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, phase: &str, ready: &str, deleted: Option<&str>) -> Pod {
        let mut metadata = json!({"name": name});
        if let Some(deleted) = deleted {
            metadata["deletionTimestamp"] = Value::from(deleted);
        }
        let status = json!({
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True"},
                           {"type": "Ready", "status": ready}],
        });
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    #[test]
    fn only_pods_that_are_ready_count() {
        let pods = vec![
            pod("good", "Running", "True", None),
            pod("pending", "Pending", "False", None),
            pod("unready", "Running", "False", None),
            pod("done", "Succeeded", "True", None),
            pod("leaving", "Running", "True", Some("2026-01-01T00:00:00Z")),
            pod("../secrets/x", "Running", "True", None),
            Pod::default(),
        ];
        assert_eq!(ready_names(pods), ["good"]);
    }

    #[test]
    fn connections_spread_over_the_pods() {
        let load = Load::default();
        let pods = || ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut open = Vec::new();
        for _ in 0..6 {
            let first = load.order(pods()).remove(0);
            open.push(load.enter(&first));
        }
        assert_eq!(load.table().values().collect::<Vec<_>>(), [&2, &2, &2]);
        open.retain(|entered| entered.pod != "b");
        assert_eq!(load.order(pods())[0], "b");
        open.clear();
        assert!(
            load.table().is_empty(),
            "nothing is remembered of pods that went"
        );
    }
}
