//! What all agents of the fleet may do on the hub, whoever their cluster is: one Role and binding
//! each, which go with the configuration.

use std::sync::Arc;

use cluster_proxy_kube_api::managed_proxy_configuration::{
    CONFIGURATION_NAME, EntrypointType, ManagedProxyConfiguration,
};
use cluster_proxy_kube_api::names::{AGENT_TOKEN_REVIEW_ROLE, PORT_FORWARD_ROLE};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};

use super::{rbac, token_identity};
use crate::addon;
use crate::apply::{Address, apply, delete};
use crate::context::Context;
use crate::controller;
use crate::deployment_config::{configuration_resource, proxy_server_namespace};
use crate::failure::RequestFailure;

pub(super) async fn run(context: Arc<Context>) {
    let client = &context.watch_client;
    let (addons, changes) = addon::followed(
        &context,
        NAME,
        addon::addons(client),
        watcher::Config::default().fields(addon::SELECTOR),
        addon::addon_resource(),
    );
    let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    let Some(namespace) = proxy_server_namespace(&context.client, &context.drain).await else {
        return;
    };
    let (role, binding) = (
        named(AGENT_TOKEN_REVIEW_ROLE),
        named(AGENT_TOKEN_REVIEW_ROLE),
    );
    let controller = Controller::new_with(
        Api::all_with(client.clone(), &configuration_resource()),
        named(CONFIGURATION_NAME),
        configuration_resource(),
    )
    .owns(Api::<ClusterRole>::all(client.clone()), role)
    .owns(Api::<ClusterRoleBinding>::all(client.clone()), binding)
    .owns(
        Api::<RoleBinding>::namespaced(client.clone(), &namespace),
        named(PORT_FORWARD_ROLE),
    )
    .reconcile_all_on(changes);
    controller::run(
        context,
        "hub-accounts",
        controller,
        move |object, context| reconcile(object, context, addons.clone()),
    )
    .await;
}

async fn reconcile(
    configuration: Arc<DynamicObject>,
    context: Arc<Context>,
    addons: Store<DynamicObject>,
) -> Result<Action, RequestFailure> {
    let done = Ok(Action::await_change());
    if configuration.name_any() != CONFIGURATION_NAME || addon::is_leaving(&configuration) {
        return done;
    }
    // Without the watch the controller is about to end as well.
    if addons.wait_until_ready().await.is_err() {
        return done;
    }
    let Some(owner) = configuration.controller_owner_ref(&configuration_resource()) else {
        return done;
    };
    let users = token_users(&addons.state());
    for object in rbac::token_review(&users, &owner) {
        match apply(&context.client, &object).await {
            // The chart lets the manager grant this only with enableImpersonation.
            Err(failure) if failure.is_forbidden() => {
                tracing::info!("agents cannot be let review tokens on the hub: {failure}");
                break;
            }
            applied => applied?,
        };
    }
    let parsed = DynamicObject::clone(&configuration).try_parse::<ManagedProxyConfiguration>();
    let Ok(parsed) = parsed else {
        // Told in a condition of the configuration; what is there stays.
        return done;
    };
    let server = parsed.spec.proxy_server;
    let binding = rbac::port_forward_binding(&server.namespace, &users, &owner);
    let is_port_forward = server
        .entrypoint
        .is_none_or(|it| it.kind == EntrypointType::PortForward);
    if is_port_forward {
        apply(&context.client, &binding).await?;
    } else {
        remove(&context.client, &Address::of(&binding), &owner).await?;
    }
    done
}

/// Removes what is there under `address`, if it is `owner`'s.
async fn remove(
    client: &kube::Client,
    address: &Address,
    owner: &OwnerReference,
) -> Result<(), RequestFailure> {
    let found = address.api(client).get_metadata_opt(&address.name).await;
    let found = found.map_err(RequestFailure::of("read", address.to_string()))?;
    let owned = found.filter(|it| it.owner_references().iter().any(|it| it.uid == owner.uid));
    match owned.and_then(|it| it.uid()) {
        Some(uid) => delete(client, address, &uid).await,
        None => Ok(()),
    }
}

fn token_users(addons: &[Arc<DynamicObject>]) -> Vec<String> {
    let mut users: Vec<_> = addons
        .iter()
        .filter(|addon| !addon::is_leaving(addon))
        .filter_map(|it| token_identity(&addon::cluster_of(it)?, &addon::status(it)))
        .collect();
    users.sort_unstable();
    users
}

/// In metrics and logs.
const NAME: &str = "hub-accounts";
