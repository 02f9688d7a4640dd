//! READY, STATUS and RESTARTS of a pod (`printPod` of pkg/printers/internalversion), for the
//! states that an embedded pod, or a status written through the API, can have.

use serde_json::Value;

use crate::clock;
use crate::object::{is_deleting, list, number, text};

pub(super) struct Summary {
    pub(super) ready: String,
    pub(super) status: String,
    pub(super) restarts: String,
}

pub(super) fn summary(pod: &Value) -> Summary {
    let statuses = list(pod, "/status/containerStatuses");
    let ready = statuses
        .iter()
        .filter(|it| it["ready"] == true && it.pointer("/state/running").is_some())
        .count();
    let restarts: i64 = statuses
        .iter()
        .filter_map(|it| number(it, "/restartCount"))
        .sum();
    let last = statuses
        .iter()
        .map(|it| text(it, "/lastState/terminated/finishedAt"))
        .max()
        .unwrap_or_default();
    Summary {
        ready: format!("{ready}/{}", list(pod, "/spec/containers").len()),
        status: status(pod, statuses, ready > 0),
        restarts: if restarts > 0 && !last.is_empty() {
            format!("{restarts} ({} ago)", clock::age(last))
        } else {
            restarts.to_string()
        },
    }
}

fn status(pod: &Value, statuses: &[Value], running: bool) -> String {
    let phase = text(pod, "/status/phase");
    if is_deleting(pod) && !matches!(phase, "Succeeded" | "Failed") {
        return "Terminating".to_owned();
    }
    let mut reason = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        given => given.to_owned(),
    };
    // The first container has the last word, as in Kubernetes.
    for container in statuses.iter().rev() {
        let waiting = text(container, "/state/waiting/reason");
        if !waiting.is_empty() {
            reason = waiting.to_owned();
        } else if let Some(ended) = container.pointer("/state/terminated") {
            reason = match text(ended, "/reason") {
                "" => format!("ExitCode:{}", number(ended, "/exitCode").unwrap_or(0)),
                given => given.to_owned(),
            };
        }
    }
    if reason == "Completed" && running {
        let is_ready = list(pod, "/status/conditions")
            .iter()
            .any(|it| it["type"] == "Ready" && it["status"] == "True");
        reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
    }
    reason
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn states_read_as_in_kubectl() {
        let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
        let crashing = json!({
            "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        });
        let done = json!({
            "ready": false, "restartCount": 0,
            "state": {"terminated": {"reason": "Completed", "exitCode": 0}},
        });
        for (statuses, phase, expected) in [
            (json!([]), "Pending", ("0/2", "Pending", "0")),
            (
                json!([running, running]),
                "Running",
                ("2/2", "Running", "0"),
            ),
            (
                json!([running, crashing]),
                "Running",
                ("1/2", "CrashLoopBackOff", "3"),
            ),
            (json!([done, running]), "Running", ("1/2", "NotReady", "0")),
            (json!([done, done]), "Succeeded", ("0/2", "Completed", "0")),
        ] {
            let pod = json!({
                "metadata": {"name": "web"},
                "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
                "status": {"phase": phase, "containerStatuses": statuses},
            });
            let found = summary(&pod);
            assert_eq!(
                (&*found.ready, &*found.status, &*found.restarts),
                expected,
                "{statuses}"
            );
        }
        let leaving = json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Running"},
        });
        assert_eq!(summary(&leaving).status, "Terminating");
    }
}
