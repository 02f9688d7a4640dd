//! A placement of the user's own says where the addon is, and what is left where it is no more.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_tests::http::curl;
use serde_json::Value;

use crate::deployment_config::{forget_requests, nothing_in};
use crate::setting::{ADDON_NAMESPACE, AGENT_NAMESPACE, PODS, Setting, eventually, get};

/// The label by which the placement selects, and its absence.
const SELECTED: &str = "proxied=yes";
const NOT_SELECTED: &str = "proxied-";

/// From when the addon is about to go until its lanes are closed and requests say so.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// The placement selects no cluster: the addon goes from `managed`.
pub(crate) fn deselected(setting: &Setting) -> Result<()> {
    setting.install_at_address(&[])?;
    setting.goes_through("managed", "managed");
    ensure!(lanes(setting)? != "0", "requests go through without a lane");
    setting.lab.hub.apply(include_str!("placement.yaml"))?;
    label(setting, NOT_SELECTED)?;
    setting.install_at_address(&[
        "installByPlacement.placementName=chosen",
        "installByPlacement.placementNamespace=fleet",
    ])?;
    eventually("the addon is about to go", || {
        leaving_or_gone(setting, "managed")
    });
    closes_in_time(setting, "managed")?;
    let open = lanes(setting)?;
    ensure!(
        open == "0",
        "{open} lanes are open, and no cluster has the addon"
    );
    for kind in ["placement", "managedclustersetbinding"] {
        let found = setting.hub(&["get", kind, "-o", "name"])?;
        ensure!(found.trim().is_empty(), "the chart's own {kind}: {found}");
    }
    Ok(())
}

/// Nothing is left of it on either side, but the Namespace of the agent.
pub(crate) fn nothing_left(setting: &Setting) -> Result<()> {
    nothing_on_hub(setting, "managed");
    nothing_in(setting, AGENT_NAMESPACE);
    eventually("no rights are left in the managed cluster", || {
        let kinds = "clusterroles,clusterrolebindings,appliedmanifestworks";
        let all = setting.lab.managed.kubectl(&["get", kinds, "-o", "name"])?;
        let left: Vec<_> = all
            .lines()
            .filter(|it| it.contains("cluster-proxy"))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    setting
        .lab
        .managed
        .kubectl(&["get", "namespace", AGENT_NAMESPACE])?;
    Ok(())
}

/// The placement selects it again: everything comes back.
pub(crate) fn selected(setting: &Setting) -> Result<()> {
    forget_requests(setting)?;
    label(setting, SELECTED)?;
    eventually("the addon is back", || setting.addon("managed"));
    setting.is_available("managed");
    setting.goes_through("managed", "managed");
    Ok(())
}

/// Waits until the addon of a cluster is gone, or about to be.
pub(crate) fn leaving_or_gone(setting: &Setting, cluster: &str) -> Result<()> {
    let arguments = ["get", "managedclusteraddon", "cluster-proxy", "-n", cluster];
    let how = ["--ignore-not-found", "-o", "json"];
    let found = setting.lab.hub.kubectl(&[&arguments[..], &how].concat())?;
    if found.trim().is_empty() {
        return Ok(());
    }
    let addon: Value = serde_json::from_str(&found)?;
    let leaving = addon["metadata"]["deletionTimestamp"].is_string();
    ensure!(leaving, "it is still there");
    Ok(())
}

/// From now on within [`CLOSED_WITHIN`], the table names the cluster no more, and requests say
/// that it is not connected.
pub(crate) fn closes_in_time(setting: &Setting, cluster: &str) -> Result<()> {
    let began = Instant::now();
    eventually("requests say that it is not connected", || {
        let answer = setting.ask(cluster, PODS)?;
        let said = answer.status_message(503, "ServiceUnavailable")?;
        ensure!(said.contains("not connected"), "{said}");
        Ok(())
    });
    let took = began.elapsed();
    ensure!(took < CLOSED_WITHIN, "its lanes closed after {took:?}");
    let table = ["configmap", "cluster-proxy-agents", "-n", ADDON_NAMESPACE];
    let table = get(&setting.lab.hub, &table)?;
    let rows = table["data"]["clusters"].as_str().context("no clusters")?;
    ensure!(!rows.contains(&format!("\"{cluster}\"")), "{rows}");
    Ok(())
}

/// How many lanes the proxy-server has open, by its metrics.
fn lanes(setting: &Setting) -> Result<String> {
    let pods = "proxy.open-cluster-management.io/component-name=proxy-server";
    let ip = "jsonpath={.items[0].status.podIP}";
    let ip = setting.hub(&["get", "pods", "-l", pods, "-o", ip])?;
    let url = format!("http://{}:8092/metrics", ip.trim());
    let answer = curl(setting.lab.hub.command("curl"), &["--noproxy", "*", &url])?;
    let mut lines = answer.body.lines();
    let line = lines.find_map(|line| line.strip_prefix("cluster_proxy_server_lanes "));
    Ok(line.context("no such metric")?.trim().to_owned())
}

/// Waits until nothing of the addon is left in the cluster's namespace on the hub.
pub(crate) fn nothing_on_hub(setting: &Setting, cluster: &str) {
    let kinds = "managedclusteraddons,manifestworks,roles,rolebindings,secrets,configmaps,leases,\
                 serviceaccounts";
    eventually(&format!("nothing is left of {cluster} on the hub"), || {
        let arguments = ["get", kinds, "-n", cluster, "-o", "name"];
        let all = setting.lab.hub.kubectl(&arguments)?;
        let left: Vec<_> = all
            .lines()
            .filter(|it| it.contains("cluster-proxy"))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
}

fn label(setting: &Setting, label: &str) -> Result<()> {
    let cluster = ["label", "--overwrite", "managedcluster", "managed", label];
    setting.lab.hub.kubectl(&cluster).map(drop)
}
