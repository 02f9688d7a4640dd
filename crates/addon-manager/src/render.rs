//! What should be, as objects: pure functions of configuration and cluster, with no client and no
//! clock, so that the same input gives the same bytes and golden files can hold them.
//!
//! - [`hub`]: the proxy-server and what belongs to it,
//! - [`managed`]: the agent in one managed cluster, which `deploy` packs into ManifestWorks.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use kube::api::DynamicObject;
use serde_json::Value;

use cluster_proxy_kube_api::managed_proxy_configuration::ManagedProxyConfiguration;

pub use cluster_proxy_identity::tls::TlsSettings;
pub use error::RenderError;
pub use hub::{HubSettings, SERVICE_PROXY_PORT, hub};
pub use managed::{Answers, ManagedSettings, managed};

mod agent_pod;
mod ca_bundle;
mod customization;
mod error;
mod hub;
mod images;
mod managed;
mod network_policy;
mod proxy_server;
mod resource_requirements;
mod service_proxy_args;
mod tls_settings;

/// An object of the hub that `json` writes out.
fn object(json: Value) -> DynamicObject {
    serde_json::from_value(manifest(json)).expect("objects written out here have a name and a kind")
}

/// An object that `json` writes out. What is null is left out: an applied null would be a field.
fn manifest(mut json: Value) -> Value {
    remove_nulls(&mut json);
    json
}

fn remove_nulls(json: &mut Value) {
    match json {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(remove_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The reference by which objects of the hub belong to the configuration.
fn owner(configuration: &ManagedProxyConfiguration) -> Result<OwnerReference, RenderError> {
    configuration
        .controller_owner_ref(&())
        .ok_or(RenderError::NoUid)
}

/// A port that a host can have.
fn port(field: &'static str, given: i32) -> Result<u16, RenderError> {
    u16::try_from(given)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| RenderError::Port {
            field,
            given: given.into(),
        })
}

/// How many pods a Deployment has.
fn replicas(field: &'static str, given: i32) -> Result<i32, RenderError> {
    if given < 0 {
        return Err(RenderError::Replicas {
            field,
            given: given.to_string(),
        });
    }
    Ok(given)
}

/// The restricted profile of Kubernetes' Pod Security Standards, for a pod.
fn pod_security() -> Value {
    serde_json::json!({
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// The same for its containers, which write nothing to their file system either.
fn container_security() -> Value {
    serde_json::json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
    })
}

/// A probe of `path` on a container's operations listener.
fn probe(path: &str, port: u16, period_seconds: u32) -> Value {
    serde_json::json!({
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period_seconds,
    })
}

/// How often a container is asked whether it lives. Three failures restart it.
const LIVENESS_SECONDS: u32 = 10;
/// How often a container is asked whether it is ready: traffic follows within seconds.
const READINESS_SECONDS: u32 = 2;

#[cfg(test)]
mod tests;
