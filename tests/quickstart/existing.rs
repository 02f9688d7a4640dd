//! With the lab's two real clusters.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_proxy_testkit::lab::{Cluster, Lab};
use cluster_proxy_testkit::process::Signal;

use crate::{run, start};

const LABEL: &str = "cluster-proxy.open-cluster-management.io/quickstart";

/// Every kind that quickstart makes, and some that it does not.
const KINDS: &str = "namespaces,serviceaccounts,clusterroles,clusterrolebindings,roles,\
                     rolebindings,pods,secrets,configmaps";

fn arguments(lab: &Lab) -> [String; 4] {
    [
        "--hub-kubeconfig".to_owned(),
        lab.hub.kubeconfig().display().to_string(),
        "--managed-kubeconfig".to_owned(),
        lab.managed.kubeconfig().display().to_string(),
    ]
}

pub(crate) fn one_of_two(lab: &Lab) -> Result<()> {
    let [flag, file, ..] = arguments(lab);
    let output = run(lab, &[&flag, &file, "--once"])?;
    ensure!(output.status.code() == Some(64), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        said.lines().count() == 1 && said.contains("--managed-kubeconfig"),
        "{said}"
    );
    Ok(())
}

pub(crate) fn once(lab: &Lab) -> Result<()> {
    let arguments = arguments(lab);
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    all.push("--once");
    let output = run(lab, &all)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{output:?}");
    let rights = said.find("create serviceaccounts/token");
    let made = said.find("test-sa");
    ensure!(
        rights.is_some() && rights < made,
        "rights are not said first: {said}"
    );
    ensure!(
        said.contains("coredns"),
        "no pods of the managed cluster: {said}"
    );
    nothing_left(lab)
}

pub(crate) fn killed_run(lab: &Lab) -> Result<()> {
    let arguments = arguments(lab);
    let mut killed = start(lab, &arguments.each_ref().map(String::as_str))?;
    killed.kill()?;
    ensure!(
        !left(&lab.hub)?.is_empty() && !left(&lab.managed)?.is_empty(),
        "nothing was left"
    );
    once(lab)
}

pub(crate) fn interrupted(lab: &Lab) -> Result<()> {
    let arguments = arguments(lab);
    let mut running = start(lab, &arguments.each_ref().map(String::as_str))?;
    running.signal(Signal::INT)?;
    let status = running.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "{status}: {:?}", running.lines());
    nothing_left(lab)
}

fn nothing_left(lab: &Lab) -> Result<()> {
    for cluster in [&lab.hub, &lab.managed] {
        let left = left(cluster)?;
        ensure!(left.is_empty(), "left in {}: {left:?}", cluster.name());
    }
    Ok(())
}

fn left(cluster: &Cluster) -> Result<Vec<String>> {
    let names = cluster.kubectl(&["get", KINDS, "-A", "-l", LABEL, "-o", "name"])?;
    Ok(names.lines().map(str::to_owned).collect())
}
