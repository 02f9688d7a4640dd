//! The embedded kubelet: pods get a node, an address, a status and a log, and nothing is executed.
//!
//! It says so wherever it can: in an Event of each pod, in the node's description, in each log
//! line. What it gives is what clients of the API need: phases that change while they watch,
//! readiness, logs that grow, deletion that takes a moment.

pub(crate) mod logs;
mod status;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock;
use crate::object;
use crate::resources::{EVENTS, NODES, PODS};
use crate::store::Transaction;
use logs::PodLogs;

/// Runs the pods of one cluster's only node.
pub(crate) struct Kubelet {
    node: String,
    /// Since when each pod has been starting or stopping, by uid.
    waiting: BTreeMap<String, Instant>,
    /// Pod addresses given out so far.
    addresses: u16,
}

impl Kubelet {
    pub(crate) fn new(node: String) -> Self {
        Self {
            node,
            waiting: BTreeMap::new(),
            addresses: 0,
        }
    }

    /// The node that pods run on.
    pub(crate) fn register(&self, state: &mut Transaction<'_>, version: &str) {
        state.put(NODES, status::node(&self.node, version));
    }

    /// Takes every pod one step further if it is time. `true` while some pod waits for its time.
    pub(crate) fn reconcile(&mut self, state: &mut Transaction<'_>, logs: &PodLogs) -> bool {
        let pods = state.list(PODS, None);
        logs.retain(|uid| pods.iter().any(|pod| object::uid(pod) == uid));
        self.waiting
            .retain(|uid, _| pods.iter().any(|pod| object::uid(pod) == uid));
        for pod in &pods {
            self.step(state, logs, pod);
        }
        !self.waiting.is_empty()
    }

    /// Writes the next line of every running container.
    pub(crate) fn tick(&self, state: &Transaction<'_>, logs: &PodLogs) {
        for pod in state.list(PODS, None) {
            if self.is_ours(&pod) && status::is_running(&pod) {
                for container in containers(&pod) {
                    logs.tick(object::uid(&pod), container, object::name(&pod));
                }
            }
        }
    }

    fn step(&mut self, state: &mut Transaction<'_>, logs: &PodLogs, pod: &Value) {
        let uid = object::uid(pod);
        if object::text(pod, "/spec/nodeName").is_empty() && !object::is_deleting(pod) {
            state.put(PODS, status::scheduled(pod, &self.node));
            self.waiting.insert(uid.to_owned(), Instant::now());
            return;
        }
        if !self.is_ours(pod) {
            return;
        }
        if object::is_deleting(pod) {
            if self.waited(uid, STOPPING) {
                self.waiting.remove(uid);
                self.stop(state, pod);
            }
        } else if object::text(pod, "/status/phase") == "Pending" && self.waited(uid, STARTING) {
            self.waiting.remove(uid);
            self.start(state, logs, pod);
        }
    }

    fn start(&mut self, state: &mut Transaction<'_>, logs: &PodLogs, pod: &Value) {
        self.addresses = self.addresses.wrapping_add(1);
        let [high, low] = self.addresses.to_be_bytes();
        let address = format!("10.244.{high}.{low}");
        let running = state.put(PODS, status::running(pod, &address));
        for container in containers(&running) {
            logs.tick(object::uid(&running), container, object::name(&running));
        }
        self.note(state, &running);
    }

    fn stop(&self, state: &mut Transaction<'_>, pod: &Value) {
        if object::has_finalizers(pod) {
            let mut pod = pod.clone();
            let metadata = object::metadata_mut(&mut pod);
            // Nobody waits for the kubelet any more, only for the finalizers' owners.
            if metadata.get("deletionGracePeriodSeconds") != Some(&json!(0)) {
                metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
                state.put(PODS, pod);
            }
        } else {
            state.remove(PODS, pod);
        }
    }

    /// An Event that says what `kubectl describe pod` should tell.
    fn note(&self, state: &mut Transaction<'_>, pod: &Value) {
        let now = clock::now();
        let suffix = Uuid::new_v4().simple().to_string();
        state.put(
            EVENTS,
            json!({
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": format!("{}.{}", object::name(pod), &suffix[..16]),
                    "namespace": object::namespace(pod),
                    "uid": Uuid::new_v4().to_string(),
                    "creationTimestamp": now,
                },
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": object::name(pod),
                    "namespace": object::namespace(pod),
                    "uid": object::uid(pod),
                    "resourceVersion": object::resource_version(pod),
                },
                "type": "Normal",
                "reason": "Embedded",
                "message": "Started in name only: an embedded cluster runs no programs",
                "source": {"component": "embedded-kubelet", "host": self.node},
                "reportingComponent": "embedded-kubelet",
                "reportingInstance": self.node,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }),
        );
        forget_old_events(state);
    }

    fn is_ours(&self, pod: &Value) -> bool {
        object::text(pod, "/spec/nodeName") == self.node
    }

    fn waited(&mut self, uid: &str, time: Duration) -> bool {
        let since = self
            .waiting
            .entry(uid.to_owned())
            .or_insert_with(Instant::now);
        since.elapsed() >= time
    }
}

/// The names of a pod's containers.
pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = &str> {
    object::list(pod, "/spec/containers")
        .iter()
        .map(|container| object::text(container, "/name"))
}

/// A line in the log of each container, unless the host program writes its own as well.
pub(crate) fn tick_line(number: u64, pod: &str) -> String {
    let now = clock::seconds(Timestamp::now());
    format!("{now} tick {number} from embedded pod {pod}")
}

/// Kubernetes forgets Events after an hour; here the oldest go when there are many.
fn forget_old_events(state: &mut Transaction<'_>) {
    let mut events = state.list(EVENTS, None);
    if events.len() <= MAX_EVENTS {
        return;
    }
    events.sort_by_key(|event| object::resource_version(event).parse::<u64>().unwrap_or(0));
    for event in &events[..events.len() - MAX_EVENTS] {
        state.remove(EVENTS, event);
    }
}

/// How long a pod is Pending: long enough to be seen in `kubectl get pods -w`.
const STARTING: Duration = Duration::from_millis(200);

/// How long a pod is Terminating.
const STOPPING: Duration = Duration::from_millis(200);

/// Events kept; one is about 1 KiB.
const MAX_EVENTS: usize = 1000;

/// How often a running container writes.
pub(crate) const TICK: Duration = Duration::from_secs(2);

/// How often a waiting pod is looked at.
pub(crate) const STEP: Duration = Duration::from_millis(50);
