//! The agent of every managed cluster: rendered from the configurations, handed to OCM as
//! ManifestWorks, and what became of it as conditions.
//!
//! Works are owned by the addon and go with it. They are written only while the registration is
//! applied and OCM's addon manager has said which configurations count; what has been written
//! stays while a configuration cannot be used.

mod config_references;
mod spec_hash;
mod works;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::{
    CONFIGURED, ConfigReference, MANIFEST_APPLIED, REGISTRATION_APPLIED,
};
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::names::{ADDON_NAME, ADDON_NAME_LABEL, DEPLOY_WORK_PREFIX};
use cluster_proxy_kube_api::work::ManifestWork;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value};

pub(crate) use config_references::{read, understood};
pub use spec_hash::spec_hash;
pub use works::{TooLarge, works};

use crate::addon::{self, Condition, State};
use crate::apply::{self, Address};
use crate::configuration::ENTRYPOINT_READY;
use crate::context::Context;
use crate::controller;
use crate::deployment_config::{
    self, ConfigProblem, configuration, configuration_resource, deployment_config_resource,
    deployment_configs,
};
use crate::entrypoint::{self, EntrypointNotReady};
use crate::failure::RequestFailure;
use crate::registration::owner;
use crate::render::{self, ManagedSettings, RenderError};

/// Keeps every agent deployed until the context's drain.
pub async fn run(context: Arc<Context>) {
    let client = &context.watch_client;
    let any = watcher::Config::default;
    let controller = Controller::new_with(
        addon::addons(client),
        any().fields(addon::SELECTOR),
        addon::addon_resource(),
    );
    let addons = controller.store();
    let configurations: Api<DynamicObject> =
        Api::all_with(client.clone(), &configuration_resource());
    let configured = watcher(configurations, any().fields(addon::SELECTOR))
        .default_backoff()
        .touched_objects()
        .predicate_filter(rendered_from, Default::default())
        .map(addon::changed(&context, NAME));
    let labelled = format!("{ADDON_NAME_LABEL}={ADDON_NAME}");
    let controller = controller
        .watches(
            Api::<PartialObjectMeta<ManifestWork>>::all(client.clone()),
            any().labels(&labelled),
            |work| {
                work.namespace()
                    .map(|namespace| addon::reference(&namespace))
            },
        )
        .watches(
            Api::<PartialObjectMeta<ManagedCluster>>::all(client.clone()),
            any(),
            |cluster| [addon::reference(&cluster.name_any())],
        )
        .watches_with(
            deployment_configs(client),
            deployment_config_resource(),
            any(),
            move |config: DynamicObject| {
                deployment_config::users(&addons, &deployment_config_resource(), &config)
            },
        )
        .reconcile_all_on(stream::select(
            configured.boxed(),
            context.ca.changes().boxed(),
        ));
    controller::run(context, NAME, controller, reconcile).await;
}

/// A hash of what agents are rendered from: the configuration's content, and of its status where
/// the load balancer is, which changes without a change of the configuration.
fn rendered_from(configuration: &DynamicObject) -> Option<u64> {
    let status = addon::status(configuration);
    let entrypoint = addon::find_condition(&status, ENTRYPOINT_READY);
    let entrypoint = entrypoint.and_then(|condition| condition["message"].as_str());
    let mut hasher = DefaultHasher::new();
    (configuration.metadata.generation, entrypoint).hash(&mut hasher);
    Some(hasher.finish())
}

/// Brings one cluster's agent up to date. Doing it twice changes nothing.
///
/// # Errors
/// [`RequestFailure`]; what is wrong with a configuration stands in the addon's condition instead,
/// and a conflict with somebody else's write is none.
pub async fn reconcile(
    addon: Arc<DynamicObject>,
    context: Arc<Context>,
) -> Result<Action, RequestFailure> {
    match work(&addon, &context).await {
        Err(failure) if failure.is_conflict() => Ok(Action::requeue(AFTER_CONFLICT)),
        outcome => outcome,
    }
}

async fn work(addon: &DynamicObject, context: &Context) -> Result<Action, RequestFailure> {
    let done = Ok(Action::await_change());
    let Some(cluster) = addon::cluster_of(addon) else {
        return done;
    };
    if addon::is_leaving(addon) || !addon::is_claimed(addon) {
        return done;
    }
    let mut status = addon::status(addon);
    config_references::observe(&context.client, addon, &mut status).await?;
    let is_ready = [REGISTRATION_APPLIED, CONFIGURED]
        .iter()
        .all(|kind| addon::condition_is_true(&status, kind));
    let outcome = if is_ready {
        deploy(context, addon, &cluster, &status).await
    } else {
        Ok(Deployed::NotYet)
    };
    let before = addon::find_condition(&status, MANIFEST_APPLIED).cloned();
    match &outcome {
        Ok(Deployed::NotYet) => {}
        Ok(Deployed::Works(works)) => {
            if let Some(condition) = works::applied(works) {
                addon::set_condition(&mut status, &condition, Timestamp::now());
            } else if !addon::condition_is_true(&status, MANIFEST_APPLIED) {
                // An old failure says nothing about the works as they are now.
                addon::remove_condition(&mut status, MANIFEST_APPLIED);
            }
        }
        Err(problem) => {
            let condition = Condition {
                kind: MANIFEST_APPLIED,
                state: State::False,
                reason: "ManifestWorkApplyFailed",
                message: problem.to_string(),
            };
            addon::set_condition(&mut status, &condition, Timestamp::now());
        }
    }
    let resource = addon::addon_resource();
    if addon::write_status(&context.client, &resource, addon, &status).await? {
        let now = addon::find_condition(&status, MANIFEST_APPLIED);
        announce(context, &addon.object_ref(&resource), before.as_ref(), now).await;
    }
    match outcome {
        Ok(_) => Ok(Action::requeue(RESYNC)),
        Err(Problem::Request(failure)) => Err(failure),
        Err(Problem::Entrypoint(_) | Problem::NoConfiguration) => {
            Ok(Action::requeue(NOT_READY_RETRY))
        }
        // A person has to act, and that is watched.
        Err(_) => Ok(Action::requeue(RESYNC)),
    }
}

/// An Event for a deployment that fails, or fails otherwise than before, and for one that works
/// again.
async fn announce(
    context: &Context,
    about: &ObjectReference,
    before: Option<&Value>,
    now: Option<&Value>,
) {
    let state = |condition: Option<&Value>| {
        condition.map(|it| State::of(it["status"].as_str().unwrap_or_default()))
    };
    let (failed, now_state) = (state(before) == Some(State::False), state(now));
    let message = now
        .and_then(|it| it["message"].as_str())
        .unwrap_or("what was wrong is mended, and the agent handed to the cluster");
    if now_state == Some(State::False) {
        if before != now {
            let reason = "AgentNotDeployed";
            context.events.warning(about, reason, message).await;
        }
    } else if failed {
        let reason = "AgentDeployedAgain";
        context.events.normal(about, reason, message).await;
    }
}

/// Why an agent is not deployed as it should be.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Request(RequestFailure),
    #[error("there is no ManagedProxyConfiguration cluster-proxy yet; the chart installs it")]
    NoConfiguration,
    #[error(transparent)]
    Config(ConfigProblem),
    #[error("agents cannot be told yet where the proxy-server is: {0}")]
    Entrypoint(#[from] EntrypointNotReady),
    #[error("ManagedCluster {cluster} cannot be parsed: {cause}")]
    Cluster { cluster: ClusterName, cause: String },
    #[error("the agent cannot be rendered: {0}")]
    Render(#[from] RenderError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl From<RequestFailure> for Problem {
    fn from(failure: RequestFailure) -> Self {
        Self::Request(failure)
    }
}

impl From<ConfigProblem> for Problem {
    fn from(problem: ConfigProblem) -> Self {
        match problem {
            ConfigProblem::Request(failure) => Self::Request(failure),
            problem => Self::Config(problem),
        }
    }
}

#[derive(Debug)]
enum Deployed {
    /// There is nothing to render from yet, or the cluster is leaving.
    NotYet,
    Works(Vec<ManifestWork>),
}

async fn deploy(
    context: &Context,
    addon: &DynamicObject,
    cluster: &ClusterName,
    status: &Map<String, Value>,
) -> Result<Deployed, Problem> {
    let client = &context.client;
    let (Some(ca), Some(namespace), Some(owner)) = (
        context.ca.current(),
        status.get("namespace").and_then(Value::as_str),
        owner(addon),
    ) else {
        return Ok(Deployed::NotYet);
    };
    let object = addon::read_cluster(client, cluster).await?;
    let Some(object) = object.filter(|it| !addon::is_leaving(it)) else {
        return Ok(Deployed::NotYet);
    };
    let managed_cluster = object.try_parse().map_err(|error| Problem::Cluster {
        cluster: cluster.clone(),
        cause: error.to_string(),
    })?;
    let configuration = configuration(client).await?;
    let configuration = configuration.ok_or(Problem::NoConfiguration)?;
    let deployment_config = deployment_config::in_force(client, status).await?;
    let entrypoint = entrypoint::find(client, &configuration.spec).await?;
    let manifests = render::managed(&ManagedSettings {
        configuration: &configuration,
        manager: &context.config,
        name: cluster,
        cluster: &managed_cluster,
        namespace,
        deployment_config: deployment_config.as_ref().map(|it| &it.spec),
        entrypoint: &entrypoint,
        ca: ca.cert_pem(),
    })?;
    let wanted = works(cluster, manifests, &references(status), &owner)?;
    let mut works = Vec::with_capacity(wanted.len());
    for work in &wanted {
        works.push(apply_work(client, work).await?);
    }
    remove_surplus(client, cluster, &wanted).await?;
    Ok(Deployed::Works(works))
}

fn references(status: &Map<String, Value>) -> Vec<ConfigReference> {
    let references = status.get("configReferences").cloned();
    let parsed = references.map(serde_json::from_value);
    parsed.and_then(Result::ok).unwrap_or_default()
}

async fn apply_work(
    client: &kube::Client,
    work: &ManifestWork,
) -> Result<ManifestWork, RequestFailure> {
    let json = serde_json::to_value(work).and_then(serde_json::from_value);
    let object: DynamicObject = json.expect("a ManifestWork is an object with a name and a kind");
    let applied = apply::apply(client, &object).await?;
    // One whose status cannot be parsed counts as one that says nothing.
    Ok(applied.try_parse().unwrap_or_else(|_| work.clone()))
}

/// Deletes the works of an agent that was larger before.
async fn remove_surplus(
    client: &kube::Client,
    cluster: &ClusterName,
    wanted: &[ManifestWork],
) -> Result<(), RequestFailure> {
    let resource = ApiResource::erase::<ManifestWork>(&());
    let api: Api<PartialObjectMeta<DynamicObject>> =
        Api::namespaced_with(client.clone(), cluster.as_str(), &resource);
    let labelled = ListParams::default().labels(&format!("{ADDON_NAME_LABEL}={ADDON_NAME}"));
    let found = api.list(&labelled).await.map_err(RequestFailure::of(
        "list",
        format!("the ManifestWorks of {cluster}"),
    ))?;
    let wanted: BTreeSet<_> = wanted.iter().map(ResourceExt::name_any).collect();
    for work in found {
        let name = work.name_any();
        if !name.starts_with(DEPLOY_WORK_PREFIX) || wanted.contains(&name) {
            continue;
        }
        let address = Address {
            kind: kube::core::GroupVersionKind::gvk(
                &resource.group,
                &resource.version,
                &resource.kind,
            ),
            namespace: Some(cluster.to_string()),
            name,
        };
        apply::delete(client, &address, &work.uid().unwrap_or_default()).await?;
    }
    Ok(())
}

/// In metrics and logs.
const NAME: &str = "deploy";

/// Whatever a watch may have missed.
const RESYNC: Duration = Duration::from_mins(10);

/// A load balancer takes a minute or two.
const NOT_READY_RETRY: Duration = Duration::from_secs(10);

/// The change that was in the way usually brings the object here by itself.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
