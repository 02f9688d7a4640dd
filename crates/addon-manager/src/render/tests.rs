//! Golden files and odd input. `UPDATE_GOLDEN=1` writes the files anew.

use std::path::{Path, PathBuf};

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::AddOnDeploymentConfigSpec;
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::managed_proxy_configuration::ManagedProxyConfiguration;
use serde_json::{Value, json};

use super::*;
use crate::config::ManagerConfig;
use crate::entrypoint::Entrypoint;

mod golden;
mod odd;

/// An installation with one cluster, to be changed by each test.
struct Setting {
    configuration: Value,
    manager: ManagerConfig,
    tls: TlsSettings,
    cluster: Value,
    namespace: &'static str,
    deployment_config: Option<Value>,
    entrypoint: Entrypoint,
}

impl Setting {
    /// As the chart installs it with a host name.
    fn new() -> Self {
        Self {
            configuration: json!({
                "metadata": {"name": "cluster-proxy", "uid": "u-1", "generation": 7},
                "spec": {
                    "authentication": {"signer": {"type": "SelfSigned"}, "dump": {"secrets": {}}},
                    "proxyServer": {
                        "image": "quay.io/open-cluster-management/cluster-proxy:v1",
                        "namespace": "open-cluster-management-addon",
                        "replicas": 1,
                        "entrypoint": {
                            "type": "Hostname", "hostname": {"value": "172.17.0.1"}, "port": 30091,
                        },
                    },
                    "proxyAgent": {
                        "image": "quay.io/open-cluster-management/cluster-proxy:v1",
                        "replicas": 1,
                    },
                },
            }),
            manager: ManagerConfig::new("open-cluster-management-addon", "manager-0"),
            tls: TlsSettings::default(),
            cluster: json!({"metadata": {"name": "managed"}, "spec": {"hubAcceptsClient": true}}),
            namespace: "open-cluster-management-cluster-proxy",
            deployment_config: None,
            entrypoint: Entrypoint::Address {
                host: "172.17.0.1".to_owned(),
                port: 30091,
            },
        }
    }

    fn configure(mut self, pointer: &str, value: Value) -> Self {
        *entry(&mut self.configuration["spec"], pointer) = value;
        self
    }

    fn variables(mut self, variables: &[(&str, &str)]) -> Self {
        let variables = variables
            .iter()
            .map(|(k, v)| json!({"name": k, "value": v}));
        let config = self.deployment_config.get_or_insert_with(|| json!({}));
        config["customizedVariables"] = variables.collect();
        self
    }

    fn hub(&self) -> Result<Vec<Value>, RenderError> {
        let settings = HubSettings {
            image_pull_policy: self.manager.image_pull_policy.clone(),
            network_policies: self.manager.network_policies,
            tls: self.tls.clone(),
        };
        let objects = hub(&self.configuration(), &settings)?;
        Ok(objects.iter().map(|object| json!(object)).collect())
    }

    fn managed(&self) -> Result<Vec<Value>, RenderError> {
        let cluster: ManagedCluster = serde_json::from_value(self.cluster.clone()).unwrap();
        let name: ClusterName = cluster.metadata.name.clone().unwrap().parse().unwrap();
        let config: Option<AddOnDeploymentConfigSpec> = self
            .deployment_config
            .clone()
            .map(|config| serde_json::from_value(config).unwrap());
        let ca = std::fs::read_to_string(folder().join("ca.pem")).unwrap();
        managed(&ManagedSettings {
            configuration: &self.configuration(),
            manager: &self.manager,
            name: &name,
            cluster: &cluster,
            namespace: self.namespace,
            deployment_config: config.as_ref(),
            entrypoint: &self.entrypoint,
            ca: &ca,
        })
    }

    fn configuration(&self) -> ManagedProxyConfiguration {
        serde_json::from_value(self.configuration.clone()).unwrap()
    }
}

/// The place at `pointer`, made where it is not there.
fn entry<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer
        .split('/')
        .fold(value, |value, name| &mut value[name])
}

/// The object of a kind and name.
fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    let mut objects = objects.iter();
    objects.find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

/// The container of a Deployment among `objects`.
fn container<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    let deployment = objects
        .iter()
        .find(|it| it["kind"] == "Deployment")
        .unwrap();
    let containers = deployment["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    containers.iter().find(|it| it["name"] == name).unwrap()
}

fn arguments(container: &Value) -> Vec<&str> {
    let arguments = container["args"].as_array().unwrap().iter();
    arguments
        .map(|argument| argument.as_str().unwrap())
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
