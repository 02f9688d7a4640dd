//! The proxy-server's Deployment.

use cluster_proxy_kube_api::names::{
    AGENT_TABLE_CONFIG_MAP, COMPONENT_NAME_LABEL, CONFIGURATION_GENERATION, PROXY_SERVER,
    PROXY_SERVER_ACCOUNT, PROXY_SERVER_CA_SECRET, TLS_CONFIG_HASH,
};
use kube::api::{DynamicObject, ResourceExt as _};
use serde_json::{Value, json};

use super::error::RenderError;
use super::hub::{Hub, HubSettings, text_map};
use super::tls_settings;
use super::{
    LIVENESS_SECONDS, READINESS_SECONDS, container_security, object, pod_security, probe, replicas,
};

/// The Deployment, called as the configuration is.
pub(super) fn deployment(
    hub: &Hub<'_>,
    settings: &HubSettings,
) -> Result<DynamicObject, RenderError> {
    let server = &hub.configuration.spec.proxy_server;
    if server.image.trim().is_empty() {
        return Err(RenderError::NoImage {
            field: "proxyServer.image",
        });
    }
    let replicas = replicas("proxyServer.replicas", server.replicas)?;
    let mut metadata = hub.metadata(&hub.configuration.name_any());
    let generation = hub.configuration.metadata.generation.unwrap_or_default();
    metadata["labels"][CONFIGURATION_GENERATION] = json!(generation.to_string());
    metadata["annotations"][TLS_CONFIG_HASH] = json!(tls_settings::hash(&settings.tls));
    let placement = &server.node_placement;
    let container = container(hub, settings, replicas)?;
    Ok(object(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {COMPONENT_NAME_LABEL: PROXY_SERVER}},
            // A new server is ready, and agents find it, before an old one drains.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": {COMPONENT_NAME_LABEL: PROXY_SERVER}},
                "spec": {
                    "serviceAccountName": PROXY_SERVER_ACCOUNT,
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "securityContext": pod_security(),
                    "nodeSelector": text_map(&placement.node_selector),
                    "tolerations": (!placement.tolerations.is_empty())
                        .then_some(&placement.tolerations),
                    "containers": [container],
                    "volumes": volumes(hub),
                },
            },
        },
    })))
}

fn container(hub: &Hub<'_>, settings: &HubSettings, replicas: i32) -> Result<Value, RenderError> {
    let ports = &hub.ports;
    let port = |name: &str, port: u16| json!({"name": name, "containerPort": port});
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    Ok(json!({
        "name": PROXY_SERVER,
        "image": hub.configuration.spec.proxy_server.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["/proxy-server"],
        "args": arguments(hub, settings, replicas)?,
        // The server's id, so that its agents and its log are found by the pod's name.
        "env": [{
            "name": "PROXY_SERVER_ID",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
        }],
        "ports": [
            port("proxy-server", ports.proxy),
            port("agent-server", ports.agent),
            port("health", ports.health),
        ],
        "livenessProbe": probe("/healthz", ports.health, LIVENESS_SECONDS),
        "readinessProbe": probe("/readyz", ports.health, READINESS_SECONDS),
        "securityContext": container_security(),
        "volumeMounts": [
            mount(CA_VOLUME, "/etc/server-ca-pki/"),
            mount(SERVER_VOLUME, "/etc/server-pki/"),
            mount(AGENT_VOLUME, "/etc/agent-pki/"),
        ],
    }))
}

fn arguments(
    hub: &Hub<'_>,
    settings: &HubSettings,
    replicas: i32,
) -> Result<Vec<String>, RenderError> {
    let server = &hub.configuration.spec.proxy_server;
    // Agents look for that many servers; while none shall run, they look for one.
    let mut arguments = vec![format!("--server-count={}", replicas.max(1))];
    let fixed = [
        "--proxy-strategies=destHost",
        "--server-ca-cert=/etc/server-ca-pki/ca.crt",
        "--server-cert=/etc/server-pki/tls.crt",
        "--server-key=/etc/server-pki/tls.key",
        "--cluster-ca-cert=/etc/server-ca-pki/ca.crt",
        "--cluster-cert=/etc/agent-pki/tls.crt",
        "--cluster-key=/etc/agent-pki/tls.key",
        // The table below says `prefer` instead while some agent lacks its certificate: a change
        // of mind must not restart the servers.
        "--agent-identity=cluster",
    ];
    arguments.extend(fixed.map(str::to_owned));
    arguments.push(format!(
        "--agent-table-configmap={}/{AGENT_TABLE_CONFIG_MAP}",
        server.namespace
    ));
    for (flag, port, default) in [
        ("--server-port", hub.ports.proxy, 8090),
        ("--agent-port", hub.ports.agent, 8091),
        ("--health-port", hub.ports.health, 8092),
    ] {
        if port != default {
            arguments.push(format!("{flag}={port}"));
        }
    }
    arguments.extend_from_slice(&server.additional_args);
    arguments.extend(tls_settings::arguments(&settings.tls)?);
    Ok(arguments)
}

fn volumes(hub: &Hub<'_>) -> Value {
    let secrets = &hub.configuration.spec.authentication.dump.secrets;
    let volume = |name: &str, secret: &str| json!({"name": name, "secret": {"secretName": secret}});
    json!([
        volume(CA_VOLUME, PROXY_SERVER_CA_SECRET),
        volume(SERVER_VOLUME, &secrets.signing_proxy_server_secret_name),
        volume(AGENT_VOLUME, &secrets.signing_agent_server_secret_name),
    ])
}

const CA_VOLUME: &str = "proxy-server-ca-certs";
const SERVER_VOLUME: &str = "proxy-server-certs";
const AGENT_VOLUME: &str = "proxy-agent-certs";

/// The proxy-server lets connections run for 20 s after it is told to end; the rest is to spare.
const GRACE_SECONDS: u32 = 40;
