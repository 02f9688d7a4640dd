//! The agent in one managed cluster.

use cluster_proxy_identity::{ClusterName, TunnelHost};
use cluster_proxy_kube_api::addon::AddOnDeploymentConfigSpec;
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::managed_proxy_configuration::ManagedProxyConfiguration;
use cluster_proxy_kube_api::names::{
    ADDON_NAME, AGENT_CA_SECRET, AGENT_ROLE, DELETION_ORPHAN, IMPERSONATOR_ROLE, SERVICE_ACCOUNT,
    TLS_PROFILE_CONFIG_MAP, impersonator_binding,
};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::customization::{Customization, Variables};
use super::error::RenderError;
use super::hub::{HubPorts, is_label};
use super::service_proxy_args::ServiceProxyArguments;
use super::{agent_pod, ca_bundle, manifest, network_policy, port};
use crate::config::ManagerConfig;
use crate::entrypoint::Entrypoint;

/// What one cluster's agent is rendered from.
#[derive(Debug, Clone, Copy)]
pub struct ManagedSettings<'a> {
    /// The configuration of the addon.
    pub configuration: &'a ManagedProxyConfiguration,
    /// The manager's flags.
    pub manager: &'a ManagerConfig,
    /// The cluster's name.
    pub name: &'a ClusterName,
    /// The cluster.
    pub cluster: &'a ManagedCluster,
    /// The namespace of the agent, as the addon's status has it.
    pub namespace: &'a str,
    /// The AddOnDeploymentConfig in force for this cluster, if there is one.
    pub deployment_config: Option<&'a AddOnDeploymentConfigSpec>,
    /// Where agents find the proxy-server.
    pub entrypoint: &'a Entrypoint,
    /// The addon's CA certificates (PEM).
    pub ca: &'a str,
}

/// The objects of one cluster's agent, in the order in which they should be applied.
///
/// A cluster whose name no Service can bear (a dot, a digit first) gets no Service of its name: its
/// kube-apiserver is reached through the service-proxy only.
///
/// # Errors
///
/// [`RenderError`] when the configuration, the AddOnDeploymentConfig or an annotation of the
/// cluster asks for what cannot be.
pub fn managed(settings: &ManagedSettings<'_>) -> Result<Vec<Value>, RenderError> {
    let agent = Agent::new(settings)?;
    let variables = &agent.customization.variables;
    let mut objects = Vec::new();
    if variables
        .boolean("includeNamespaceCreation")?
        .unwrap_or(true)
    {
        objects.push(agent.install_namespace());
    }
    objects.push(agent.account());
    objects.push(agent.ca_secret()?);
    if agent.kube_api_proxy && is_service_name(settings.name.as_str()) {
        objects.push(agent.cluster_service());
    }
    objects.extend([agent.role(), agent.role_binding()]);
    if agent.service_proxy.is_some() {
        objects.extend([agent.cluster_role(), agent.cluster_role_binding()]);
    }
    if settings.manager.network_policies {
        let has_service_proxy = agent.service_proxy.is_some();
        objects.push(network_policy::agent(
            settings.namespace,
            &agent.ports_towards_hub(),
            has_service_proxy,
        ));
    }
    objects.push(agent_pod::deployment(&agent)?);
    Ok(objects)
}

/// What can be asked through the tunnel to one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Its service-proxy, by the tunnel host.
    pub service_proxy: bool,
    /// Its kube-apiserver, by the cluster's name.
    pub kube_api_proxy: bool,
}

impl Answers {
    /// What the agent is rendered with.
    ///
    /// # Errors
    ///
    /// [`RenderError`] for a switch that is neither true nor false.
    pub fn new(
        config: Option<&AddOnDeploymentConfigSpec>,
        manager: &ManagerConfig,
    ) -> Result<Self, RenderError> {
        Self::of(&Variables::new(config), manager)
    }

    fn of(variables: &Variables<'_>, manager: &ManagerConfig) -> Result<Self, RenderError> {
        let switch = |name, default| Ok(variables.boolean(name)?.unwrap_or(default));
        Ok(Self {
            service_proxy: switch("enableServiceProxy", manager.service_proxy)?,
            kube_api_proxy: switch("enableKubeApiProxy", manager.kube_api_proxy)?,
        })
    }
}

/// What is rendered from, understood.
pub(super) struct Agent<'a> {
    pub(super) settings: &'a ManagedSettings<'a>,
    pub(super) customization: Customization<'a>,
    pub(super) kube_api_proxy: bool,
    /// `None` where no service-proxy runs.
    pub(super) service_proxy: Option<ServiceProxyArguments>,
    pub(super) hub_ports: HubPorts,
    pub(super) tunnel_host: TunnelHost,
    /// Host and port at which the proxy-agent dials.
    pub(super) server: (String, u16),
}

impl<'a> Agent<'a> {
    fn new(settings: &'a ManagedSettings<'a>) -> Result<Self, RenderError> {
        if !is_label(settings.namespace) {
            return Err(RenderError::Namespace {
                given: settings.namespace.to_owned(),
            });
        }
        let spec = &settings.configuration.spec;
        let customization = Customization::new(
            &spec.proxy_agent,
            settings.cluster,
            settings.deployment_config,
        )?;
        let variables = &customization.variables;
        let answers = Answers::of(variables, settings.manager)?;
        let service_proxy = answers
            .service_proxy
            .then(|| ServiceProxyArguments::new(&spec.proxy_agent, &customization))
            .transpose()?;
        let (host, own_port) = match settings.entrypoint {
            Entrypoint::Address { host, port } => (host.as_str(), *port),
            Entrypoint::PortForward => (LOOPBACK, PORT_FORWARD_PORT),
        };
        let host = variables.text("serviceEntryPoint").unwrap_or(host);
        let server_port = match variables.number("serviceEntryPointPort")? {
            Some(number) => port("the variable serviceEntryPointPort", number)?,
            None => own_port,
        };
        let server = (host.to_owned(), server_port);
        Ok(Self {
            settings,
            kube_api_proxy: answers.kube_api_proxy,
            service_proxy,
            hub_ports: HubPorts::of(settings.configuration)?,
            tunnel_host: TunnelHost::of(settings.name),
            server,
            customization,
        })
    }

    /// Metadata of an object called `name` in the agent's namespace.
    pub(super) fn metadata(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.settings.namespace})
    }

    /// It stays when the addon goes: others may have put their own into it.
    fn install_namespace(&self) -> Value {
        manifest(json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": self.settings.namespace,
                "annotations": {DELETION_ORPHAN: ""},
            },
        }))
    }

    fn account(&self) -> Value {
        manifest(json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": self.metadata(SERVICE_ACCOUNT),
        }))
    }

    /// Two bundles: with the CA of an HTTP proxy for who dials the hub, and without it for who
    /// believes client certificates. The HTTP proxy's word about a user must not count.
    fn ca_secret(&self) -> Result<Value, RenderError> {
        let own = ("the addon's CA", self.settings.ca.as_bytes());
        let addon = ca_bundle::merge(&[own])?;
        let all = match &self.customization.proxy.ca_bundle {
            Some(bundle) if !bundle.0.is_empty() => {
                ca_bundle::merge(&[("proxyConfig.caBundle", &bundle.0), own])?
            }
            _ => addon.clone(),
        };
        let encoded = |pem: String| json!(ByteString(pem.into_bytes()));
        Ok(manifest(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.metadata(AGENT_CA_SECRET),
            "type": "Opaque",
            "data": {"ca.crt": encoded(all), CLIENT_CA_KEY: encoded(addon)},
        })))
    }

    /// The cluster's name leads to its kube-apiserver, for who dials it through the tunnel.
    fn cluster_service(&self) -> Value {
        let domain = self.customization.variables.text("serviceDomain");
        let domain = domain.unwrap_or("svc.cluster.local");
        manifest(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(self.settings.name.as_str()),
            "spec": {
                "type": "ExternalName",
                "externalName": format!("kubernetes.default.{domain}"),
            },
        }))
    }

    fn role(&self) -> Value {
        let leases = |names: Value, verbs: &[&str]| {
            json!({
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": names,
                "verbs": verbs,
            })
        };
        let mut rules = vec![
            // What is created has no name yet that could be compared.
            leases(Value::Null, &["create"]),
            leases(json!([ADDON_NAME]), &["get", "update"]),
        ];
        let issuer_ca = self
            .service_proxy
            .as_ref()
            .and_then(|proxy| proxy.oidc_ca.as_deref());
        if self.service_proxy.is_some() {
            let names: Vec<_> = issuer_ca
                .into_iter()
                .chain([TLS_PROFILE_CONFIG_MAP])
                .collect();
            rules.push(json!({
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": names,
                "verbs": ["list", "watch"],
            }));
        }
        manifest(json!({
            "apiVersion": RBAC_VERSION,
            "kind": "Role",
            "metadata": self.metadata(AGENT_ROLE),
            "rules": rules,
        }))
    }

    fn role_binding(&self) -> Value {
        manifest(json!({
            "apiVersion": RBAC_VERSION,
            "kind": "RoleBinding",
            "metadata": self.metadata(AGENT_ROLE),
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": AGENT_ROLE},
            "subjects": self.subjects(),
        }))
    }

    /// What the service-proxy may do: review tokens, and be hub users. Not one right more, for
    /// every hub user's request passes through it.
    fn cluster_role(&self) -> Value {
        let mut rules = vec![json!({
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["tokenreviews"],
            "verbs": ["create"],
        })];
        if let Some(proxy) = self
            .service_proxy
            .as_ref()
            .filter(|proxy| proxy.impersonates)
        {
            rules.push(json!({
                "apiGroups": [""],
                "resources": ["users", "groups"],
                "verbs": ["impersonate"],
            }));
            // Whether a hub user may act as somebody else (kubectl --as).
            rules.push(json!({
                "apiGroups": ["authorization.k8s.io"],
                "resources": ["subjectaccessreviews"],
                "verbs": ["create"],
            }));
            let mut attributes = Vec::new();
            if proxy.uid {
                attributes.push("uids".to_owned());
            }
            attributes.extend(
                proxy
                    .extra_keys
                    .iter()
                    .map(|key| format!("userextras/{key}")),
            );
            if !attributes.is_empty() {
                rules.push(json!({
                    "apiGroups": ["authentication.k8s.io"],
                    "resources": attributes,
                    "verbs": ["impersonate"],
                }));
            }
        }
        manifest(json!({
            "apiVersion": RBAC_VERSION,
            "kind": "ClusterRole",
            "metadata": {"name": IMPERSONATOR_ROLE},
            "rules": rules,
        }))
    }

    fn cluster_role_binding(&self) -> Value {
        manifest(json!({
            "apiVersion": RBAC_VERSION,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": impersonator_binding(self.settings.namespace)},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": IMPERSONATOR_ROLE},
            "subjects": self.subjects(),
        }))
    }

    fn subjects(&self) -> Value {
        json!([{
            "kind": "ServiceAccount",
            "name": SERVICE_ACCOUNT,
            "namespace": self.settings.namespace,
        }])
    }

    /// Ports that the agent dials beyond its own cluster: the entrypoint's and the HTTP proxies'.
    fn ports_towards_hub(&self) -> Vec<u16> {
        let proxy = &self.customization.proxy;
        let mut ports = Vec::new();
        if self.server.0 != LOOPBACK {
            ports.push(self.server.1);
        }
        for url in [&proxy.http_proxy, &proxy.https_proxy] {
            ports.extend(port_of(url).filter(|port| !ports.contains(port)));
        }
        ports
    }
}

/// The port of an HTTP proxy's URL: the scheme's where it names none, http's where there is none.
fn port_of(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if host.is_empty() {
        return None;
    }
    let port = host
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let default = if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        80
    };
    Some(port.unwrap_or(default))
}

/// Whether a Service can be called so: an RFC 1035 label.
fn is_service_name(name: &str) -> bool {
    is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

/// Where the addon-agent listens for the proxy-agent, with the PortForward entrypoint.
pub(super) const LOOPBACK: &str = "127.0.0.1";
const PORT_FORWARD_PORT: u16 = 8091;

/// Key in the Secret with CA certificates: the addon's own alone.
pub(super) const CLIENT_CA_KEY: &str = "client-ca.crt";

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_VERSION: &str = "rbac.authorization.k8s.io/v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_http_proxies() {
        for (url, port) in [
            ("http://proxy:3128", Some(3128)),
            ("proxy:3128/", Some(3128)),
            ("http://user:80@proxy", Some(80)),
            ("http://user:p%40ss@proxy:8080", Some(8080)),
            ("HTTPS://proxy", Some(443)),
            ("http://[fd00::1]", Some(80)),
            ("http://[fd00::1]:3128", Some(3128)),
            ("", None),
        ] {
            assert_eq!(port_of(url), port, "{url}");
        }
    }
}
