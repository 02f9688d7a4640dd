//! ClusterProfiles, which Open Cluster Management writes and tools for several clusters read.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::setting::{PODS, Setting, base64_field, eventually, get};

/// The profile of `managed` tells where its kube-apiserver is reached and whom to believe there.
pub(crate) fn access_provider(setting: &Setting) -> Result<()> {
    let gates = json!([{"feature": "ClusterProfile", "mode": "Enable"}]);
    features(setting, &gates)?;
    let profile = eventually("Open Cluster Management's profile of the cluster", || {
        let profiles = get(&setting.lab.hub, &["clusterprofiles", "--all-namespaces"])?;
        let mut profiles = profiles["items"].as_array().into_iter().flatten();
        let profile = profiles.find(|profile| profile["metadata"]["name"] == "managed");
        profile.cloned().context("no profile")
    });
    let namespace = profile["metadata"]["namespace"].as_str();
    let namespace = namespace.context("no namespace")?;
    // Selected by it, and not always there yet.
    let label = "open-cluster-management.io/cluster-name=managed";
    let label = [
        "label",
        "--overwrite",
        "clusterprofile",
        "managed",
        "-n",
        namespace,
        label,
    ];
    setting.lab.hub.kubectl(&label)?;
    setting.install_at_address(&["featureGates.clusterProfile=true"])?;
    eventually("the manager says what the definition lacks", || {
        let logs = setting.hub(&["logs", "deploy/cluster-proxy-addon-manager"])?;
        ensure!(
            logs.contains("cannot hold access providers"),
            "no word of it"
        );
        Ok(())
    });
    let definition = newer_definition()?;
    let how = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        &definition,
    ];
    setting.lab.hub.kubectl(&how)?;
    let cluster = eventually("the access provider", || {
        let profile = ["clusterprofile", "managed", "-n", namespace];
        let profile = get(&setting.lab.hub, &profile)?;
        let providers = profile["status"]["accessProviders"].as_array();
        let mut providers = providers.into_iter().flatten();
        let ours = providers.find(|it| it["name"] == "open-cluster-management");
        ours.map(|it| it["cluster"].clone())
            .with_context(|| profile["status"].to_string())
    });
    let server = "https://cluster-proxy-addon-user.open-cluster-management-addon:9092/managed";
    ensure!(cluster["server"] == server, "{cluster}");
    let secret = "cluster-proxy-user-serving-cert";
    let encoded = cluster["certificate-authority-data"].as_str();
    let ca = crate::deployment_config::decoded(encoded.context("no CA")?)?;
    let expected = setting.hub(&["get", "secret", secret, "-o", &base64_field("ca.crt")])?;
    ensure!(ca == expected, "another CA: {ca}");
    let extension = json!([{
        "name": "client.authentication.k8s.io/exec",
        "extension": {"clusterName": "managed"},
    }]);
    ensure!(cluster["extensions"] == extension, "{cluster}");
    // By the name in that URL.
    let name = "cluster-proxy-addon-user.open-cluster-management-addon";
    let answer = setting.ask_server(name, "managed", PODS)?;
    ensure!(answer.code == 200, "{}: {}", answer.code, answer.body);
    features(setting, &json!([]))
}

/// The definition of profiles that has access providers: Open Cluster Management 1.0 brings an older
/// one. It comes with the Go module, pinned beside the lab's others.
fn newer_definition() -> Result<String> {
    let module = "sigs.k8s.io/cluster-inventory-api";
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/go/cluster-inventory");
    let go = |arguments: &[&str]| -> Result<String> {
        let done = Command::new("go")
            .args(arguments)
            .current_dir(root)
            .output()?;
        ensure!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?.trim().to_owned())
    };
    go(&["mod", "download", module])?;
    let folder = go(&["list", "-m", "-f", "{{.Dir}}", module])?;
    let file = "config/crd/bases/multicluster.x-k8s.io_clusterprofiles.yaml";
    Ok(format!("{folder}/{file}"))
}

/// The features that Open Cluster Management's registration has on.
fn features(setting: &Setting, gates: &Value) -> Result<()> {
    let patch = json!({"spec": {"registrationConfiguration": {"featureGates": gates}}});
    let patch = patch.to_string();
    let manager = ["patch", "clustermanager", "cluster-manager"];
    let how = ["--type=merge", "-p", &patch];
    setting.lab.hub.kubectl(&[&manager[..], &how].concat())?;
    Ok(())
}
