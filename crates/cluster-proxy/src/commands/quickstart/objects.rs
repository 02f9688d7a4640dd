//! What quickstart makes in the two clusters, all of it labelled, and its removal.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::plan::Plan;

/// On every object, so that a later run finds what a killed one left.
pub(super) const LABEL: &str = "cluster-proxy.open-cluster-management.io/quickstart";

const FIELD_MANAGER: &str = "cluster-proxy-quickstart";

/// A namespace takes some seconds to go, a busy cluster's a minute.
const REMOVAL_LIMIT: Duration = Duration::from_secs(90);

/// An embedded pod runs within a moment.
const PODS_LIMIT: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(200);

/// Kinds that quickstart makes, in the order in which they are removed.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "Pod"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "Namespace"),
];

/// Accounts and rights on the hub: the user-server's, and the user of the story.
pub(super) fn hub(plan: &Plan) -> Vec<Value> {
    let mut objects = vec![
        namespace(&plan.roles_namespace),
        service_account(&plan.roles_namespace, Plan::USER_SERVER_ACCOUNT),
        cluster_role(
            Plan::USER_SERVER_ROLE,
            &json!([
                { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
                { "nonResourceURLs": ["/openid/v1/jwks"], "verbs": ["get"] },
            ]),
        ),
        cluster_role_binding(
            Plan::USER_SERVER_ROLE,
            &plan.roles_namespace,
            Plan::USER_SERVER_ACCOUNT,
        ),
    ];
    if plan.user_namespace != plan.roles_namespace {
        objects.push(namespace(&plan.user_namespace));
    }
    objects.push(service_account(&plan.user_namespace, Plan::USER));
    objects
}

/// Accounts and rights on the managed cluster: the service-proxy's, and the hub user's.
pub(super) fn managed(plan: &Plan) -> Vec<Value> {
    let mut objects = vec![
        namespace(&plan.roles_namespace),
        service_account(&plan.roles_namespace, Plan::SERVICE_PROXY_ACCOUNT),
        cluster_role(
            Plan::SERVICE_PROXY_ROLE,
            &json!([
                { "apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"] },
                { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
            ]),
        ),
        cluster_role_binding(
            Plan::SERVICE_PROXY_ROLE,
            &plan.roles_namespace,
            Plan::SERVICE_PROXY_ACCOUNT,
        ),
    ];
    if plan.makes_pods {
        objects.push(namespace(&plan.pods_namespace));
    }
    objects.push(labelled(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": Plan::USER_ROLE, "namespace": plan.pods_namespace },
        "rules": [
            { "apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"] },
        ],
    })));
    objects.push(labelled(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": Plan::USER_ROLE, "namespace": plan.pods_namespace },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": Plan::USER_ROLE,
        },
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "User",
            "name": plan.managed_user_name(),
        }],
    })));
    if plan.makes_pods {
        for name in Plan::PODS {
            objects.push(labelled(json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": name, "namespace": plan.pods_namespace },
                "spec": { "containers": [{ "name": "agent", "image": "embedded" }] },
            })));
        }
    }
    objects
}

/// Makes `objects`, or brings them into this shape.
pub(super) async fn apply(client: &Client, objects: &[Value]) -> Result<()> {
    for object in objects {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let types = object.types.clone().context("an object without a kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.name_any();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("{} {name} cannot be made", types.kind))?;
    }
    Ok(())
}

/// Waits until the pods that were made run.
pub(super) async fn wait_for_pods(client: &Client, plan: &Plan) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &plan.pods_namespace);
    let deadline = tokio::time::Instant::now() + PODS_LIMIT;
    loop {
        let running = pods
            .list(&ListParams::default())
            .await?
            .items
            .iter()
            .all(|pod| {
                let phase = pod
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref());
                phase == Some("Running")
            });
        if running {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "the pods in {} do not run after {PODS_LIMIT:?}",
                plan.pods_namespace
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Removes everything that carries the label, and waits until it is gone; tells how many objects
/// there were.
pub(super) async fn remove(client: &Client) -> Result<usize> {
    let mut removed = 0;
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let labelled = ListParams::default().labels(LABEL);
        for object in all
            .list(&labelled)
            .await
            .with_context(|| format!("listing {kind}s"))?
        {
            let api: Api<DynamicObject> = match object.namespace() {
                Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
                None => all.clone(),
            };
            let name = object.name_any();
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => removed += 1,
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("{kind} {name} cannot be removed"));
                }
            }
        }
    }
    let namespaces =
        Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&namespace_kind()));
    let deadline = tokio::time::Instant::now() + REMOVAL_LIMIT;
    while !namespaces
        .list(&ListParams::default().labels(LABEL))
        .await?
        .items
        .is_empty()
    {
        if tokio::time::Instant::now() > deadline {
            bail!("namespaces with the label {LABEL} are still going after {REMOVAL_LIMIT:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(removed)
}

fn namespace_kind() -> GroupVersionKind {
    GroupVersionKind::gvk("", "v1", "Namespace")
}

fn labelled(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!({ LABEL: "true" });
    object
}

fn namespace(name: &str) -> Value {
    labelled(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
}

fn service_account(namespace: &str, name: &str) -> Value {
    labelled(json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": namespace },
    }))
}

fn cluster_role(name: &str, rules: &Value) -> Value {
    labelled(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": name },
        "rules": rules,
    }))
}

fn cluster_role_binding(role: &str, namespace: &str, account: &str) -> Value {
    labelled(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": role },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
        },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
    }))
}
