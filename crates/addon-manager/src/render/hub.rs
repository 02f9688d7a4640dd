//! The proxy-server and what belongs to it on the hub.
//!
//! Everything belongs to the configuration and goes with it. The annotation
//! `configuration-generation` is 0 on purpose: a Go manager after a roll-back compares it with the
//! configuration's generation, finds the object older, and renders its own.
//!
//! Left to others: the RoleBinding of the PortForward entrypoint, whose subjects the registration of
//! agents knows, and the accounts of manager and user-server, which the chart makes.

use std::collections::BTreeMap;

use cluster_proxy_kube_api::managed_proxy_configuration::{
    Entrypoint, EntrypointType, LoadBalancerService, ManagedProxyConfiguration, Ports,
};
use cluster_proxy_kube_api::names::{
    ADDON_NAME, ADDON_NAME_LABEL, AGENT_TABLE_CONFIG_MAP, COMPONENT_NAME_LABEL,
    CONFIGURATION_GENERATION, PORT_FORWARD_ROLE, PROXY_SERVER, PROXY_SERVER_ACCOUNT,
    PROXY_SERVER_ROLE,
};
use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::error::RenderError;
use super::{TlsSettings, network_policy, object, owner, port, proxy_server};

/// What the proxy-server depends on besides the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Whether the proxy-server gets a network policy.
    pub network_policies: bool,
    /// TLS versions and ciphers of the hub.
    pub tls: TlsSettings,
}

/// The objects of `configuration` on the hub, in the order in which they should be applied.
///
/// # Errors
///
/// [`RenderError`] when the configuration asks for what cannot be.
pub fn hub(
    configuration: &ManagedProxyConfiguration,
    settings: &HubSettings,
) -> Result<Vec<DynamicObject>, RenderError> {
    let hub = Hub::new(configuration)?;
    let mut objects = vec![hub.account(), hub.table_role(), hub.table_binding()];
    objects.push(hub.service());
    match hub.entrypoint() {
        None => objects.push(hub.port_forward_role()),
        Some(entrypoint) => match entrypoint.kind {
            EntrypointType::PortForward => objects.push(hub.port_forward_role()),
            EntrypointType::LoadBalancerService => objects.push(hub.load_balancer(entrypoint)?),
            EntrypointType::Hostname => {}
        },
    }
    if settings.network_policies {
        objects.push(network_policy::proxy_server(&hub));
    }
    objects.push(proxy_server::deployment(&hub, settings)?);
    Ok(objects)
}

/// The configuration with its ports understood, and what all its objects share.
pub(super) struct Hub<'a> {
    pub(super) configuration: &'a ManagedProxyConfiguration,
    pub(super) ports: HubPorts,
    owner: Value,
}

/// Where the proxy-server's containers listen.
pub(super) struct HubPorts {
    pub(super) proxy: u16,
    pub(super) agent: u16,
    pub(super) health: u16,
}

impl HubPorts {
    /// The ports of a configuration.
    pub(super) fn of(configuration: &ManagedProxyConfiguration) -> Result<Self, RenderError> {
        let deploy = configuration.spec.deploy.clone().unwrap_or_default();
        let Ports {
            proxy_server,
            agent_server,
            health_server,
            admin_server: _,
        } = deploy.ports;
        Ok(Self {
            proxy: port("deploy.ports.proxyServer", proxy_server)?,
            agent: port("deploy.ports.agentServer", agent_server)?,
            health: port("deploy.ports.healthServer", health_server)?,
        })
    }
}

impl<'a> Hub<'a> {
    fn new(configuration: &'a ManagedProxyConfiguration) -> Result<Self, RenderError> {
        let namespace = &configuration.spec.proxy_server.namespace;
        if !is_label(namespace) {
            return Err(RenderError::Namespace {
                given: namespace.clone(),
            });
        }
        Ok(Self {
            configuration,
            ports: HubPorts::of(configuration)?,
            owner: json!(owner(configuration)?),
        })
    }

    fn entrypoint(&self) -> Option<&'a Entrypoint> {
        self.configuration.spec.proxy_server.entrypoint.as_ref()
    }

    /// Metadata of an object called `name` in the proxy-server's namespace.
    pub(super) fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.configuration.spec.proxy_server.namespace,
            "labels": {ADDON_NAME_LABEL: ADDON_NAME},
            "annotations": {CONFIGURATION_GENERATION: "0"},
            "ownerReferences": [self.owner],
        })
    }

    fn account(&self) -> DynamicObject {
        object(json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": self.metadata(PROXY_SERVER_ACCOUNT),
        }))
    }

    /// The proxy-server reads the table of agents, and nothing else of the hub.
    fn table_role(&self) -> DynamicObject {
        object(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": self.metadata(PROXY_SERVER_ROLE),
            "rules": [{
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": [AGENT_TABLE_CONFIG_MAP],
                "verbs": ["list", "watch"],
            }],
        }))
    }

    fn table_binding(&self) -> DynamicObject {
        object(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": self.metadata(PROXY_SERVER_ROLE),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": PROXY_SERVER_ROLE,
            },
            "subjects": [{
                "kind": "ServiceAccount",
                "name": PROXY_SERVER_ACCOUNT,
                "namespace": self.configuration.spec.proxy_server.namespace,
            }],
        }))
    }

    fn service(&self) -> DynamicObject {
        let name = &self.configuration.spec.proxy_server.in_cluster_service_name;
        let port = |name: &str, port: u16, target: u16| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"});
        object(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(name),
            "spec": {
                "type": "ClusterIP",
                "selector": {COMPONENT_NAME_LABEL: PROXY_SERVER},
                "ports": [
                    port("proxy-server", SERVICE_PROXY_PORT, self.ports.proxy),
                    port("agent-server", SERVICE_AGENT_PORT, self.ports.agent),
                ],
            },
        }))
    }

    /// Leads to the agents' port alone: users of the tunnel are within the hub.
    fn load_balancer(&self, entrypoint: &Entrypoint) -> Result<DynamicObject, RenderError> {
        let LoadBalancerService { name, annotations } =
            entrypoint.load_balancer_service.clone().unwrap_or_default();
        let mut metadata = self.metadata(&name);
        for annotation in annotations {
            if !is_annotation_key(&annotation.key) {
                return Err(RenderError::AnnotationKey {
                    field: "proxyServer.entrypoint.loadBalancerService.annotations",
                    given: annotation.key,
                });
            }
            metadata["annotations"][annotation.key] = Value::String(annotation.value);
        }
        Ok(object(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "type": "LoadBalancer",
                "selector": {COMPONENT_NAME_LABEL: PROXY_SERVER},
                "ports": [{
                    "name": "agent-server",
                    "port": port("proxyServer.entrypoint.port", entrypoint.port)?,
                    "targetPort": self.ports.agent,
                    "protocol": "TCP",
                }],
            },
        })))
    }

    /// Only with the PortForward entrypoint: whoever may forward ports reaches all of a pod's.
    fn port_forward_role(&self) -> DynamicObject {
        object(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": self.metadata(PORT_FORWARD_ROLE),
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
                {
                    "apiGroups": [""],
                    "resources": ["pods/portforward"],
                    // A WebSocket is opened by GET, and before Kubernetes 1.35 that asks for get.
                    "verbs": ["create", "get"],
                },
            ],
        }))
    }
}

/// The Service's port for the tunnel's clients, whatever the containers listen on: it is written
/// into the configuration of clients.
pub const SERVICE_PROXY_PORT: u16 = 8090;
/// The Service's port for agents, likewise.
const SERVICE_AGENT_PORT: u16 = 8091;

/// Labels or annotations from a map.
pub(super) fn text_map(map: &BTreeMap<String, String>) -> Option<Map<String, Value>> {
    let pairs = map.iter().map(|(key, value)| (key.clone(), json!(value)));
    (!map.is_empty()).then(|| pairs.collect())
}

/// Whether `name` is an RFC 1123 label, as namespaces are.
pub(super) fn is_label(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= MAX_LABEL
        && bytes.first().is_some_and(|&b| plain(b))
        && bytes.last().is_some_and(|&b| plain(b))
        && bytes.iter().all(|&b| plain(b) || b == b'-')
}

/// Whether Kubernetes takes `key` as the key of an annotation: `name` or `domain/name`.
fn is_annotation_key(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    let bytes = name.as_bytes();
    let name_is_good = bytes.len() <= MAX_LABEL
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    // Kubernetes compares the domain in lower case.
    let domain_is_good = domain.is_none_or(|domain| {
        domain.len() <= MAX_DOMAIN && domain.to_ascii_lowercase().split('.').all(is_label)
    });
    name_is_good && domain_is_good
}

/// The longest RFC 1123 label.
const MAX_LABEL: usize = 63;
/// The longest RFC 1123 subdomain, as Kubernetes has it.
const MAX_DOMAIN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotation_keys_are_those_of_kubernetes() {
        for good in [
            "a",
            "service.beta.kubernetes.io/azure-load-balancer-internal",
            "A_b.C-9",
        ] {
            assert!(is_annotation_key(good), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "-a",
            "a b",
            "a_b/c",
            &"a".repeat(64),
        ] {
            assert!(!is_annotation_key(bad), "{bad}");
        }
    }
}
