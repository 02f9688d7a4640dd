//! What an AddOnDeploymentConfig, the cluster's annotations and the values of release 0.9 change
//! about an agent.

use std::collections::BTreeMap;

use cluster_proxy_kube_api::addon::{AddOnDeploymentConfigSpec, ProxyConfig};
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::managed_proxy_configuration::ProxyAgent;
use cluster_proxy_kube_api::names::NODE_SELECTOR;
use k8s_openapi::api::core::v1::Toleration;
use kube::ResourceExt as _;

use super::error::RenderError;
use super::images::{Mirrors, with_parts};
use super::resource_requirements::Requirements;

/// What holds for one cluster's agent, after everything that can change it.
#[derive(Debug)]
pub(super) struct Customization<'a> {
    pub(super) variables: Variables<'a>,
    pub(super) mirrors: Mirrors,
    pub(super) requirements: Requirements,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) proxy: ProxyConfig,
    /// Whether hub users are impersonated.
    pub(super) impersonation: bool,
    /// Name of the ConfigMap with CAs of Services; empty is none.
    pub(super) service_ca: String,
}

impl<'a> Customization<'a> {
    pub(super) fn new(
        agent: &'a ProxyAgent,
        cluster: &ManagedCluster,
        config: Option<&'a AddOnDeploymentConfigSpec>,
    ) -> Result<Self, RenderError> {
        let variables = Variables::new(config);
        let placement = config.and_then(|config| config.node_placement.clone());
        let placement = placement.unwrap_or_default();
        let node_selector = if placement.node_selector.is_empty() {
            local_node_selector(cluster)?
        } else {
            placement.node_selector
        };
        let tolerations = if placement.tolerations.is_empty() {
            infrastructure_tolerations()
        } else {
            placement.tolerations
        };
        let service_ca = [
            variables.text("additionalServiceCAConfigMap"),
            Some(agent.additional_service_ca_config_map.as_str()),
            // Spelled as release 0.9 spells it.
            agent
                .additional_values
                .get("addtionalServiceCAConfigMap")
                .map(String::as_str),
        ];
        let service_ca = service_ca
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty());
        Ok(Self {
            impersonation: impersonation(&variables, agent)?,
            service_ca: service_ca.unwrap_or_default().to_owned(),
            variables,
            mirrors: Mirrors::new(cluster, config.map_or(&[], |config| &config.registries))?,
            requirements: Requirements::new(
                config.map_or(&[], |config| &config.resource_requirements),
            )?,
            node_selector,
            tolerations,
            proxy: config
                .and_then(|config| config.proxy_config.clone())
                .unwrap_or_default(),
        })
    }

    /// The image of the containers that are not the proxy-agent.
    pub(super) fn addon_image(&self, image: &str) -> String {
        with_parts(
            &self.mirrors.replace(image),
            self.variables.text("registry"),
            self.variables.text("image"),
            self.variables.text("tag"),
        )
    }

    /// The image of the proxy-agent.
    pub(super) fn proxy_agent_image(&self, image: &str) -> String {
        match self.variables.text("proxyAgentImage") {
            Some(image) => image.to_owned(),
            None => self.mirrors.replace(image),
        }
    }
}

/// Whether hub users are impersonated. Release 0.9 had it in another place, and a "false" there
/// must not turn on silently.
fn impersonation(variables: &Variables<'_>, agent: &ProxyAgent) -> Result<bool, RenderError> {
    if let Some(stated) = variables.boolean("enableImpersonation")? {
        return Ok(stated);
    }
    match agent
        .additional_values
        .get("enableImpersonation")
        .map(String::as_str)
    {
        None | Some("") => Ok(true),
        Some(stated) => boolean("enableImpersonation", stated),
    }
}

/// On the hub itself an annotation, which the hub's operator writes, says on which nodes.
fn local_node_selector(cluster: &ManagedCluster) -> Result<BTreeMap<String, String>, RenderError> {
    match cluster.annotation(NODE_SELECTOR) {
        Some(json) if cluster.is_local() => {
            serde_json::from_str(json).map_err(|error| RenderError::ClusterAnnotation {
                annotation: NODE_SELECTOR,
                cluster: cluster.name_any(),
                cause: error.to_string(),
            })
        }
        _ => Ok(BTreeMap::new()),
    }
}

/// Nodes for infrastructure take agents, unless something else is said.
fn infrastructure_tolerations() -> Vec<Toleration> {
    let toleration = |key: &str, operator: &str, value: Option<&str>| Toleration {
        key: Some(key.to_owned()),
        operator: Some(operator.to_owned()),
        value: value.map(str::to_owned),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    };
    vec![
        toleration("dedicated", "Equal", Some("infra")),
        toleration("node-role.kubernetes.io/infra", "Exists", None),
    ]
}

/// The customized variables; of several with one name, the last counts. Names that mean nothing
/// here are left alone: other versions may know them.
#[derive(Debug, Default)]
pub(super) struct Variables<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Variables<'a> {
    pub(super) fn new(config: Option<&'a AddOnDeploymentConfigSpec>) -> Self {
        let variables = config.map_or(&[][..], |config| &config.customized_variables);
        let pairs = variables
            .iter()
            .map(|variable| (variable.name.as_str(), variable.value.as_str()));
        Self(pairs.collect())
    }

    /// The value, if it is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied().filter(|value| !value.is_empty())
    }

    /// The value as a truth, if it is there.
    pub(super) fn boolean(&self, name: &'static str) -> Result<Option<bool>, RenderError> {
        self.text(name)
            .map(|given| boolean(name, given))
            .transpose()
    }

    /// The value as a number that is not negative, if it is there.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<i32>, RenderError> {
        let read = |given: &str| {
            let number = given.parse().ok().filter(|number| *number >= 0);
            number.ok_or_else(|| RenderError::Variable {
                name,
                given: given.to_owned(),
                wanted: "a whole number",
            })
        };
        self.text(name).map(read).transpose()
    }

    /// The parts of the value, which commas separate; `None` if it is not there. A value that is
    /// there and empty is an empty list.
    pub(super) fn list(&self, name: &str) -> Option<Vec<&'a str>> {
        let value = self.0.get(name)?;
        let parts = value.split(',').map(str::trim);
        Some(parts.filter(|part| !part.is_empty()).collect())
    }
}

/// As Go's `strconv.ParseBool` reads it.
fn boolean(name: &'static str, given: &str) -> Result<bool, RenderError> {
    match given {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(RenderError::Variable {
            name,
            given: given.to_owned(),
            wanted: "true or false",
        }),
    }
}
