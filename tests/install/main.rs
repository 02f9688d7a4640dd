//! The user's story of installation, word for word: Open Cluster Management and cert-manager as
//! they are, our image in real pods, our chart, and a request that comes back with the managed
//! cluster's pods. Needs a lab that nobody else has installed anything in, and the image's tar in
//! `CLUSTER_PROXY_IMAGE`.

mod announced_names;
mod certificate_requests;
mod controllers;
mod kubeconfig;
mod other_cluster;
mod rights;
mod story;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::lab::Lab;

/// Where the story installs the hub's part.
const ADDON_NAMESPACE: &str = "open-cluster-management-addon";

/// Where agents are in managed clusters.
const AGENT_NAMESPACE: &str = "open-cluster-management-cluster-proxy";

/// Pods have to be pulled up, certificates asked for, approved and mounted.
const PATIENCE: Duration = Duration::from_secs(120);

struct Setting {
    lab: Lab,
}

impl Setting {
    fn new() -> Result<Self> {
        let image = std::env::var("CLUSTER_PROXY_IMAGE")
            .context("CLUSTER_PROXY_IMAGE is not set: make test SUITE=install sets it")?;
        Lab::with_ocm()?;
        let lab = Lab::with_cert_manager()?;
        for cluster in ["hub", "managed"] {
            let status = std::process::Command::new(root().join("lab/lab"))
                .args(["import", cluster, &image])
                .status()?;
            ensure!(status.success(), "lab import {cluster} {image}: {status}");
        }
        Ok(Self { lab })
    }

    /// Waits until `check` is met, at most [`PATIENCE`].
    fn eventually<T>(what: &str, check: impl FnMut() -> Result<T>) -> T {
        eventually_blocking(PATIENCE, what, check)
    }

    /// What kubectl prints about the hub's part.
    fn hub(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["--namespace", ADDON_NAMESPACE], arguments].concat();
        self.lab.hub.kubectl(&all)
    }

    /// What kubectl prints about the agent.
    fn agent(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["--namespace", AGENT_NAMESPACE], arguments].concat();
        self.lab.managed.kubectl(&all)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "install",
        Setting::new,
        &[
            ("cert-manager issues", story::certificates),
            ("helm installs the chart", story::helm_install),
            (
                "deployments and services are those of the story",
                story::deployments_and_services,
            ),
            ("the addon becomes available", story::addon_is_available),
            ("pods come back to a debug pod", story::pods_come_back),
            (
                "another namespace is 403 and names the user",
                story::another_namespace,
            ),
            (
                "tokens of pods, and the managed cluster's own",
                story::other_tokens,
            ),
            ("whom a hub user may act as is asked", story::acting_as),
            ("doctor finds the way well", story::doctor),
            (
                "every certificate is its own cluster's",
                controllers::certificates_are_per_cluster,
            ),
            (
                "what is deleted or changed by hand comes back",
                controllers::objects_come_back,
            ),
            (
                "requests go on after that",
                story::pods_come_back_eventually,
            ),
            (
                "TunnelReachable says whether a request gets through",
                controllers::tunnel_reachable,
            ),
            (
                "the table of agents names the cluster",
                controllers::agent_table,
            ),
            (
                "hard case 15: requests with one thing wrong are never approved",
                certificate_requests::never_approved,
            ),
            (
                "hard case 15: what is signed is what was registered",
                certificate_requests::what_is_signed,
            ),
            (
                "hard case 25: the agent has the listed rights and no others",
                rights::of_the_agent,
            ),
            (
                "hard case 25: the agent's hub identity has nothing of another cluster",
                rights::of_the_hub_identity,
            ),
            (
                "hard case 14: names of another cluster are not an agent's",
                announced_names::not_its_own,
            ),
            (
                "hard case 14: the agent of a detached cluster is out",
                announced_names::detached,
            ),
            ("requests still go on", story::pods_come_back_eventually),
            ("every right that is granted is used", rights::are_all_used),
            ("uninstalled, nothing is left", controllers::uninstall),
        ],
    )
}
