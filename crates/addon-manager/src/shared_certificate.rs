//! The one certificate that all service-proxies of a Go installation share: made and renewed for a
//! Go manager, which renders it into its agents. Ours has a certificate for each cluster.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cluster_proxy_kube_api::managed_proxy_configuration::CONFIGURATION_NAME;
use cluster_proxy_kube_api::names::SHARED_SERVICE_PROXY_SECRET;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::{Api, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;

use crate::certificate_authority::{self, AuthorityFailure};
use crate::certificates::{self, CertificateFailure};
use crate::config::Duty;
use crate::context::Context;
use crate::controller;
use crate::deployment_config::configuration_resource;
use crate::failure::RequestFailure;
use crate::leader_election;

/// Keeps the certificate until the context's drain; does nothing for a manager with another duty.
pub async fn run(context: Arc<Context>) {
    let Duty::SharedCertificate { namespace } = context.config.duty.clone() else {
        return context.drain.started().await;
    };
    let client = &context.watch_client;
    let secrets = |namespace: &str| -> Api<PartialObjectMeta<Secret>> {
        Api::namespaced(client.clone(), namespace)
    };
    let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (ca_namespace, ca_name) = (
        context.config.signer_secret_namespace.clone(),
        context.config.signer_secret_name.clone(),
    );
    let controller = Controller::new(secrets(&ca_namespace), named(&ca_name)).watches(
        secrets(&namespace),
        named(SHARED_SERVICE_PROXY_SECRET),
        move |_| [ObjectRef::new(&ca_name).within(&ca_namespace)],
    );
    controller::run(context, NAME, controller, move |_, context| {
        let namespace = namespace.clone();
        async move { reconcile(&context, &namespace).await }
    })
    .await;
}

async fn reconcile(context: &Context, namespace: &str) -> Result<Action, Failure> {
    let (about, owner) = configuration(context).await?;
    if context.config.leader_election {
        leader_election::adopt(&context.client, &context.config, &owner).await?;
    }
    let outcome = ensure(context, namespace, owner).await;
    if let Err(failure) = &outcome
        && let Some(reason) = failure.for_people()
    {
        let note = failure.to_string();
        context.events.warning(&about, reason, &note).await;
    }
    outcome.map(Action::requeue)
}

/// Gives the time after which to look again.
async fn ensure(
    context: &Context,
    namespace: &str,
    owner: OwnerReference,
) -> Result<Duration, Failure> {
    let authority = certificate_authority::find(context).await?;
    // The watch says when it is there again.
    let Some(authority) = authority else {
        return Ok(RESYNC);
    };
    let metadata = ObjectMeta {
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let wanted = certificates::shared_service_proxy();
    let signed = certificates::ensure(context, namespace, &authority, &wanted, metadata).await?;
    let left = signed.renew_at.duration_since(SystemTime::now());
    Ok(left
        .unwrap_or_default()
        .clamp(Duration::from_secs(1), RESYNC))
}

/// The configuration, with which the certificate goes.
async fn configuration(context: &Context) -> Result<(ObjectReference, OwnerReference), Failure> {
    let resource = configuration_resource();
    let object = format!("{} {CONFIGURATION_NAME}", resource.kind);
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource);
    let read = api.get_opt(CONFIGURATION_NAME).await;
    let read = read.map_err(RequestFailure::of("read", object))?;
    let found = read.ok_or(Failure::NoConfiguration)?;
    let owner = found.controller_owner_ref(&resource);
    // As a Go manager's: an owner, and not the controller.
    let owner = owner.map(|owner| OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..owner
    });
    let owner = owner.ok_or(Failure::NoConfiguration)?;
    Ok((found.object_ref(&resource), owner))
}

/// Why there is no certificate for now.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "there is no ManagedProxyConfiguration {CONFIGURATION_NAME} yet; the chart installs it"
    )]
    NoConfiguration,
    #[error(transparent)]
    Request(#[from] RequestFailure),
    #[error(transparent)]
    Authority(#[from] AuthorityFailure),
    #[error(transparent)]
    Certificate(#[from] CertificateFailure),
}

impl Failure {
    /// The reason of an Event, for failures that stay until a person acts.
    fn for_people(&self) -> Option<&'static str> {
        match self {
            Self::Authority(failure) => failure.for_people(),
            Self::Certificate(failure) => failure.for_people(),
            Self::NoConfiguration | Self::Request(_) => None,
        }
    }
}

/// In metrics and logs.
const NAME: &str = "shared-certificate";

/// All is watched; this is for what a watch may have missed.
const RESYNC: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests;
