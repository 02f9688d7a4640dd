//! Managed clusters that are objects of the hub and nothing else: no agent runs in them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::Setting;

/// Accepted, with the addon.
pub(crate) const OTHER: &str = "other";

/// As [`OTHER`], and nobody ever comes from it.
pub(crate) const FREE: &str = "free";

/// Not accepted by the hub.
pub(crate) const NOT_ACCEPTED: &str = "not-accepted";

/// Accepted, but not chosen by the addon's placement.
pub(crate) const WITHOUT_ADDON: &str = "without-addon";

/// Makes the cluster, if it is not there yet, and waits until OCM and the manager have done their
/// part.
pub(crate) fn join(setting: &Setting, name: &str) -> Result<()> {
    let hub = &setting.lab.hub;
    let mut spec = json!({"hubAcceptsClient": name != NOT_ACCEPTED, "leaseDurationSeconds": 60});
    if name == WITHOUT_ADDON {
        let since = "2026-01-01T00:00:00Z";
        spec["taints"] = json!([{"key": "test", "effect": "NoSelect", "timeAdded": since}]);
    }
    let cluster = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1",
        "kind": "ManagedCluster",
        "metadata": {"name": name},
        "spec": spec,
    });
    hub.apply(&cluster.to_string())?;
    if name == NOT_ACCEPTED {
        return Ok(());
    }
    Setting::eventually("OCM has taken the cluster in", || {
        hub.kubectl(&["get", "namespace", name])
    });
    if name != WITHOUT_ADDON {
        Setting::eventually("the addon is registered", || {
            let registrations = addon(setting, name)?["status"]["registrations"].take();
            ensure!(registrations.as_array().is_some_and(|it| it.len() == 3));
            Ok(())
        });
    }
    Ok(())
}

/// The cluster's ManagedClusterAddOn.
fn addon(setting: &Setting, cluster: &str) -> Result<Value> {
    let addon = ["get", "managedclusteraddon", "cluster-proxy", "-n", cluster];
    let addon = setting
        .lab
        .hub
        .kubectl(&[&addon[..], &["-o", "json"]].concat())?;
    serde_json::from_str(&addon).context("no JSON")
}

/// Takes all of them out, and waits until nothing of them is left.
pub(crate) fn leave(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    for kind in ["managedcluster", "namespace"] {
        let arguments = ["delete", kind, "--ignore-not-found", "--timeout=120s"];
        let all = [OTHER, FREE, NOT_ACCEPTED, WITHOUT_ADDON];
        hub.kubectl(&[&arguments[..], &all].concat())?;
    }
    Ok(())
}
