//! As whom an agent comes to the hub, what it may do there, and where it is installed.
//!
//! The registrations are written into the addon's status, where OCM's registration agent reads
//! them and asks for certificates ([`crate::csr`]).

mod hub_accounts;
mod rbac;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::{HEALTH_CHECK_LEASE, REGISTRATION_APPLIED};
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::names::AGENT_ROLE;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

pub use rbac::HubIdentity;
pub use subject::{Registration, Registrations, Signer, token_user};

use crate::addon::{self, Condition, State};
use crate::apply::apply;
use crate::context::Context;
use crate::controller;
use crate::deployment_config::{
    self, ConfigProblem, configuration_resource, deployment_config_resource, deployment_configs,
};
use crate::failure::RequestFailure;

/// Keeps every addon's registration and its agent's rights until the context's drain.
pub async fn run(context: Arc<Context>) {
    let client = &context.watch_client;
    let controller = Controller::new_with(
        addon::addons(client),
        watcher::Config::default().fields(addon::SELECTOR),
        addon::addon_resource(),
    );
    let addons = controller.store();
    let by_name = watcher::Config::default().fields(&format!("metadata.name={AGENT_ROLE}"));
    let controller = controller
        .owns(Api::<Role>::all(client.clone()), by_name.clone())
        .owns(Api::<RoleBinding>::all(client.clone()), by_name)
        .watches(
            Api::<PartialObjectMeta<ManagedCluster>>::all(client.clone()),
            watcher::Config::default(),
            |cluster| [addon::reference(&cluster.name_any())],
        )
        .watches_with(
            deployment_configs(client),
            deployment_config_resource(),
            watcher::Config::default(),
            move |config: DynamicObject| {
                deployment_config::users(&addons, &deployment_config_resource(), &config)
            },
        )
        .reconcile_all_on(context.ca.changes());
    tokio::join!(
        controller::run(Arc::clone(&context), "registration", controller, reconcile),
        hub_accounts::run(Arc::clone(&context)),
    );
}

/// Brings one addon's registration up to date. Doing it twice changes nothing.
///
/// # Errors
/// [`Error`], which stands in the addon's condition too; a conflict with somebody else's write is
/// none.
pub async fn reconcile(addon: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Error> {
    match work(&addon, &context).await {
        Err(Error::Request(failure)) if failure.is_conflict() => {
            Ok(Action::requeue(AFTER_CONFLICT))
        }
        outcome => outcome.map(|()| Action::await_change()),
    }
}

async fn work(addon: &DynamicObject, context: &Context) -> Result<(), Error> {
    let Some(cluster) = addon::cluster_of(addon) else {
        return Ok(());
    };
    if addon::is_leaving(addon) || !addon::is_claimed(addon) {
        return Ok(());
    }
    let Some(ca) = context.ca.current() else {
        // The controller looks at everything again when the CA comes.
        return Ok(());
    };
    let managed_cluster = addon::read_cluster(&context.client, &cluster).await?;
    if managed_cluster.is_none_or(|it| addon::is_leaving(&it)) {
        // Whoever may make an addon anywhere does not thereby make a cluster.
        return Ok(());
    }
    let registrations = Registrations::new(&cluster, ca.cert_pem());
    let mut status = addon::status(addon);
    status.insert("supportedConfigs".to_owned(), supported_configs());
    status.insert(
        "healthCheck".to_owned(),
        json!({"mode": HEALTH_CHECK_LEASE}),
    );
    let list = registration_list(&registrations, &status);
    status.insert("registrations".to_owned(), list);
    let outcome = configure(context, addon, &cluster, &registrations, &mut status).await;
    let condition = match &outcome {
        Ok(Permission::Given) => Condition {
            kind: REGISTRATION_APPLIED,
            state: State::True,
            reason: "SetPermissionApplied",
            message: "Registration of the addon agent is configured".to_owned(),
        },
        Ok(Permission::Waiting) => Condition {
            kind: REGISTRATION_APPLIED,
            state: State::False,
            reason: "PermissionConfigPending",
            message: format!(
                "OCM's agent has not yet written as whom the addon comes to the hub; with the \
                 token driver that is {}",
                token_user(&cluster)
            ),
        },
        Err(error) => Condition {
            kind: REGISTRATION_APPLIED,
            state: State::False,
            reason: error.reason(),
            message: error.to_string(),
        },
    };
    addon::set_condition(&mut status, &condition, Timestamp::now());
    let resource = addon::addon_resource();
    let is_news = addon::write_status(&context.client, &resource, addon, &status).await?;
    if let (true, Err(error)) = (is_news, &outcome) {
        let about = addon.object_ref(&resource);
        let (reason, message) = (error.reason(), condition.message.as_str());
        context.events.warning(&about, reason, message).await;
    }
    outcome.map(|_| ())
}

/// Why an addon is not registered for now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hub did not let us.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// Where the agent is to be installed is not known.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
}

impl Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Request(_) => "SetPermissionFailed",
            Self::Config(_) => "ConfigurationUnusable",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    Given,
    /// OCM's agent has to say first as whom the addon comes.
    Waiting,
}

async fn configure(
    context: &Context,
    addon: &DynamicObject,
    cluster: &ClusterName,
    registrations: &Registrations,
    status: &mut Map<String, Value>,
) -> Result<Permission, Error> {
    // While the configuration cannot be used the namespace stays: the agent must not move.
    let config = deployment_config::in_force(&context.client, status).await?;
    let namespace = config
        .and_then(|config| config.spec.agent_install_namespace)
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| context.config.agent_install_namespace.clone());
    status.insert("namespace".to_owned(), json!(namespace));
    let (Some(identity), Some(owner)) =
        (hub_identity(cluster, registrations, status), owner(addon))
    else {
        return Ok(Permission::Waiting);
    };
    for object in rbac::in_cluster(cluster, &identity, &owner) {
        apply(&context.client, &object).await?;
    }
    Ok(Permission::Given)
}

/// The registrations as they should stand in the status. With OCM's token driver its agent writes
/// the subject for the hub's kube-apiserver itself: what it wrote stays.
fn registration_list(registrations: &Registrations, status: &Map<String, Value>) -> Value {
    let current = status.get("registrations").and_then(Value::as_array);
    let list = registrations.iter().map(|registration| {
        let signer = registration.signer.name();
        let subject = if registration.signer == Signer::KubeClient && has_token_driver(status) {
            let current = current.into_iter().flatten();
            let mut current = current.filter(|it| it["signerName"] == signer);
            current
                .next()
                .map_or_else(|| json!({"user": ""}), |it| it["subject"].clone())
        } else {
            let subject = &registration.subject;
            let mut wanted = json!({
                "user": subject.common_name,
                "groups": subject.organizations,
            });
            if !subject.organizational_units.is_empty() {
                wanted["organizationUnit"] = json!(subject.organizational_units);
            }
            wanted
        };
        json!({"signerName": signer, "subject": subject})
    });
    Value::Array(list.collect())
}

/// As whom the agent comes, once that is known. What an agent writes about itself is taken only if
/// it is the one account that OCM gives it: the status is the agent's to write.
fn hub_identity(
    cluster: &ClusterName,
    registrations: &Registrations,
    status: &Map<String, Value>,
) -> Option<HubIdentity> {
    if !has_token_driver(status) {
        let registration = registrations.of(Signer::KubeClient);
        return Some(HubIdentity::Certificate(registration.clone()));
    }
    token_identity(cluster, status).map(HubIdentity::Token)
}

/// The user of an agent that comes with a token, once its status says so.
fn token_identity(cluster: &ClusterName, status: &Map<String, Value>) -> Option<String> {
    if !has_token_driver(status) {
        return None;
    }
    let user = token_user(cluster);
    let registrations = status.get("registrations")?.as_array()?;
    let is_written = registrations.iter().any(|it| {
        it["signerName"] == Signer::KubeClient.name() && it["subject"]["user"] == user.as_str()
    });
    is_written.then_some(user)
}

fn has_token_driver(status: &Map<String, Value>) -> bool {
    status.get("kubeClientDriver") == Some(&json!("token"))
}

fn supported_configs() -> Value {
    let list = [configuration_resource(), deployment_config_resource()]
        .map(|it| json!({"group": it.group, "resource": it.plural}));
    Value::Array(list.to_vec())
}

/// A reference by which objects go with the addon.
#[must_use]
pub fn owner(addon: &DynamicObject) -> Option<OwnerReference> {
    addon.controller_owner_ref(&addon::addon_resource())
}

/// Annotation of a ManagedClusterAddOn: when its agent first had a certificate of its own signed.
pub const CERTIFICATE_ANNOTATION: &str = "proxy.open-cluster-management.io/agent-certificate-since";

/// The change that was in the way usually brings the object here by itself.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
