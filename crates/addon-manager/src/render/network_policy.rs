//! Network policies. Peers are ports alone: a policy can name neither hosts nor load balancers.

use cluster_proxy_kube_api::names::{
    ADDON_LABEL, ADDON_NAME, COMPONENT_LABEL, COMPONENT_NAME_LABEL, MANAGER_COMPONENT, PROXY_AGENT,
    PROXY_AGENT_NETWORK_POLICY, PROXY_SERVER, PROXY_SERVER_NETWORK_POLICY, USER_SERVER,
};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::hub::Hub;
use super::{manifest, object};

/// The policy of the proxy-server: users' and agents' ports in; names and the kube-apiserver out.
pub(super) fn proxy_server(hub: &Hub<'_>) -> DynamicObject {
    object(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": hub.metadata(PROXY_SERVER_NETWORK_POLICY),
        "spec": {
            "podSelector": {"matchLabels": {COMPONENT_NAME_LABEL: PROXY_SERVER}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                // From anywhere: clients of the tunnel in any namespace, and agents through whatever
                // leads to the hub. Both show certificates.
                {"ports": [tcp(hub.ports.proxy), tcp(hub.ports.agent)]},
                {
                    "from": [
                        {"podSelector": {"matchLabels": {COMPONENT_LABEL: USER_SERVER}}},
                        // It asks whether clusters are reachable.
                        {"podSelector": {"matchLabels": {COMPONENT_LABEL: MANAGER_COMPONENT}}},
                    ],
                    "ports": [tcp(hub.ports.proxy)],
                },
            ],
            "egress": [names(), {"ports": [tcp(443), tcp(6443)]}],
        },
    }))
}

/// The policy of the agent: the service-proxy's ports in; names, kube-apiservers and the hub out.
/// With a service-proxy everything out, for it may be asked for any Service.
pub(super) fn agent(namespace: &str, hub_ports: &[u16], service_proxy: bool) -> Value {
    let mut hub = vec![tcp(443), tcp(6443)];
    for port in hub_ports.iter().filter(|port| ![443, 6443].contains(*port)) {
        hub.push(tcp(*port));
    }
    let mut egress = vec![names(), json!({"ports": hub})];
    if service_proxy {
        egress.push(json!({}));
    }
    let labels = json!({ADDON_LABEL: ADDON_NAME, COMPONENT_NAME_LABEL: PROXY_AGENT});
    manifest(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": PROXY_AGENT_NETWORK_POLICY,
            "namespace": namespace,
            "labels": labels,
        },
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [tcp(8000), tcp(7443)]}],
            "egress": egress,
        },
    }))
}

/// Name servers, on the port of some distributions too.
fn names() -> Value {
    json!({"ports": [
        {"protocol": "UDP", "port": 53}, tcp(53), {"protocol": "UDP", "port": 5353}, tcp(5353),
    ]})
}

fn tcp(port: u16) -> Value {
    json!({"protocol": "TCP", "port": port})
}
