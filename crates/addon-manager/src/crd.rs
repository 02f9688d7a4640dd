//! The CustomResourceDefinition of the configuration, applied by the manager itself: Helm never
//! updates what lies in `crds/`, so after an upgrade the hub would go on dropping new fields.

use std::time::Duration;

use cluster_proxy_kube_api::managed_proxy_configuration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use tokio::time::{sleep, timeout};

use crate::config::FIELD_MANAGER;
use crate::context::Context;
use crate::failure::RequestFailure;

/// What became of the CustomResourceDefinition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// It is as this program needs it.
    Applied,
    /// The hub did not let us; it may be an older one that knows less fields.
    NotAllowed(String),
}

/// Applies the CustomResourceDefinition, trying again until the hub answers yes or no.
pub async fn ensure(context: &Context) -> Definition {
    loop {
        match timeout(LIMIT, apply(&context.client)).await {
            Ok(Ok(())) => return Definition::Applied,
            Ok(Err(error)) if error.is_forbidden() => {
                tracing::warn!(
                    "{error}; fields of ManagedProxyConfiguration that the installed \
                     definition does not know are dropped: apply the chart's crds/ by hand, or \
                     let this manager patch it"
                );
                return Definition::NotAllowed(error.to_string());
            }
            Ok(Err(error)) => tracing::warn!("{error}, trying again"),
            Err(_) => tracing::warn!("the hub did not take the definition in time, trying again"),
        }
        sleep(RETRY).await;
    }
}

async fn apply(client: &kube::Client) -> Result<(), RequestFailure> {
    let wanted = managed_proxy_configuration::crd();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let name = wanted.name_any();
    let object = format!("CustomResourceDefinition {name}");
    api.patch(&name, &params, &Patch::Apply(&wanted))
        .await
        .map_err(RequestFailure::of("apply", object))?;
    Ok(())
}

/// One try.
const LIMIT: Duration = Duration::from_secs(30);

/// Between two tries.
const RETRY: Duration = Duration::from_secs(5);
