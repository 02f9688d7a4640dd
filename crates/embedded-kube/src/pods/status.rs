//! The states of a pod and of the node, as a kubelet would report them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock;
use crate::object;

/// The pod with a node; its containers wait.
pub(super) fn scheduled(pod: &Value, node: &str) -> Value {
    let mut pod = pod.clone();
    let now = clock::now();
    object::map_mut(&mut pod, "spec").insert("nodeName".to_owned(), node.into());
    let waiting = each_container(&pod, |name, image| {
        json!({
            "name": name, "image": image, "imageID": "", "ready": false, "restartCount": 0,
            "started": false, "state": {"waiting": {"reason": "ContainerCreating"}},
        })
    });
    let status = object::map_mut(&mut pod, "status");
    status.insert("startTime".to_owned(), now.as_str().into());
    status.insert("hostIP".to_owned(), NODE_ADDRESS.into());
    status.insert("containerStatuses".to_owned(), waiting);
    status.insert(
        "conditions".to_owned(),
        json!([
            condition("PodReadyToStartContainers", false, &now),
            condition("Initialized", true, &now),
            condition("Ready", false, &now),
            condition("ContainersReady", false, &now),
            condition("PodScheduled", true, &now),
        ]),
    );
    pod
}

/// The pod with an address, and every container running in name.
pub(super) fn running(pod: &Value, address: &str) -> Value {
    let mut pod = pod.clone();
    let now = clock::now();
    let running = each_container(&pod, |name, image| {
        json!({
            "name": name, "image": image, "imageID": "", "ready": true, "restartCount": 0,
            "started": true, "state": {"running": {"startedAt": now}},
            "containerID": format!("embedded://{}", Uuid::new_v4().simple()),
        })
    });
    let generation = pod["metadata"]["generation"].clone();
    let status = object::map_mut(&mut pod, "status");
    status.insert("phase".to_owned(), "Running".into());
    status.insert("podIP".to_owned(), address.into());
    status.insert("podIPs".to_owned(), json!([{"ip": address}]));
    status.insert("containerStatuses".to_owned(), running);
    status.insert("observedGeneration".to_owned(), generation);
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if condition["status"] == "False" {
            condition["status"] = "True".into();
            condition["lastTransitionTime"] = now.as_str().into();
        }
    }
    pod
}

pub(super) fn is_running(pod: &Value) -> bool {
    object::text(pod, "/status/phase") == "Running" && !object::is_deleting(pod)
}

pub(super) fn node(name: &str, version: &str) -> Value {
    let now = clock::now();
    let mut ready = condition("Ready", true, &now);
    ready["reason"] = "EmbeddedKubelet".into();
    ready["message"] = "pods are shown as running; nothing is executed".into();
    ready["lastHeartbeatTime"] = now.as_str().into();
    let capacity = capacity();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": Uuid::new_v4().to_string(),
            "creationTimestamp": now,
            "labels": {"kubernetes.io/hostname": name},
        },
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": NODE_ADDRESS},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [ready],
            "capacity": capacity,
            "allocatable": capacity,
            "nodeInfo": {
                "kubeletVersion": version,
                "kubeProxyVersion": "",
                "containerRuntimeVersion": "none://embedded",
                "osImage": "none (embedded cluster)",
                "kernelVersion": "",
                "operatingSystem": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    })
}

/// What this machine has, as far as it tells.
fn capacity() -> Value {
    let mut capacity = json!({"pods": "110"});
    if let Ok(processors) = std::thread::available_parallelism() {
        capacity["cpu"] = processors.to_string().into();
    }
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|it| it.strip_prefix("MemTotal:"));
    if let Some(kibibytes) = total.and_then(|it| it.trim().strip_suffix(" kB")) {
        capacity["memory"] = format!("{kibibytes}Ki").into();
    }
    capacity
}

fn condition(kind: &str, holds: bool, now: &str) -> Value {
    json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "lastProbeTime": Value::Null,
        "lastTransitionTime": now,
    })
}

fn each_container(pod: &Value, status: impl Fn(&str, &str) -> Value) -> Value {
    object::list(pod, "/spec/containers")
        .iter()
        .map(|container| {
            status(
                object::text(container, "/name"),
                object::text(container, "/image"),
            )
        })
        .collect()
}

/// The process itself.
const NODE_ADDRESS: &str = "127.0.0.1";
