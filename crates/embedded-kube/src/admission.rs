//! What Kubernetes does to an object between the request and the store, kind by kind: defaults,
//! fields that the server sets, and the checks that its clients rely on.
//!
//! Schemas are not enforced: a field that no kind knows is kept. What is checked here is what
//! somebody would miss: a pod without containers, a binding whose role changes.

mod definitions;
mod pods;
mod rbac;

use std::sync::atomic::{AtomicU16, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cluster_proxy_identity::User;
use serde_json::{Map, Value, json};

use crate::failure::{Cause, Failure};
use crate::object;
use crate::resources::{
    CLUSTER_ROLE_BINDINGS, CONFIG_MAPS, DEFINITIONS, NAMESPACES, PODS, ROLE_BINDINGS, Resource,
    SECRETS, SERVICES, Subresource,
};
use crate::store::Transaction;

/// Prepares objects for the store.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Of Services, so far.
    addresses: AtomicU16,
}

impl Admission {
    /// Prepares a new object.
    ///
    /// # Errors
    /// 422 for what is missing or wrong, 403 for what is refused.
    pub(crate) fn create(
        &self,
        state: &Transaction<'_>,
        resource: &Resource,
        user: &User,
        object: &mut Value,
    ) -> Result<(), Failure> {
        if resource.has(Subresource::Status) {
            object::map_mut_of(object).remove("status");
        }
        always(resource, object)?;
        let mut causes = match &*resource.shelf {
            NAMESPACES => {
                new_namespace(object);
                Vec::new()
            }
            PODS => pods::create(state, resource, object)?,
            SERVICES => {
                self.new_service(object);
                missing_ports(object)
            }
            DEFINITIONS => definitions::create(object),
            "deployments.apps" => new_deployment(object),
            "certificatesigningrequests.certificates.k8s.io" => {
                new_signing_request(user, object);
                Vec::new()
            }
            _ => Vec::new(),
        };
        causes.extend(rbac::check(resource, object));
        refuse(resource, object, &causes)
    }

    /// Prepares an object that replaces another.
    ///
    /// # Errors
    /// 422 for a field that cannot change.
    pub(crate) fn update(
        &self,
        resource: &Resource,
        current: &Value,
        object: &mut Value,
    ) -> Result<(), Failure> {
        always(resource, object)?;
        let mut causes = rbac::check(resource, object);
        match &*resource.shelf {
            PODS => causes.extend(pods::update(current, object)),
            ROLE_BINDINGS | CLUSTER_ROLE_BINDINGS
                if object.get("roleRef") != current.get("roleRef") =>
            {
                let reference = object.get("roleRef").unwrap_or(&Value::Null);
                causes.push(Cause::invalid(
                    "roleRef",
                    reference,
                    "cannot change roleRef",
                ));
            }
            SECRETS if object.get("type") != current.get("type") => {
                let kind = object.get("type").unwrap_or(&Value::Null);
                causes.push(Cause::invalid("type", kind, "field is immutable"));
            }
            SERVICES => {
                let spec = object::map_mut(object, "spec");
                for field in ["clusterIP", "clusterIPs", "type", "sessionAffinity"] {
                    if let Some(kept) = current["spec"].get(field) {
                        object::set_default(spec, field, kept.clone());
                    }
                }
            }
            DEFINITIONS => definitions::update(object),
            NAMESPACES => {
                label_namespace(object);
                object["spec"] = current["spec"].clone();
            }
            _ => {}
        }
        refuse(resource, object, &causes)
    }

    /// Addresses are given out and never taken back; nothing listens there.
    fn new_service(&self, object: &mut Value) {
        let spec = object::map_mut(object, "spec");
        object::set_default(spec, "type", "ClusterIP");
        object::set_default(spec, "sessionAffinity", "None");
        if let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                object::set_default(port, "protocol", "TCP");
                let number = port.get("port").cloned().unwrap_or_default();
                object::set_default(port, "targetPort", number);
            }
        }
        if spec.get("type").is_some_and(|it| it == "ExternalName") {
            return;
        }
        if spec.get("clusterIP").is_none_or(|it| it == "") {
            let [high, low] = (self.addresses.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
            spec.insert("clusterIP".to_owned(), format!("10.96.{high}.{low}").into());
        }
        spec.insert("clusterIPs".to_owned(), json!([spec["clusterIP"]]));
    }
}

/// What holds for new and for changed objects.
fn always(resource: &Resource, object: &mut Value) -> Result<(), Failure> {
    match &*resource.shelf {
        CONFIG_MAPS => check_texts(resource, object)?,
        SECRETS => {
            check_texts(resource, object)?;
            let secret = object::map_mut_of(object);
            object::set_default(secret, "type", "Opaque");
            encode_string_data(secret);
        }
        ROLE_BINDINGS | CLUSTER_ROLE_BINDINGS => rbac::default_groups(object),
        _ => {}
    }
    Ok(())
}

fn refuse(resource: &Resource, object: &Value, causes: &[Cause]) -> Result<(), Failure> {
    if causes.is_empty() {
        return Ok(());
    }
    let about = resource.kind_subject(object::name(object));
    Err(Failure::invalid(&about, causes))
}

/// The pointers at which there is nothing, as causes.
fn required(object: &Value, pointers: &[&str]) -> Vec<Cause> {
    pointers
        .iter()
        .filter(|pointer| object.pointer(pointer).is_none())
        .map(|pointer| Cause::required(pointer[1..].replace('/', ".").as_str(), ""))
        .collect()
}

fn new_namespace(object: &mut Value) {
    label_namespace(object);
    object["spec"] = json!({"finalizers": ["kubernetes"]});
    object["status"] = json!({"phase": "Active"});
}

fn label_namespace(object: &mut Value) {
    let name = object::name(object).to_owned();
    let mut metadata = object["metadata"].take();
    object::map_mut(&mut metadata, "labels")
        .insert("kubernetes.io/metadata.name".to_owned(), name.into());
    object["metadata"] = metadata;
}

fn new_deployment(object: &mut Value) -> Vec<Cause> {
    object::set_default(object::map_mut(object, "spec"), "replicas", 1);
    let mut causes = required(
        object,
        &["/spec/selector", "/spec/template/spec/containers"],
    );
    let labels = object.pointer("/spec/template/metadata/labels");
    let wanted = object
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object);
    let missing = wanted
        .into_iter()
        .flatten()
        .any(|(key, value)| labels.and_then(|it| it.get(key)) != Some(value));
    if missing {
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            labels.unwrap_or(&Value::Null),
            "`selector` does not match template `labels`",
        ));
    }
    causes
}

fn missing_ports(service: &Value) -> Vec<Cause> {
    let needs_none = object::text(service, "/spec/type") == "ExternalName"
        || object::text(service, "/spec/clusterIP") == "None";
    if needs_none {
        Vec::new()
    } else {
        required(service, &["/spec/ports"])
    }
}

/// What a ConfigMap or Secret holds is text.
fn check_texts(resource: &Resource, object: &Value) -> Result<(), Failure> {
    for field in ["data", "binaryData", "stringData"] {
        let values = object.get(field).and_then(Value::as_object);
        if values.is_some_and(|values| values.values().any(|it| !it.is_string())) {
            return Err(Failure::bad_request(format!(
                "{kind} in version \"v1\" cannot be handled as a {kind}: {field}: every value has \
                 to be a string",
                kind = resource.kind
            )));
        }
    }
    Ok(())
}

/// Who asked is what the server saw, whatever the request says.
fn new_signing_request(user: &User, object: &mut Value) {
    let spec = object::map_mut(object, "spec");
    spec.insert("username".to_owned(), user.name.as_str().into());
    spec.insert("groups".to_owned(), json!(user.groups));
    let uid = user.uid.as_deref().map(Value::from);
    object::set_or_remove(spec, "uid", uid);
    let extra = (!user.extra.is_empty()).then(|| json!(user.extra));
    object::set_or_remove(spec, "extra", extra);
}

fn encode_string_data(secret: &mut Map<String, Value>) {
    let Some(Value::Object(plain)) = secret.remove("stringData") else {
        return;
    };
    let data = secret
        .entry("data")
        .or_insert_with(|| Value::Object(Map::new()));
    for (key, value) in plain {
        data[key] = BASE64_STANDARD
            .encode(value.as_str().unwrap_or_default())
            .into();
    }
}

#[cfg(test)]
mod tests;
