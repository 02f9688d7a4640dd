//! The hub as its own managed cluster.

use anyhow::{Result, ensure};
use cluster_proxy_testkit::lab::Lab;
use serde_json::json;

use crate::placement::{closes_in_time, leaving_or_gone, nothing_on_hub};
use crate::setting::{AGENT_NAMESPACE, PODS, Setting, eventually, get};

/// As installations call it.
const LOCAL: &str = "local-cluster";

/// It joins itself; the addon comes, on the nodes that its annotation says; requests go through,
/// and beside them those to the other cluster.
pub(crate) fn requests(setting: &Setting) -> Result<()> {
    setting.install_at_address(&[])?;
    let lab = Lab::with_local_cluster()?;
    lab.hub.apply(include_str!("../test-sa.yaml"))?;
    let selector = r#"{"kubernetes.io/hostname": "hub"}"#;
    let annotation = format!("open-cluster-management/nodeSelector={selector}");
    let arguments = [
        "annotate",
        "--overwrite",
        "managedcluster",
        LOCAL,
        &annotation,
    ];
    lab.hub.kubectl(&arguments)?;
    setting.is_available(LOCAL);
    setting.goes_through(LOCAL, "hub");
    setting.goes_through("managed", "managed");
    eventually("the agent is where the annotation says", || {
        let name = "cluster-proxy-proxy-agent";
        let agent = get(&lab.hub, &["deployment", name, "-n", AGENT_NAMESPACE])?;
        let chosen = &agent["spec"]["template"]["spec"]["nodeSelector"];
        ensure!(
            *chosen == json!({"kubernetes.io/hostname": "hub"}),
            "{chosen}"
        );
        Ok(())
    });
    // The hub's accounts are not the managed cluster's of that name, though both are one.
    let path = PODS.replace("open-cluster-management-agent", "kube-system");
    let message = setting
        .ask(LOCAL, &path)?
        .status_message(403, "Forbidden")?;
    let user = "\"cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa\"";
    ensure!(message.contains(user), "{message}");
    Ok(())
}

/// The ManagedCluster is deleted: the addon goes, and nothing of it is left.
pub(crate) fn detached(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    hub.kubectl(&["delete", "managedcluster", LOCAL, "--wait=false"])?;
    closes_in_time(setting, LOCAL)?;
    eventually("the addon is gone", || leaving_or_gone(setting, LOCAL));
    nothing_on_hub(setting, LOCAL);
    eventually("the agent is gone", || {
        let kinds = "deployments,services,secrets,serviceaccounts,roles,rolebindings,leases";
        let found = hub.kubectl(&["get", kinds, "-n", AGENT_NAMESPACE, "-o", "name"])?;
        let left: Vec<_> = found
            .lines()
            .filter(|it| *it != "serviceaccount/default")
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    setting.goes_through("managed", "managed");
    Ok(())
}
