//! What the manager keeps true, and what it never does.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::TunnelHost;
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_tests::objects::{addon, condition, message};
use serde_json::{Value, json};

use crate::certificate_requests::openssl;
use crate::{ADDON_NAMESPACE, AGENT_NAMESPACE, Setting};

/// The certificates that OCM's agent got for this cluster say this cluster, and nothing else.
pub(crate) fn certificates_are_per_cluster(setting: &Setting) -> Result<()> {
    let agent = certificate(setting, "proxy-agent-signer")?;
    let name =
        "CN = system:open-cluster-management:cluster:managed:addon:cluster-proxy:agent:proxy-agent";
    ensure!(agent.contains(name), "{agent}");
    ensure!(agent.contains("TLS Web Client Authentication"), "{agent}");
    let server = certificate(setting, "service-proxy-signer")?;
    let host = TunnelHost::of(&"managed".parse()?);
    let sans = server
        .lines()
        .skip_while(|line| !line.contains("Subject Alternative Name"))
        .nth(1)
        .with_context(|| server.clone())?;
    ensure!(sans.trim() == format!("DNS:{host}"), "{sans}");
    ensure!(
        server.contains("TLS Web Server Authentication")
            && !server.contains("TLS Web Client Authentication"),
        "{server}"
    );
    Ok(())
}

fn certificate(setting: &Setting, signer: &str) -> Result<String> {
    let secret = format!("cluster-proxy-open-cluster-management.io-{signer}-client-cert");
    let pem = setting.agent(&[
        "get",
        "secret",
        &secret,
        "-o",
        "go-template={{index .data \"tls.crt\" | base64decode}}",
    ])?;
    let text = openssl(&["x509", "-noout", "-text"], pem.as_bytes())?;
    Ok(String::from_utf8(text)?)
}

pub(crate) fn objects_come_back(setting: &Setting) -> Result<()> {
    let objects = [
        "deployment/cluster-proxy",
        "service/proxy-entrypoint",
        "secret/proxy-server",
        "secret/cluster-proxy-user-server-client",
        "configmap/cluster-proxy-agents",
    ];
    let uid = |object: &str| setting.hub(&["get", object, "-o", "jsonpath={.metadata.uid}"]);
    for object in objects {
        let before = uid(object)?;
        setting.hub(&["delete", object, "--wait=true"])?;
        Setting::eventually(object, || {
            let after = uid(object)?;
            ensure!(after != before, "{object} is still the old one");
            Ok(())
        });
    }
    setting.hub(&["scale", "deployment/cluster-proxy", "--replicas=0"])?;
    Setting::eventually("replicas set back", || {
        let replicas = setting.hub(&[
            "get",
            "deployment/cluster-proxy",
            "-o",
            "jsonpath={.spec.replicas}",
        ])?;
        ensure!(replicas.trim() == "1", "{replicas}");
        Ok(())
    });
    setting.hub(&[
        "rollout",
        "status",
        "deployment/cluster-proxy",
        "--timeout=90s",
    ])?;
    Ok(())
}

/// First `prefer`, and `cluster` once the agent has had its certificate for two minutes.
pub(crate) fn agent_table(setting: &Setting) -> Result<()> {
    let limit = Duration::from_secs(200);
    eventually_blocking(limit, "the table of agents says cluster", || {
        let table = setting.hub(&["get", "configmap", "cluster-proxy-agents", "-o", "json"])?;
        let table: Value = serde_json::from_str(&table)?;
        ensure!(table["data"]["agent-identity"] == "cluster", "{table}");
        let rows = table["data"]["clusters"].as_str().context("no clusters")?;
        let rows: Value = serde_json::from_str(rows)?;
        let expected =
            json!([{"name": "managed", "agentNamespace": AGENT_NAMESPACE, "certificate": true}]);
        ensure!(rows == expected, "{rows}");
        Ok(())
    });
    Ok(())
}

/// The condition `TunnelReachable` is true with a round-trip time, false with where to look while
/// no agent runs, and true again.
pub(crate) fn tunnel_reachable(setting: &Setting) -> Result<()> {
    let condition = || -> Result<Value> {
        let addon = addon(&setting.lab.hub, "managed")?;
        condition(&addon, "TunnelReachable").cloned()
    };
    let reached = || {
        Setting::eventually("TunnelReachable is True", || {
            let condition = condition()?;
            let message = message(&condition);
            ensure!(
                condition["status"] == "True"
                    && message.contains("service-proxy and back in ")
                    && message.ends_with(" ms"),
                "{condition}"
            );
            Ok(())
        });
    };
    reached();
    let deployment = "deployment/cluster-proxy-proxy-agent";
    let replicas = setting.agent(&["get", deployment, "-o", "jsonpath={.spec.replicas}"])?;
    // Pods that drain, a minute until it is asked again, and a failure has to be sure.
    let limit = Duration::from_secs(200);
    eventually_blocking(limit, "TunnelReachable is False", || {
        // Open Cluster Management sets it back from time to time.
        setting.agent(&["scale", deployment, "--replicas=0"])?;
        let condition = condition()?;
        let message = message(&condition);
        ensure!(
            condition["status"] == "False"
                && condition["reason"] == "AgentNotConnected"
                && message.contains(AGENT_NAMESPACE),
            "{condition}"
        );
        Ok(())
    });
    let replicas = format!("--replicas={}", replicas.trim());
    setting.agent(&["scale", deployment, &replicas])?;
    reached();
    let events = setting
        .lab
        .hub
        .kubectl(&["get", "events", "-n", "managed"])?;
    ensure!(
        events.contains("AgentNotConnected") && events.contains("TunnelReachable"),
        "{events}"
    );
    Ok(())
}

/// What stays on purpose: Helm's CRD and the namespaces.
pub(crate) fn uninstall(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    hub.helm(&["uninstall", "-n", ADDON_NAMESPACE, "cluster-proxy"])?;
    let ours = |text: String| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| line.contains("cluster-proxy") || line.contains("proxy-"))
            .map(str::to_owned)
            .collect()
    };
    let namespaced = "deployments,services,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies";
    let cluster_wide = "clusterroles,clusterrolebindings";
    // The story's own: its certificates and its NodePort Service.
    let story = [
        "secret/cluster-proxy-ca-secret",
        "secret/cluster-proxy-user-serving-cert",
        "service/proxy-entrypoint-external",
    ];
    Setting::eventually("nothing is left on the hub", || {
        // The manager's Lease goes with the configuration.
        let in_namespace = format!("{namespaced},leases");
        let mut left = ours(setting.hub(&["get", &in_namespace, "-o", "name"])?);
        left.retain(|object| !story.contains(&object.as_str()));
        left.extend(ours(hub.kubectl(&["get", cluster_wide, "-o", "name"])?));
        let of_cluster = format!("{namespaced},manifestworks,managedclusteraddons");
        left.extend(ours(hub.kubectl(&[
            "get",
            &of_cluster,
            "-n",
            "managed",
            "-o",
            "name",
        ])?));
        let fleet = "clustermanagementaddons,managedproxyconfigurations,placements";
        left.extend(ours(hub.kubectl(&["get", fleet, "-A", "-o", "name"])?));
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    Setting::eventually("nothing is left in the managed cluster", || {
        let mut left = ours(setting.agent(&["get", namespaced, "-o", "name"])?);
        left.extend(ours(setting.lab.managed.kubectl(&[
            "get",
            cluster_wide,
            "-o",
            "name",
        ])?));
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    Ok(())
}
