//! How agents come to the hub.

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::fence::HubFence;
use cluster_proxy_testkit::lab::Cluster;
use serde_json::{Value, json};

use crate::setting::{
    ADDON_NAMESPACE, AGENT_NAMESPACE, Setting, condition_is, container, eventually, get,
    has_argument, message,
};

const PORT_FORWARD_ROLE: &str = "cluster-proxy-addon-agent:portforward";
const LOAD_BALANCER: &str = "proxy-agent-entrypoint";

/// No port of the hub is open to the managed cluster but its kube-apiserver's, and a new agent
/// comes all the same.
pub(crate) fn port_forward(setting: &Setting) -> Result<()> {
    setting.install(&[])?;
    let fence = HubFence::new(&setting.lab)?;
    let hub = setting.lab.hub.node_ip();
    let managed = &setting.lab.managed;
    ensure!(dial(managed, &format!("https://{hub}:6443/"))? == Some(0));
    // The kubelet's: it listens, whatever is installed.
    let other = format!("https://{hub}:10250/");
    ensure!(dial(managed, &other)? == Some(CURL_TIMED_OUT));
    setting.agent(&[
        "delete",
        "pods",
        "--all",
        "--wait=false",
        "--grace-period=1",
    ])?;
    setting.agent_pod(AGENT_NAMESPACE, "an agent at its own loopback", |pod| {
        let agent = container(pod, "proxy-agent")?;
        has_argument(agent, "--proxy-server-host=127.0.0.1")?;
        let addon_agent = container(pod, "addon-agent")?;
        has_argument(addon_agent, "--enable-port-forward-proxy=true")
    });
    setting.goes_through("managed", "managed");
    drop(fence);
    ensure!(
        dial(managed, &other)? == Some(0),
        "the fence is still there"
    );

    let role = get(
        &setting.lab.hub,
        &["role", PORT_FORWARD_ROLE, "-n", ADDON_NAMESPACE],
    )?;
    let expected = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create", "get"]},
    ]);
    ensure!(role["rules"] == expected, "{}", role["rules"]);
    let binding = get(
        &setting.lab.hub,
        &["rolebinding", PORT_FORWARD_ROLE, "-n", ADDON_NAMESPACE],
    )?;
    let subjects = &binding["subjects"];
    let only_agents = subjects
        .as_array()
        .context("no subjects")?
        .iter()
        .all(|it| it["kind"] == "Group" && it["name"] == "open-cluster-management:cluster-proxy");
    ensure!(only_agents, "{subjects}");
    Ok(())
}

/// Agents come to an address: what PortForward needed is gone.
pub(crate) fn address(setting: &Setting) -> Result<()> {
    setting.install_at_address(&[])?;
    at(setting, &setting.lab.hub.node_ip().to_string(), "30091");
    setting.goes_through("managed", "managed");
    for kind in ["role", "rolebinding"] {
        eventually("the rights of PortForward are gone", || {
            let found = setting.hub(&["get", kind, PORT_FORWARD_ROLE, "--ignore-not-found"])?;
            ensure!(found.trim().is_empty(), "{kind}: {found}");
            Ok(())
        });
    }
    Ok(())
}

/// While the load balancer has no address, conditions say so, and the agent stays where it was.
pub(crate) fn load_balancer_without_address(setting: &Setting) -> Result<()> {
    setting.install(&["proxyServer.entrypointLoadBalancer=true"])?;
    let words = "proxy-agent-entrypoint has no load balancer address yet";
    eventually("EntrypointReady says what is missing", || {
        let configuration = setting.configuration()?;
        let condition = condition_is(&configuration, "EntrypointReady", "False")?;
        ensure!(message(condition).contains(words), "{condition}");
        Ok(())
    });
    eventually("the addon says what is missing", || {
        let addon = setting.addon("managed")?;
        let condition = condition_is(&addon, "ManifestApplied", "False")?;
        ensure!(message(condition).contains(words), "{condition}");
        Ok(())
    });
    nothing_crashed(setting)?;
    // By the address that it had before.
    setting.goes_through("managed", "managed");
    Ok(())
}

/// The load balancer gets an IP address.
pub(crate) fn load_balancer_ip(setting: &Setting) -> Result<()> {
    let ip = setting.lab.hub.node_ip().to_string();
    ingress(setting, &json!({"ip": ip}))?;
    at(setting, &ip, "8091");
    eventually("EntrypointReady", || {
        condition_is(&setting.configuration()?, "EntrypointReady", "True").map(drop)
    });
    setting.goes_through("managed", "managed");
    Ok(())
}

/// The load balancer gets a name instead, which the agent finds by its pod's search domains: it
/// has one dot of the five without which a name is no full one (`ndots:5`).
pub(crate) fn load_balancer_name(setting: &Setting) -> Result<()> {
    let name = "hub-entrypoint.default";
    let ip = setting.lab.hub.node_ip();
    let manifest = include_str!("hub-entrypoint.yaml").replace("HUB_IP", &ip.to_string());
    setting.lab.managed.apply(&manifest)?;
    let cloud = include_str!("load-balancer.yaml").replace("HUB_IP", &ip.to_string());
    setting.lab.hub.apply(&cloud)?;
    ingress(setting, &json!({"hostname": name}))?;
    at(setting, name, "8091");
    setting.goes_through("managed", "managed");
    nothing_crashed(setting)
}

/// Writes the status of the Service as the cloud's controller does.
fn ingress(setting: &Setting, address: &Value) -> Result<()> {
    let status = json!({"status": {"loadBalancer": {"ingress": [address]}}});
    setting.hub(&[
        "patch",
        "service",
        LOAD_BALANCER,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ])?;
    Ok(())
}

/// Waits until all agents dial there.
fn at(setting: &Setting, host: &str, port: &str) {
    setting.agent_pod(AGENT_NAMESPACE, &format!("an agent at {host}"), |pod| {
        let agent = container(pod, "proxy-agent")?;
        has_argument(agent, &format!("--proxy-server-host={host}"))?;
        has_argument(agent, &format!("--proxy-server-port={port}"))
    });
}

fn nothing_crashed(setting: &Setting) -> Result<()> {
    let restarts = setting.hub(&[
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ])?;
    ensure!(
        restarts.split_whitespace().all(|count| count == "0"),
        "restarts on the hub: {restarts}"
    );
    Ok(())
}

/// curl's exit code.
fn dial(cluster: &Cluster, url: &str) -> Result<Option<i32>> {
    let mut curl = cluster.command("curl");
    curl.args(["--insecure", "--silent", "--output", "/dev/null"]);
    curl.args(["--noproxy", "*", "--connect-timeout", "2", url]);
    Ok(curl.status()?.code())
}

const CURL_TIMED_OUT: i32 = 28;
