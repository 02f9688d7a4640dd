//! Network policies: which ports each pod has to have, and no others.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::setting::{ADDON_NAMESPACE, AGENT_NAMESPACE, Setting, eventually, get};

/// All four, field by field, and requests go through with them in place.
#[expect(clippy::print_stdout, reason = "what the lab can show of it")]
pub(crate) fn ports(setting: &Setting) -> Result<()> {
    setting.install_at_address(&["networkPolicies.enabled=true"])?;
    let hub = &setting.lab.hub;
    let server = json!({"proxy.open-cluster-management.io/component-name": "proxy-server"});
    let policy = |name: &str| {
        let name = format!("cluster-proxy-{name}-network-policy");
        eventually(&name, || {
            get(hub, &["networkpolicy", &name, "-n", ADDON_NAMESPACE])
        })
    };
    // Both ask through the tunnel: for users, and whether clusters are reachable.
    let tunnel = json!({"ports": tcp(&[8090]), "to": [{"podSelector": {"matchLabels": server}}]});
    for (name, component, ports) in [
        ("addon-manager", "cluster-proxy-manager", [58080, 58081]),
        ("addon-user", "cluster-proxy-addon-user", [9092, 8000]),
    ] {
        let spec = &policy(name)["spec"];
        let pods =
            json!({"open-cluster-management.io/addon": "cluster-proxy", "component": component});
        ensure!(spec["podSelector"]["matchLabels"] == pods, "{name}: {spec}");
        ensure!(
            spec["policyTypes"] == json!(["Ingress", "Egress"]),
            "{name}: {spec}"
        );
        ensure!(
            spec["ingress"] == json!([{"ports": tcp(&ports)}]),
            "{name}: {spec}"
        );
        ensure!(
            spec["egress"] == hub_egress(std::slice::from_ref(&tunnel)),
            "{name}: {spec}"
        );
    }

    let proxy_server = policy("proxy-server");
    let spec = &proxy_server["spec"];
    ensure!(spec["podSelector"]["matchLabels"] == server, "{spec}");
    let ports = &spec["ingress"][0];
    ensure!(
        ports["from"].is_null() && ports["ports"] == tcp(&[8090, 8091]),
        "{ports}"
    );
    ensure!(spec["egress"] == hub_egress(&[]), "{}", spec["egress"]);

    let agent = eventually("the agent's policy", || {
        let name = "cluster-proxy-proxy-agent-network-policy";
        get(
            &setting.lab.managed,
            &["networkpolicy", name, "-n", AGENT_NAMESPACE],
        )
    });
    let spec = &agent["spec"];
    let ingress = json!([{"ports": tcp(&[8000, 7443])}]);
    ensure!(spec["ingress"] == ingress, "{}", spec["ingress"]);
    // The service-proxy is asked for any Service, so everything goes out.
    let egress = json!([names(), {"ports": tcp(&[443, 6443, 30091])}, {}]);
    ensure!(spec["egress"] == egress, "{}", spec["egress"]);

    setting.goes_through("managed", "managed");
    println!("    the lab's network (CNI plugin bridge) enforces no policies: rendered, not tried");
    Ok(())
}

/// Without them none is left.
pub(crate) fn off(setting: &Setting) -> Result<()> {
    setting.install_at_address(&[])?;
    eventually("no policy is left", || {
        let on_hub = setting.hub(&["get", "networkpolicies", "-o", "name"])?;
        let on_managed = setting.agent(&["get", "networkpolicies", "-o", "name"])?;
        ensure!(on_hub.trim().is_empty(), "{on_hub}");
        ensure!(on_managed.trim().is_empty(), "{on_managed}");
        Ok(())
    });
    setting.goes_through("managed", "managed");
    Ok(())
}

/// Names and the kube-apiserver, and `more`.
fn hub_egress(more: &[Value]) -> Value {
    let mut egress = vec![names(), json!({"ports": tcp(&[443, 6443])})];
    egress.extend_from_slice(more);
    json!(egress)
}

/// Name servers, on the port of some distributions too.
fn names() -> Value {
    json!({"ports": [
        {"protocol": "UDP", "port": 53},
        {"protocol": "TCP", "port": 53},
        {"protocol": "UDP", "port": 5353},
        {"protocol": "TCP", "port": 5353},
    ]})
}

fn tcp(ports: &[u16]) -> Value {
    let ports = ports
        .iter()
        .map(|port| json!({"protocol": "TCP", "port": port}));
    ports.collect()
}
