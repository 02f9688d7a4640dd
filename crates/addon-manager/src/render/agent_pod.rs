//! The agent's Deployment: proxy-agent, addon-agent and service-proxy in one pod.

use cluster_proxy_kube_api::names::{
    ADDON_AGENT, ADDON_LABEL, ADDON_NAME, AGENT_CA_SECRET, AGENT_DEPLOYMENT, COMPONENT_NAME_LABEL,
    CONFIGURATION_GENERATION, HUB_KUBECONFIG_SECRET, PROXY_AGENT, PROXY_AGENT_SIGNER,
    SERVICE_ACCOUNT, SERVICE_PROXY, SERVICE_PROXY_SIGNER, signed_certificate_secret,
};
use serde_json::{Value, json};

use super::error::RenderError;
use super::hub::text_map;
use super::managed::{Agent, CLIENT_CA_KEY};
use super::service_proxy_args::ServiceProxyArguments;
use super::{
    LIVENESS_SECONDS, READINESS_SECONDS, container_security, manifest, pod_security, probe,
    replicas,
};
use crate::entrypoint::Entrypoint;

/// The Deployment.
pub(super) fn deployment(agent: &Agent<'_>) -> Result<Value, RenderError> {
    let spec = &agent.settings.configuration.spec.proxy_agent;
    let customization = &agent.customization;
    let replicas = match customization.variables.number("replicas")? {
        Some(number) => number,
        None => replicas("proxyAgent.replicas", spec.replicas)?,
    };
    let labels = json!({ADDON_LABEL: ADDON_NAME, COMPONENT_NAME_LABEL: PROXY_AGENT});
    let generation = agent.settings.configuration.metadata.generation;
    let generation = generation.unwrap_or_default().to_string();
    let mut metadata = agent.metadata(AGENT_DEPLOYMENT);
    metadata["annotations"] = json!({CONFIGURATION_GENERATION: generation});
    let secrets = spec.image_pull_secrets.iter();
    let secrets: Vec<_> = secrets.map(|name| json!({"name": name})).collect();
    Ok(manifest(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        CONFIGURATION_GENERATION: generation,
                        "target.workload.openshift.io/management":
                            r#"{"effect": "PreferredDuringScheduling"}"#,
                    },
                },
                "spec": {
                    "serviceAccountName": SERVICE_ACCOUNT,
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "securityContext": pod_security(),
                    "hostAliases": [{
                        "ip": "127.0.0.1",
                        "hostnames": [agent.tunnel_host.as_str()],
                    }],
                    "nodeSelector": text_map(&customization.node_selector),
                    "tolerations": customization.tolerations,
                    "imagePullSecrets": (!secrets.is_empty()).then_some(secrets),
                    "containers": containers(agent)?,
                    "volumes": volumes(agent),
                },
            },
        },
    })))
}

fn containers(agent: &Agent<'_>) -> Result<Vec<Value>, RenderError> {
    let settings = agent.settings;
    let image = &settings.configuration.spec.proxy_agent.image;
    let addon_image = match settings.manager.agent_image.as_str() {
        "" => image,
        image => image,
    };
    let proxy_agent_image = agent.customization.proxy_agent_image(image);
    let addon_image = agent.customization.addon_image(addon_image);
    if proxy_agent_image.trim().is_empty() || addon_image.trim().is_empty() {
        return Err(RenderError::NoImage {
            field: "proxyAgent.image",
        });
    }
    let mut containers = vec![
        container(agent, PROXY_AGENT, &proxy_agent_image, proxy_agent(agent)),
        container(agent, ADDON_AGENT, &addon_image, addon_agent(agent)),
    ];
    if let Some(proxy) = &agent.service_proxy {
        let own = service_proxy(agent, proxy);
        containers.push(container(agent, SERVICE_PROXY, &addon_image, own));
    }
    Ok(containers)
}

/// A container: what is `own` to it, and what all have alike.
fn container(agent: &Agent<'_>, name: &str, image: &str, mut own: Value) -> Value {
    own["name"] = json!(name);
    own["image"] = json!(image);
    own["imagePullPolicy"] = json!(agent.settings.manager.image_pull_policy);
    own["securityContext"] = container_security();
    own["resources"] = json!(agent.customization.requirements.of(name));
    own
}

fn proxy_agent(agent: &Agent<'_>) -> Value {
    let settings = agent.settings;
    let (host, port) = &agent.server;
    let mut identifiers = vec![format!("host={}", agent.tunnel_host)];
    if agent.kube_api_proxy {
        identifiers.push(format!("host={}", settings.name));
        identifiers.push(format!("host={}.{}", settings.name, settings.namespace));
    }
    let mut arguments = vec![
        format!("--proxy-server-host={host}"),
        format!("--proxy-server-port={port}"),
        format!("--agent-identifiers={}", identifiers.join("&")),
        "--ca-cert=/etc/ca/ca.crt".to_owned(),
        "--agent-cert=/etc/tls/tls.crt".to_owned(),
        "--agent-key=/etc/tls/tls.key".to_owned(),
        format!("--drain-timeout={PROXY_AGENT_DRAIN_SECONDS}s"),
    ];
    arguments.extend_from_slice(&settings.configuration.spec.proxy_agent.additional_args);
    let mut environment = proxy_variables(agent, &agent.customization.proxy.no_proxy);
    environment.push(root_ca());
    json!({
        "command": ["/proxy-agent"],
        "args": arguments,
        "env": environment,
        // Its own: a renewed certificate is no reason to restart.
        "livenessProbe": probe("/healthz", 8093, LIVENESS_SECONDS),
        "readinessProbe": probe("/readyz", 8093, READINESS_SECONDS),
        "volumeMounts": [mount("ca", "/etc/ca"), mount("hub", "/etc/tls")],
    })
}

fn addon_agent(agent: &Agent<'_>) -> Value {
    let settings = agent.settings;
    let mut arguments = vec![
        "--hub-kubeconfig=/etc/kubeconfig/kubeconfig".to_owned(),
        format!("--cluster-name={}", settings.name),
        format!(
            "--proxy-server-namespace={}",
            settings.configuration.spec.proxy_server.namespace
        ),
    ];
    if matches!(settings.entrypoint, Entrypoint::PortForward) {
        arguments.push("--enable-port-forward-proxy=true".to_owned());
        if agent.hub_ports.agent != DEFAULT_AGENT_PORT {
            let port = agent.hub_ports.agent;
            arguments.push(format!("--proxy-server-agent-port={port}"));
        }
        arguments.push(format!("--drain-timeout={ADDON_AGENT_DRAIN_SECONDS}s"));
    }
    let environment = kubernetes_client_variables(agent);
    let mut mounts = vec![
        mount("hub-kubeconfig", "/etc/kubeconfig/"),
        mount("hub", "/etc/tls"),
    ];
    if environment.len() > 1 {
        mounts.push(mount("ca", "/etc/ca"));
    }
    json!({
        "command": ["/agent"],
        "args": arguments,
        "env": environment,
        "livenessProbe": probe("/healthz", 8888, LIVENESS_SECONDS),
        "volumeMounts": mounts,
    })
}

fn service_proxy(agent: &Agent<'_>, proxy: &ServiceProxyArguments) -> Value {
    let mut arguments = vec!["service-proxy".to_owned()];
    let mut mounts = vec![
        mount("hub-kubeconfig", "/etc/kubeconfig/"),
        mount("ca", "/etc/ca"),
        mount("service-proxy-server-cert", "/server-cert"),
    ];
    if !agent.customization.service_ca.is_empty() {
        arguments.push("--additional-service-ca=/additional-service-ca/service-ca.crt".to_owned());
        mounts.push(mount("additional-service-ca", "/additional-service-ca"));
    }
    arguments.extend([
        "--cert=/server-cert/tls.crt".to_owned(),
        "--key=/server-cert/tls.key".to_owned(),
        format!("--client-ca-cert=/etc/ca/{CLIENT_CA_KEY}"),
        "--hub-kubeconfig=/etc/kubeconfig/kubeconfig".to_owned(),
        format!("--min-drain-duration={SERVICE_PROXY_MIN_DRAIN_SECONDS}s"),
        format!("--drain-timeout={SERVICE_PROXY_DRAIN_SECONDS}s"),
    ]);
    arguments.extend_from_slice(&proxy.arguments);
    json!({
        "command": ["/cluster-proxy"],
        "args": arguments,
        "env": kubernetes_client_variables(agent),
        "livenessProbe": probe("/healthz", 8000, LIVENESS_SECONDS),
        "readinessProbe": probe("/readyz", 8000, READINESS_SECONDS),
        "volumeMounts": mounts,
    })
}

fn volumes(agent: &Agent<'_>) -> Vec<Value> {
    let secret = |name: &str, secret: &str| json!({"name": name, "secret": {"secretName": secret}});
    let mut volumes = vec![
        secret("ca", AGENT_CA_SECRET),
        secret("hub", &signed_certificate_secret(PROXY_AGENT_SIGNER)),
        secret("hub-kubeconfig", HUB_KUBECONFIG_SECRET),
    ];
    if agent.service_proxy.is_some() {
        let service_ca = &agent.customization.service_ca;
        if !service_ca.is_empty() {
            volumes.push(json!({
                "name": "additional-service-ca",
                "configMap": {"name": service_ca, "optional": true},
            }));
        }
        let own = signed_certificate_secret(SERVICE_PROXY_SIGNER);
        volumes.push(secret("service-proxy-server-cert", &own));
    }
    volumes
}

/// The environment of those who speak to both kube-apiservers: the hub's through the HTTP proxy,
/// where there is one, and the own cluster's never. Our programs see to the latter themselves; a
/// Go image in this pod needs the entries of `NO_PROXY`.
fn kubernetes_client_variables(agent: &Agent<'_>) -> Vec<Value> {
    let no_proxy = match agent.customization.proxy.no_proxy.as_str() {
        "" => OWN_KUBE_APISERVER.to_owned(),
        list => format!("{list},{OWN_KUBE_APISERVER}"),
    };
    let mut environment = vec![pod_namespace()];
    let proxy = &agent.customization.proxy;
    if !(proxy.http_proxy.is_empty() && proxy.https_proxy.is_empty()) {
        environment.extend(proxy_variables(agent, &no_proxy));
        environment.push(root_ca());
    }
    environment
}

/// What Go programs and ours read of HTTP proxies.
fn proxy_variables(agent: &Agent<'_>, no_proxy: &str) -> Vec<Value> {
    let proxy = &agent.customization.proxy;
    let variables = [
        ("HTTP_PROXY", proxy.http_proxy.as_str()),
        ("HTTPS_PROXY", &proxy.https_proxy),
        ("NO_PROXY", no_proxy),
    ];
    let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn root_ca() -> Value {
    json!({"name": "ROOT_CA_CERT", "value": "/etc/ca/ca.crt"})
}

fn pod_namespace() -> Value {
    json!({
        "name": "POD_NAMESPACE",
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
    })
}

fn mount(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path, "readOnly": true})
}

/// The kubelet puts the address of the Service `kubernetes` in place of the variable.
const OWN_KUBE_APISERVER: &str = "$(KUBERNETES_SERVICE_HOST),kubernetes.default.svc";

/// The proxy-servers' port for agents, unless the configuration says otherwise.
const DEFAULT_AGENT_PORT: u16 = 8091;

// All containers are told to end at once. Each outlives the one whose connections it carries: the
// proxy-agent the service-proxy, the addon-agent the proxy-agent. Ten seconds are to spare.
const GRACE_SECONDS: u32 = 40;
const SERVICE_PROXY_MIN_DRAIN_SECONDS: u32 = 1;
const SERVICE_PROXY_DRAIN_SECONDS: u32 = 25;
const PROXY_AGENT_DRAIN_SECONDS: u32 = 28;
const ADDON_AGENT_DRAIN_SECONDS: u32 = 30;
