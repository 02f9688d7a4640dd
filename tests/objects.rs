//! Kubernetes objects as kubectl prints them, and what suites look for in them.

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::lab::Cluster;
use serde_json::Value;

/// An object, or a list, as JSON: what `kubectl get` with `arguments` gives.
///
/// # Errors
/// When there is none.
pub fn get(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    let all = [&["get", "-o", "json"], arguments].concat();
    Ok(serde_json::from_str(&cluster.kubectl(&all)?)?)
}

/// The addon of a managed cluster, on its hub.
///
/// # Errors
/// When there is none.
pub fn addon(hub: &Cluster, cluster: &str) -> Result<Value> {
    get(
        hub,
        &["managedclusteraddon", "cluster-proxy", "-n", cluster],
    )
}

/// The condition of `object`.
///
/// # Errors
/// When it has none of that type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Result<&'a Value> {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let condition = conditions.find(|condition| condition["type"] == kind);
    condition.with_context(|| format!("no {kind}: {}", object["status"]))
}

/// The condition of `object`, which must have that state.
///
/// # Errors
/// When it has another, or there is no such condition.
pub fn condition_is<'a>(object: &'a Value, kind: &str, state: &str) -> Result<&'a Value> {
    let condition = condition(object, kind)?;
    ensure!(condition["status"] == state, "{condition}");
    Ok(condition)
}

/// The text of the condition's message.
#[must_use]
pub fn message(condition: &Value) -> &str {
    condition["message"].as_str().unwrap_or_default()
}

/// Checks that a list of pods has that of Open Cluster Management's agent, on that node.
///
/// # Errors
/// When it has not.
pub fn lists_the_agent(list: &Value, node: &str) -> Result<()> {
    ensure!(list["kind"] == "PodList", "{list}");
    let items = list["items"].as_array().context("no items")?;
    let found = items.iter().any(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        name.starts_with("klusterlet-agent-") && pod["spec"]["nodeName"] == node
    });
    ensure!(found, "no klusterlet-agent of {node} among {}", items.len());
    Ok(())
}
