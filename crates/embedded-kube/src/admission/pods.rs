//! Pods: defaults, the service account they run as, and that their spec stays as it is.

use serde_json::{Value, json};

use crate::failure::{Cause, Failure};
use crate::names;
use crate::object;
use crate::resources::{Resource, SERVICE_ACCOUNTS};
use crate::store::Transaction;

pub(super) fn create(
    state: &Transaction<'_>,
    resource: &Resource,
    pod: &mut Value,
) -> Result<Vec<Cause>, Failure> {
    let spec = object::map_mut(pod, "spec");
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("serviceAccountName", json!("default")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
    ] {
        object::set_default(spec, field, value);
    }
    spec.insert(
        "serviceAccount".to_owned(),
        spec["serviceAccountName"].clone(),
    );
    if let Some(containers) = spec.get_mut("containers").and_then(Value::as_array_mut) {
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            let policy = pull_policy(container.get("image"));
            object::set_default(container, "imagePullPolicy", policy);
            object::set_default(container, "resources", json!({}));
        }
    }
    pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    check_account(state, resource, pod)?;
    Ok(check_containers(pod))
}

/// An image without a tag, or with `latest`, may change behind its name.
fn pull_policy(image: Option<&Value>) -> &'static str {
    let image = image.and_then(Value::as_str).unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.split_once(':') {
        Some((_, tag)) if tag != "latest" => "IfNotPresent",
        Some(_) => "Always",
        None if name.contains('@') => "IfNotPresent",
        None => "Always",
    }
}

/// Everything but a few fields of a pod's spec is as it was made.
pub(super) fn update(current: &Value, pod: &Value) -> Option<Cause> {
    (frozen(&current["spec"]) != frozen(&pod["spec"])).then(|| {
        Cause::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
             additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to \
             be set to 1 if it was previously negative)",
        )
    })
}

/// A spec without what may change.
fn frozen(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        for field in [
            "activeDeadlineSeconds",
            "terminationGracePeriodSeconds",
            "tolerations",
        ] {
            fields.remove(field);
        }
        for list in ["containers", "initContainers"] {
            let containers = fields.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                }
            }
        }
    }
    spec
}

/// The ServiceAccount admission plugin: a pod runs as an account that exists.
fn check_account(state: &Transaction<'_>, resource: &Resource, pod: &Value) -> Result<(), Failure> {
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let account = object::text(pod, "/spec/serviceAccountName");
    if state.get(SERVICE_ACCOUNTS, namespace, account).is_some() {
        return Ok(());
    }
    let why = format!(
        "error looking up service account {namespace}/{account}: serviceaccount {account:?} not \
         found"
    );
    Err(Failure::forbidden(&resource.subject(name), &why))
}

fn check_containers(pod: &Value) -> Vec<Cause> {
    let containers = object::list(pod, "/spec/containers");
    if containers.is_empty() {
        return vec![Cause::required("spec.containers", "")];
    }
    let mut causes = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let name = object::text(container, "/name");
        let field = format!("spec.containers[{index}].name");
        let taken = containers[..index].iter().any(|it| it["name"] == name);
        if name.is_empty() {
            causes.push(Cause::required(&field, ""));
        } else if !names::is_label(name) {
            causes.push(names::not_a_label(&field, name));
        } else if taken {
            causes.push(Cause::duplicate(&field, &name.into()));
        }
        if object::text(container, "/image").is_empty() {
            let field = format!("spec.containers[{index}].image");
            causes.push(Cause::required(&field, ""));
        }
    }
    causes
}
