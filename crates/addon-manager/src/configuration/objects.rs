//! The proxy-server's objects: marked as owned, applied, and pruned when nothing asks for them any
//! more.

use std::collections::BTreeSet;

use cluster_proxy_identity::ca::CertificateAuthority;
use cluster_proxy_kube_api::managed_proxy_configuration::ManagedProxyConfiguration;
use cluster_proxy_kube_api::names::{
    CONFIGURATION_GENERATION, PROXY_SERVER_CA_SECRET, TLS_PROFILE_CONFIG_MAP,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, TypeMeta};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::ConfigurationFailure;
use super::watches::{NETWORK_POLICY, OWNED_KINDS};
use crate::apply::{self, Address};
use crate::context::Context;
use crate::failure::RequestFailure;
use crate::render::{self, HubSettings, TlsSettings};

/// Whose the objects are.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) reference: OwnerReference,
}

impl Owner {
    pub(super) fn of(object: &DynamicObject, resource: &ApiResource) -> Option<Self> {
        let reference = object.controller_owner_ref(resource)?;
        Some(Self { reference })
    }

    /// What every object of this owner has in its metadata.
    pub(super) fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(vec![self.reference.clone()]),
            labels: Some([(OWNED_LABEL.to_owned(), self.reference.name.clone())].into()),
            ..ObjectMeta::default()
        }
    }

    fn mark(&self, object: &mut DynamicObject) {
        let meta = &mut object.metadata;
        meta.owner_references = Some(vec![self.reference.clone()]);
        meta.labels
            .get_or_insert_default()
            .insert(OWNED_LABEL.to_owned(), self.reference.name.clone());
    }
}

/// What there should be, marked as `owner`'s.
pub(super) async fn wanted(
    context: &Context,
    configuration: &ManagedProxyConfiguration,
    owner: &Owner,
    authority: &CertificateAuthority,
) -> Result<Vec<DynamicObject>, ConfigurationFailure> {
    let settings = HubSettings {
        image_pull_policy: context.config.image_pull_policy.clone(),
        network_policies: context.config.network_policies,
        tls: tls_settings(context).await?,
    };
    let namespace = &configuration.spec.proxy_server.namespace;
    let mut objects = vec![authority_secret(namespace, authority)];
    objects.extend(render::hub(configuration, &settings)?);
    for object in &mut objects {
        owner.mark(object);
    }
    Ok(objects)
}

/// What the ConfigMap of all of OCM says, beside the manager.
async fn tls_settings(context: &Context) -> Result<TlsSettings, RequestFailure> {
    let namespace = &context.config.namespace;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let object = format!("ConfigMap {namespace}/{TLS_PROFILE_CONFIG_MAP}");
    let read = api.get_opt(TLS_PROFILE_CONFIG_MAP).await;
    let map = read.map_err(RequestFailure::of("read", object))?;
    let data = map.and_then(|map| map.data);
    Ok(TlsSettings::from_config_map(&data.unwrap_or_default()))
}

/// The CA's certificate alone, for those who verify.
fn authority_secret(namespace: &str, authority: &CertificateAuthority) -> DynamicObject {
    let certificate = ByteString(authority.cert_pem().into());
    // As in what is rendered: a Go manager after a roll-back finds it outdated.
    let annotations = [(CONFIGURATION_GENERATION.to_owned(), "0".to_owned())];
    let metadata = ObjectMeta {
        name: Some(PROXY_SERVER_CA_SECRET.to_owned()),
        namespace: Some(namespace.to_owned()),
        annotations: Some(annotations.into()),
        ..ObjectMeta::default()
    };
    DynamicObject {
        types: Some(TypeMeta {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
        }),
        metadata,
        data: json!({"data": {"ca.crt": certificate}}),
    }
}

/// What became of the Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Applied {
    /// How many pods are asked for.
    pub(super) replicas: i64,
    /// How many of them run the newest template and take connections.
    pub(super) available: i64,
}

/// Applies all objects in their order.
pub(super) async fn apply(
    context: &Context,
    wanted: &[DynamicObject],
) -> Result<Applied, ConfigurationFailure> {
    let mut applied = Applied::default();
    for object in wanted {
        let now = apply::apply(&context.client, object).await?;
        if Address::of(object).kind.kind == "Deployment" {
            applied = deployment(&now);
        }
    }
    Ok(applied)
}

fn deployment(object: &DynamicObject) -> Applied {
    let number = |pointer: &str| {
        object
            .data
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    };
    let current = number("/status/observedGeneration") >= object.metadata.generation.unwrap_or(0);
    Applied {
        replicas: number("/spec/replicas"),
        available: if current {
            number("/status/availableReplicas")
        } else {
            0
        },
    }
}

/// Deletes what `owner` owns in `namespaces` and nothing asks for any more. Secrets stay: those
/// with certificates are not among the applied objects, and all go with the owner.
pub(super) async fn prune(
    context: &Context,
    owner: &Owner,
    namespaces: &[String],
    wanted: &[DynamicObject],
) -> Result<(), RequestFailure> {
    let wanted: BTreeSet<_> = wanted
        .iter()
        .map(|object| key(&Address::of(object)))
        .collect();
    let ours = ListParams::default().labels(&format!("{OWNED_LABEL}={}", owner.reference.name));
    for namespace in namespaces {
        for (group, version, kind) in OWNED_KINDS.iter().filter(|(_, _, kind)| *kind != "Secret") {
            let kind = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk(&kind);
            let client = context.client.clone();
            let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
            let listed = api.list_metadata(&ours).await;
            let what = format!("{} in {namespace}", resource.plural);
            let listed = match listed.map_err(RequestFailure::of("list", what)) {
                Err(failure)
                    if (failure.is_forbidden() || failure.is_not_found())
                        && kind.kind == NETWORK_POLICY
                        && !context.config.network_policies =>
                {
                    continue;
                }
                listed => listed?,
            };
            for object in listed {
                let address = Address {
                    kind: kind.clone(),
                    namespace: Some(namespace.clone()),
                    name: object.metadata.name.clone().unwrap_or_default(),
                };
                if wanted.contains(&key(&address)) || !is_owned(&object.metadata, owner) {
                    continue;
                }
                let uid = object.metadata.uid.unwrap_or_default();
                apply::delete(&context.client, &address, &uid).await?;
                tracing::info!(object = %address, "nothing asks for it any more: deleted");
            }
        }
    }
    Ok(())
}

fn is_owned(metadata: &ObjectMeta, owner: &Owner) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.any(|reference| reference.uid == owner.reference.uid)
}

fn key(address: &Address) -> (String, Option<String>, String) {
    let Address {
        kind,
        namespace,
        name,
    } = address;
    (kind.kind.clone(), namespace.clone(), name.clone())
}

/// On every object that is applied for a configuration: its name.
const OWNED_LABEL: &str = "proxy.open-cluster-management.io/configuration";
