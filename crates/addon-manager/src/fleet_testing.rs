//! A hub in the process with OCM's kinds, the addon's configuration and managed clusters.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_embedded_kube::LocalAddress;
use cluster_proxy_identity::ca::CertificateAuthority;
use cluster_proxy_kube_api::addon::{
    AddOnDeploymentConfig, ClusterManagementAddOn, ManagedClusterAddOn,
};
use cluster_proxy_kube_api::cluster_profile::ClusterProfile;
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::managed_proxy_configuration;
use cluster_proxy_kube_api::work::ManifestWork;
use cluster_proxy_kube_client::{Address, Connection, ConnectionParts, TokenSource};
use k8s_openapi::api::events::v1::Event;
use kube::CustomResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::addon;
use crate::context::Context;
use crate::deployment_config::configuration_resource;
use crate::testing::{Hub, LIMIT, NAMESPACE};

/// A hub with a CA, a configuration and no clusters yet.
pub(crate) struct Fleet {
    pub(crate) hub: Hub,
    pub(crate) context: Arc<Context>,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let hub = Hub::start().await;
        for crd in [
            AddOnDeploymentConfig::crd(),
            ClusterManagementAddOn::crd(),
            ClusterProfile::crd(),
            ManagedCluster::crd(),
            ManagedClusterAddOn::crd(),
            ManifestWork::crd(),
            managed_proxy_configuration::crd(),
        ] {
            let mut crd = serde_json::to_value(crd).unwrap();
            // Not every type of ours has the status that OCM's own definitions all have.
            crd["spec"]["versions"][0]["subresources"] = json!({"status": {}});
            hub.apply(crd);
        }
        let mut context = Context::clone(&hub.context("manager"));
        context.config.cluster_profile = true;
        let fleet = Self {
            hub,
            context: Arc::new(context),
        };
        fleet.configure(json!({"type": "Hostname", "hostname": {"value": "hub.example.com"}}));
        fleet.new_ca();
        fleet
    }

    /// The same hub for a manager that may do no more than `cluster` everywhere and `namespace` in
    /// the proxy-server's namespace (RBAC rules).
    pub(crate) fn restricted(&self, cluster: &Value, namespace: &Value) -> Arc<Context> {
        let account = "manager";
        let subjects = json!([{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]);
        let group = "rbac.authorization.k8s.io";
        let version = format!("{group}/v1");
        let metadata = json!({"name": account, "namespace": NAMESPACE});
        self.hub.apply(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata,
        }));
        for (kind, metadata, rules) in [
            ("ClusterRole", json!({"name": account}), cluster),
            ("Role", metadata, namespace),
        ] {
            self.hub.apply(json!({
                "apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules,
            }));
            self.hub.apply(json!({
                "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": kind, "name": account},
                "subjects": subjects,
            }));
        }
        let kube = &self.hub.kube;
        let hour = Duration::from_hours(1);
        let token = kube.issue_token(NAMESPACE, account, &[], hour).unwrap();
        let LocalAddress::Tcp(address) = kube.local_address() else {
            panic!("it listens on TCP by default");
        };
        let connection = Connection::from_parts(ConnectionParts {
            address: Address::Tcp {
                host: address.ip().to_string(),
                port: address.port(),
            },
            server_name: "localhost".to_owned(),
            ca: kube.ca_pem().as_bytes().to_vec(),
            client_certificate: None,
            token: TokenSource::fixed(token),
        })
        .unwrap();
        let mut context = Context::clone(&self.context);
        context.client = connection.client();
        context.watch_client = connection.watch_client();
        Arc::new(context)
    }

    /// From now on Events are kept, which the hub in the process does not know by itself.
    pub(crate) fn keep_events(&self) {
        self.hub.apply(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "events.events.k8s.io"},
            "spec": {
                "group": "events.k8s.io", "scope": "Namespaced",
                "names": {"kind": "Event", "plural": "events"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }],
            },
        }));
    }

    /// Reasons of the Events in `namespace`.
    pub(crate) async fn events(&self, namespace: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.context.client.clone(), namespace);
        let events = api.list(&ListParams::default()).await.unwrap();
        events.into_iter().filter_map(|it| it.reason).collect()
    }

    /// Waits for an Event with `reason` in `namespace`.
    pub(crate) async fn event(&self, namespace: &str, reason: &str) {
        let told = async {
            while !self.events(namespace).await.iter().any(|it| it == reason) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let told = tokio::time::timeout(LIMIT, told).await;
        told.unwrap_or_else(|_| panic!("no Event {reason} in {namespace}"));
    }

    /// The configuration with this entrypoint.
    pub(crate) fn configure(&self, entrypoint: Value) {
        self.hub.apply(json!({
            "apiVersion": "proxy.open-cluster-management.io/v1alpha1",
            "kind": "ManagedProxyConfiguration",
            "metadata": {"name": "cluster-proxy"},
            "spec": {
                "authentication": {},
                "proxyServer": {
                    "image": "example.com/cluster-proxy:1",
                    "namespace": NAMESPACE,
                    "entrypoint": entrypoint,
                },
                "proxyAgent": {"image": "example.com/cluster-proxy:1"},
            },
        }));
    }

    pub(crate) fn new_ca(&self) {
        let ca = CertificateAuthority::generate().unwrap();
        self.context.ca.set(Some(Arc::new(ca)));
    }

    /// An accepted cluster with the addon, claimed and configured by OCM.
    pub(crate) async fn join(&self, cluster: &str) {
        self.hub.apply(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster},
        }));
        self.accept(cluster, true);
        self.hub.apply(json!({
            "apiVersion": "addon.open-cluster-management.io/v1alpha1",
            "kind": "ManagedClusterAddOn",
            "metadata": {
                "name": "cluster-proxy",
                "namespace": cluster,
                "ownerReferences": [{
                    "apiVersion": "addon.open-cluster-management.io/v1alpha1",
                    "kind": "ClusterManagementAddOn",
                    "name": "cluster-proxy",
                    "uid": self.management_addon(),
                }],
            },
            "spec": {},
        }));
        self.set_addon_status(
            cluster,
            json!({"conditions": [
                {"type": "Configured", "status": "True", "reason": "R", "message": "",
                 "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]}),
        )
        .await;
    }

    fn management_addon(&self) -> String {
        let applied = self.hub.apply(json!({
            "apiVersion": "addon.open-cluster-management.io/v1alpha1",
            "kind": "ClusterManagementAddOn",
            "metadata": {"name": "cluster-proxy"},
            "spec": {},
        }));
        applied["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    pub(crate) fn accept(&self, cluster: &str, accepted: bool) {
        self.hub.apply(json!({
            "apiVersion": "cluster.open-cluster-management.io/v1",
            "kind": "ManagedCluster",
            "metadata": {"name": cluster},
            "spec": {"hubAcceptsClient": accepted},
        }));
    }

    pub(crate) async fn set_addon_status(&self, cluster: &str, status: Value) {
        let resource = addon::addon_resource();
        self.set_status(&resource, cluster, "cluster-proxy", status)
            .await;
    }

    pub(crate) async fn set_status(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        status: Value,
    ) {
        let client = self.context.client.clone();
        let api: Api<DynamicObject> = if namespace.is_empty() {
            Api::all_with(client, resource)
        } else {
            Api::namespaced_with(client, namespace, resource)
        };
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub(crate) fn addon(&self, cluster: &str) -> Arc<DynamicObject> {
        let found = self.find(&addon::addon_resource(), cluster, "cluster-proxy");
        Arc::new(serde_json::from_value(found.expect("the addon is there")).unwrap())
    }

    pub(crate) fn configuration(&self) -> Value {
        let found = self.find(&configuration_resource(), "", "cluster-proxy");
        found.expect("the configuration is there")
    }

    pub(crate) fn find(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let kind = &resource.kind;
        self.hub
            .kube
            .get(&resource.api_version, kind, namespace, name)
    }

    pub(crate) fn condition(&self, cluster: &str, kind: &str) -> Option<Value> {
        addon::find_condition(&addon::status(&self.addon(cluster)), kind).cloned()
    }
}

/// What `look` finds, once it finds something; for what waits for nothing but this process.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
