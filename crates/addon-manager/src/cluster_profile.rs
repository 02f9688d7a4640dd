//! Access providers of ClusterProfiles: tools for several clusters learn from them how to reach a
//! cluster's kube-apiserver through the user-server.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_kube_api::cluster_profile::{
    ACCESS_PROVIDER_NAME, CLUSTER_MANAGER_LABEL, ClusterProfile, EXEC_EXTENSION,
};
use cluster_proxy_kube_api::names::{CLUSTER_NAME_LABEL, USER_SERVER, USER_SERVING_SECRET};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Map, Value, json};

use crate::addon;
use crate::context::Context;
use crate::controller;
use crate::deployment_config::{ConfigProblem, configuration, proxy_server_namespace};
use crate::failure::RequestFailure;

/// Keeps the access provider of every profile of Open Cluster Management until the context's drain;
/// without the feature gate nothing is done until then.
pub async fn run(context: Arc<Context>) {
    if !context.config.cluster_profile {
        context.drain.started().await;
        return;
    }
    let client = &context.watch_client;
    let (key, value) = CLUSTER_MANAGER_LABEL;
    let selector = format!("{key}={value},{CLUSTER_NAME_LABEL}");
    let Some(namespace) = proxy_server_namespace(&context.client, &context.drain).await else {
        return;
    };
    let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), &namespace);
    let only = format!("metadata.name={USER_SERVING_SECRET}");
    // Only that something changed: no Secret is kept in memory here.
    let changes = watcher(secrets, watcher::Config::default().fields(&only))
        .default_backoff()
        .touched_objects()
        .map(addon::changed(&context, NAME));
    let controller = Controller::new_with(
        Api::all_with(client.clone(), &resource()),
        watcher::Config::default().labels(&selector),
        resource(),
    )
    .reconcile_all_on(changes);
    controller::run(context, NAME, controller, reconcile).await;
}

/// Brings one profile's access provider up to date. Doing it twice changes nothing.
///
/// # Errors
/// [`Error`]; a conflict with somebody else's write is none.
pub async fn reconcile(
    profile: Arc<DynamicObject>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    if addon::is_leaving(&profile) {
        return Ok(Action::await_change());
    }
    let Some(configuration) = configuration(&context.client).await? else {
        return Ok(Action::requeue(NOT_INSTALLED_RETRY));
    };
    let namespace = configuration.spec.proxy_server.namespace;
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let object = format!("Secret {namespace}/{USER_SERVING_SECRET}");
    let read = secrets.get_opt(USER_SERVING_SECRET).await;
    let read = read.map_err(RequestFailure::of("read", object.as_str()))?;
    let Some(secret) = read else {
        // Its coming is watched.
        return Ok(Action::await_change());
    };
    let ca = authority(&secret).ok_or(Error::NoCertificate { object })?;
    let provider = provider(&profile.name_any(), &namespace, ca);
    let mut status = addon::status(&profile);
    set_provider(&mut status, provider);
    let written = addon::patch_status(&context.client, &resource(), &profile, &status).await;
    match written {
        Err(failure) if failure.is_conflict() => return Ok(Action::requeue(AFTER_CONFLICT)),
        Err(failure) => return Err(failure.into()),
        Ok(Some(kept)) if !addon::status(&kept).contains_key(ACCESS_PROVIDERS) => {
            let (namespace, name) = (profile.namespace().unwrap_or_default(), profile.name_any());
            return Err(Error::Pruned { namespace, name });
        }
        Ok(_) => {}
    }
    Ok(Action::requeue(RESYNC))
}

/// Why a profile has no access provider for now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hub did not let us.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// The user-server's certificate is not where it should be.
    #[error(
        "{object} has neither ca.crt nor tls.crt, so that no client could trust the user-server"
    )]
    NoCertificate {
        /// The Secret.
        object: String,
    },
    /// The hub's definition of profiles has no such field, and the hub left it out.
    #[error(
        "ClusterProfile {namespace}/{name} cannot hold access providers: the hub's \
         CustomResourceDefinition clusterprofiles.multicluster.x-k8s.io is older than \
         cluster-inventory-api v0.1.0; update Open Cluster Management, or apply the newer one"
    )]
    Pruned {
        /// The profile's namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Where the user-server is is not known.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
}

fn resource() -> ApiResource {
    ApiResource::erase::<ClusterProfile>(&())
}

/// Whom to trust: the CA where the Secret names it, else the certificate itself, as upstream.
fn authority(secret: &Secret) -> Option<&[u8]> {
    let data = secret.data.as_ref()?;
    ["ca.crt", "tls.crt"]
        .iter()
        .filter_map(|key| data.get(*key))
        .map(|value| value.0.as_slice())
        .find(|value| !value.trim_ascii().is_empty())
}

fn provider(profile: &str, namespace: &str, ca: &[u8]) -> Value {
    json!({
        "name": ACCESS_PROVIDER_NAME,
        "cluster": {
            "server": format!("https://{USER_SERVER}.{namespace}:{USER_SERVER_PORT}/{profile}"),
            "certificate-authority-data": STANDARD.encode(ca),
            "extensions": [{
                "name": EXEC_EXTENSION,
                "extension": {"clusterName": profile},
            }],
        },
    })
}

/// Sets our provider and leaves those of others.
fn set_provider(status: &mut Map<String, Value>, provider: Value) {
    let providers = status.entry(ACCESS_PROVIDERS).or_insert_with(|| json!([]));
    let Some(providers) = providers.as_array_mut() else {
        return;
    };
    match providers
        .iter_mut()
        .find(|it| it["name"] == ACCESS_PROVIDER_NAME)
    {
        Some(current) => *current = provider,
        None => providers.push(provider),
    }
}

/// The field of a profile's status.
const ACCESS_PROVIDERS: &str = "accessProviders";

/// In metrics and logs.
const NAME: &str = "cluster-profile";

/// The port of the user-server's Service that programs use.
const USER_SERVER_PORT: u16 = 9092;

/// The profile may have come before the addon's configuration.
const NOT_INSTALLED_RETRY: Duration = Duration::from_mins(1);

/// The configuration may have moved to another namespace.
const RESYNC: Duration = Duration::from_mins(10);

/// The change that was in the way usually brings the object here by itself.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::fleet_testing::Fleet;
    use crate::testing::{NAMESPACE, soon};

    #[tokio::test]
    async fn a_profile_gets_its_provider_when_the_certificate_comes() {
        let fleet = Fleet::start().await;
        let profile = |name: &str, manager: &str| {
            fleet.hub.apply(json!({
                "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ClusterProfile",
                "metadata": {
                    "name": name, "namespace": NAMESPACE,
                    "labels": {CLUSTER_MANAGER_LABEL.0: manager, CLUSTER_NAME_LABEL: name},
                },
                "spec": {"clusterManager": {"name": manager}},
            }));
        };
        profile("managed", "open-cluster-management");
        profile("foreign", "somebody-else");
        let running = tokio::spawn(run(Arc::clone(&fleet.context)));
        fleet.hub.apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": USER_SERVING_SECRET, "namespace": NAMESPACE},
            "data": {"tls.crt": STANDARD.encode("leaf"), "ca.crt": STANDARD.encode("CA")},
        }));
        let providers = |name: &str| {
            let found = fleet.find(&resource(), NAMESPACE, name)?;
            found["status"]["accessProviders"].as_array().cloned()
        };
        let found = soon("the provider", || providers("managed")).await;
        assert_eq!(found, [provider("managed", NAMESPACE, b"CA")]);
        assert_eq!(providers("foreign"), None);
        running.abort();
    }

    fn secret(data: &[(&str, &str)]) -> Secret {
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn the_ca_goes_before_the_certificate() {
        let both = secret(&[("ca.crt", "CA"), ("tls.crt", "leaf")]);
        assert_eq!(authority(&both), Some(b"CA".as_slice()));
        let empty = secret(&[("ca.crt", ""), ("tls.crt", "leaf")]);
        assert_eq!(authority(&empty), Some(b"leaf".as_slice()));
        let key = secret(&[("tls.key", "never")]);
        assert_eq!(authority(&key), None);
    }

    #[test]
    fn providers_of_others_stay() {
        let mut status = Map::new();
        status.insert(
            "accessProviders".to_owned(),
            json!([{"name": "other"}, {"name": ACCESS_PROVIDER_NAME, "old": true}]),
        );
        let ours = provider("managed", "ns", b"CA");
        set_provider(&mut status, ours.clone());
        let once = status.clone();
        set_provider(&mut status, ours.clone());
        assert_eq!(status, once);
        assert_eq!(status["accessProviders"], json!([{"name": "other"}, ours]));
        assert_eq!(
            ours["cluster"]["server"],
            json!("https://cluster-proxy-addon-user.ns:9092/managed")
        );
    }
}
