//! The configurations that are in force for one cluster.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_kube_api::addon::{AddOnDeploymentConfig, ConfigReference};
use cluster_proxy_kube_api::managed_proxy_configuration::{
    CONFIGURATION_NAME, ManagedProxyConfiguration,
};
use cluster_proxy_runtime::drain::Drain;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Map, Value};

use crate::addon;
use crate::failure::RequestFailure;

/// AddOnDeploymentConfigs as plain JSON, so that one that nobody can parse stops nothing else.
#[must_use]
pub fn deployment_config_resource() -> ApiResource {
    ApiResource::erase::<AddOnDeploymentConfig>(&())
}

/// ManagedProxyConfigurations as plain JSON, likewise.
#[must_use]
pub fn configuration_resource() -> ApiResource {
    ApiResource::erase::<ManagedProxyConfiguration>(&())
}

/// All AddOnDeploymentConfigs.
#[must_use]
pub fn deployment_configs(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &deployment_config_resource())
}

/// Reads the configuration of the addon, as JSON and parsed; `None` if there is none.
///
/// # Errors
/// [`ConfigProblem`]: it cannot be parsed, or the hub refused.
pub async fn configuration(
    client: &Client,
) -> Result<Option<ManagedProxyConfiguration>, ConfigProblem> {
    let resource = configuration_resource();
    let object = format!("{} {CONFIGURATION_NAME}", resource.kind);
    let configurations: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let read = configurations.get_opt(CONFIGURATION_NAME).await;
    let read = read.map_err(RequestFailure::of("read", object.as_str()))?;
    let parsed = read.map(|it| it.try_parse()).transpose();
    parsed.map_err(|error| ConfigProblem::Unreadable {
        object,
        cause: error.to_string(),
    })
}

/// The namespace of the proxy-server, as soon as there is a configuration that says it; `None`
/// when `drain` starts before. A controller watches there what it owns: a manager needs no rights
/// in others. A configuration that moves to another namespace is followed with what is applied;
/// what is changed there by hand comes back with the next change of the fleet.
pub async fn proxy_server_namespace(client: &Client, drain: &Drain) -> Option<String> {
    loop {
        let read = tokio::time::timeout(READ_LIMIT, configuration(client)).await;
        match read {
            Ok(Ok(Some(configuration))) => return Some(configuration.spec.proxy_server.namespace),
            Ok(Ok(None)) => {}
            Ok(Err(problem)) => tracing::warn!("waiting for the configuration: {problem}"),
            Err(_) => tracing::warn!("the hub did not give the configuration in time"),
        }
        tokio::select! {
            () = tokio::time::sleep(READ_RETRY) => {}
            () = drain.started() => return None,
        }
    }
}

/// One read of one object.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Between two reads while there is no configuration: nothing is installed yet.
const READ_RETRY: Duration = Duration::from_secs(2);

/// Reads the one that the addon's status says should be in use; `None` if none should.
///
/// # Errors
/// [`ConfigProblem`]: it is not there, cannot be parsed, or the hub refused.
pub async fn in_force(
    client: &Client,
    status: &Map<String, Value>,
) -> Result<Option<AddOnDeploymentConfig>, ConfigProblem> {
    let resource = deployment_config_resource();
    let Some((namespace, name)) = desired(status, &resource.group, &resource.plural) else {
        return Ok(None);
    };
    let configs: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &deployment_config_resource());
    let read = configs.get_opt(&name).await;
    let object = format!("AddOnDeploymentConfig {namespace}/{name}");
    let read = read.map_err(RequestFailure::of("read", object.as_str()))?;
    let read = read.ok_or_else(|| ConfigProblem::Missing {
        object: object.clone(),
    })?;
    match read.try_parse() {
        Ok(config) => Ok(Some(config)),
        Err(error) => Err(ConfigProblem::Unreadable {
            object,
            cause: error.to_string(),
        }),
    }
}

/// Namespace, empty for kinds that have none, and name of the configuration of a kind that should
/// be in use.
#[must_use]
pub fn desired(
    status: &Map<String, Value>,
    group: &str,
    resource: &str,
) -> Option<(String, String)> {
    let references = status.get("configReferences")?.as_array()?;
    references.iter().find_map(|it| {
        let reference: ConfigReference = serde_json::from_value(it.clone()).ok()?;
        if reference.group != group || reference.resource != resource {
            return None;
        }
        let desired = reference.desired_config?;
        Some((desired.namespace.unwrap_or_default(), desired.name))
    })
}

/// The addons that should use a changed configuration.
#[must_use]
pub fn users(
    addons: &Store<DynamicObject>,
    resource: &ApiResource,
    config: &DynamicObject,
) -> Vec<ObjectRef<DynamicObject>> {
    let wanted = (
        config.namespace().unwrap_or_default(),
        config.meta().name.clone().unwrap_or_default(),
    );
    let uses = |it: &&Arc<DynamicObject>| {
        let status = addon::status(it);
        desired(&status, &resource.group, &resource.plural).as_ref() == Some(&wanted)
    };
    let addons = addons.state();
    addons
        .iter()
        .filter(uses)
        .map(|it| ObjectRef::from_obj_with(it.as_ref(), addon::addon_resource()))
        .collect()
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    /// The hub did not let us.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// Referred to, and not there.
    #[error("{object} does not exist; create it, or remove it from the addon's configs")]
    Missing {
        /// Which.
        object: String,
    },
    /// Its content is not what it should be.
    #[error("{object} cannot be parsed and is left out of account until it is repaired: {cause}")]
    Unreadable {
        /// Which.
        object: String,
        /// What is wrong with it.
        cause: String,
    },
}
