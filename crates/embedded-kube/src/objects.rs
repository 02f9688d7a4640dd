//! Create, update, patch and delete, with Kubernetes' rules for all kinds: names, namespaces,
//! versions, subresources, generations, finalizers. HTTP comes in by `handlers`, the host program
//! by [`crate::EmbeddedKube`].

mod deletion;

use std::sync::Arc;

use cluster_proxy_identity::User;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::admission::Admission;
use crate::clock;
use crate::failure::{Cause, Failure};
use crate::names;
use crate::object;
use crate::patch::apply::{self, Applier};
use crate::patch::{self, PatchType};
use crate::resources::{CONFIG_MAPS, NAMESPACES, Resource, SERVICE_ACCOUNTS, Subresource};
use crate::store::Transaction;

pub(crate) use deletion::{DeleteOptions, Deleted};

/// What all changes need beside the store.
pub(crate) struct Objects {
    pub(crate) admission: Admission,
    /// The CA certificate that each namespace's `kube-root-ca.crt` holds.
    pub(crate) root_ca: String,
}

/// Where a change happens, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) resource: &'a Resource,
    /// Empty for kinds of the cluster.
    pub(crate) namespace: &'a str,
    pub(crate) user: &'a User,
    /// The part that changes; `None` is the object without its status.
    pub(crate) part: Option<Subresource>,
}

impl Scope<'_> {
    fn shelf(&self) -> &str {
        &self.resource.shelf
    }

    fn current(&self, state: &Transaction<'_>, name: &str) -> Result<Arc<Value>, Failure> {
        // A namespace's own path has its name as namespace.
        let namespace = if self.resource.namespaced {
            self.namespace
        } else {
            ""
        };
        state
            .get(self.shelf(), namespace, name)
            .ok_or_else(|| Failure::not_found(&self.resource.subject(name)))
    }
}

/// A patch, and how it is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patch<'a> {
    pub(crate) kind: PatchType,
    pub(crate) document: &'a Value,
    /// Of server-side apply.
    pub(crate) manager: &'a str,
    pub(crate) force: bool,
}

impl Objects {
    /// Creates an object.
    ///
    /// # Errors
    /// 404 for a namespace that is not there, 409 for a name that is taken, 422 for what is wrong
    /// with the object.
    pub(crate) fn create(
        &self,
        state: &mut Transaction<'_>,
        scope: Scope<'_>,
        mut object: Value,
    ) -> Result<Arc<Value>, Failure> {
        let resource = scope.resource;
        shape(scope, &mut object)?;
        if !object::resource_version(&object).is_empty() {
            return Err(Failure::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let metadata = object::metadata_mut(&mut object);
        for field in SET_BY_SERVER {
            metadata.remove(field);
        }
        name_new(resource, &mut object)?;
        let name = object::name(&object).to_owned();
        check_namespace(state, scope, &name)?;
        if state.get(scope.shelf(), scope.namespace, &name).is_some() {
            return Err(Failure::already_exists(&resource.subject(&name)));
        }
        check_labels(resource, &object)?;
        self.admission
            .create(state, resource, scope.user, &mut object)?;
        let metadata = object::metadata_mut(&mut object);
        metadata.insert("uid".to_owned(), Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".to_owned(), clock::now().into());
        if resource.generation {
            metadata.insert("generation".to_owned(), 1.into());
        }
        let made = state.put(scope.shelf(), object);
        if scope.shelf() == NAMESPACES {
            self.furnish(state, &name);
        }
        Ok(made)
    }

    /// Replaces an object, or one part of it. The second value is whether it was created.
    ///
    /// # Errors
    /// 404, 409 for an outdated resourceVersion, 422.
    pub(crate) fn update(
        &self,
        state: &mut Transaction<'_>,
        scope: Scope<'_>,
        name: &str,
        mut object: Value,
    ) -> Result<(Arc<Value>, bool), Failure> {
        shape(scope, &mut object)?;
        if object::name(&object).is_empty() {
            let metadata = object::metadata_mut(&mut object);
            metadata.insert("name".to_owned(), name.into());
        }
        if object::name(&object) != name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({name})",
                object::name(&object)
            )));
        }
        let current = match scope.current(state, name) {
            Ok(current) => current,
            Err(_) if scope.resource.create_on_update && scope.part.is_none() => {
                object::metadata_mut(&mut object).remove("resourceVersion");
                return self.create(state, scope, object).map(|made| (made, true));
            }
            Err(missing) => return Err(missing),
        };
        self.replace(state, scope, &current, object)
            .map(|updated| (updated, false))
    }

    /// Patches an object, or one part of it. The second value is whether it was created, as
    /// applying does.
    ///
    /// # Errors
    /// 404, 409 for an outdated resourceVersion or another manager's fields, 422.
    pub(crate) fn patch(
        &self,
        state: &mut Transaction<'_>,
        scope: Scope<'_>,
        name: &str,
        patch: Patch<'_>,
    ) -> Result<(Arc<Value>, bool), Failure> {
        let current = scope.current(state, name);
        let mut object = if patch.kind == PatchType::Apply {
            self.applied(scope, current.as_deref().ok(), patch)?
        } else {
            let current = current.as_deref().map_err(Clone::clone)?;
            patch::patched(scope.resource, current, patch.kind, patch.document)?
        };
        match current {
            Ok(_) => self.update(state, scope, name, object),
            Err(missing) if scope.part.is_some() => Err(missing),
            Err(_) => {
                object::metadata_mut(&mut object).remove("resourceVersion");
                self.create(state, scope, object).map(|made| (made, true))
            }
        }
    }

    /// The account and the CA certificate that every namespace begins with. In Kubernetes two
    /// controllers add them a moment later.
    fn furnish(&self, state: &mut Transaction<'_>, namespace: &str) {
        let begun = |kind: &str, name: &str| {
            json!({
                "apiVersion": "v1",
                "kind": kind,
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "uid": Uuid::new_v4().to_string(),
                    "creationTimestamp": clock::now(),
                },
            })
        };
        state.put(SERVICE_ACCOUNTS, begun("ServiceAccount", "default"));
        let mut root_ca = begun("ConfigMap", "kube-root-ca.crt");
        root_ca["data"] = json!({"ca.crt": self.root_ca});
        state.put(CONFIG_MAPS, root_ca);
    }

    fn applied(
        &self,
        scope: Scope<'_>,
        live: Option<&Value>,
        patch: Patch<'_>,
    ) -> Result<Value, Failure> {
        if patch.manager.is_empty() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Failure::invalid_options("PatchOptions", cause));
        }
        let mut wanted = patch.document.clone();
        for field in ["/apiVersion", "/kind", "/metadata/name"] {
            if object::text(&wanted, field).is_empty() {
                let field = field[1..].replace('/', ".");
                return Err(Failure::bad_request(format!(
                    "an applied configuration has to have {field}"
                )));
            }
        }
        shape(scope, &mut wanted)?;
        let applier = Applier {
            manager: patch.manager,
            force: patch.force,
            subresource: scope.part.map(Subresource::name).unwrap_or_default(),
        };
        apply::apply(scope.resource, live, &wanted, applier)
    }

    fn replace(
        &self,
        state: &mut Transaction<'_>,
        scope: Scope<'_>,
        current: &Arc<Value>,
        mut object: Value,
    ) -> Result<Arc<Value>, Failure> {
        let resource = scope.resource;
        check_identity(scope, current, &object)?;
        keep_system_metadata(current, &mut object);
        match scope.part {
            None => {
                if resource.has(Subresource::Status) {
                    let status = current.get("status").cloned();
                    object::set_or_remove(object::map_mut_of(&mut object), "status", status);
                }
                check_labels(resource, &object)?;
                self.admission.update(resource, current, &mut object)?;
            }
            Some(part) => object = with_part(current, &object, part),
        }
        if object::is_deleting(current) && !object::has_finalizers(&object) {
            let waits_for_kubelet = deletion::grace_of(current) > 0;
            let is_namespace = scope.shelf() == NAMESPACES;
            let finalized = object::list(&object, "/spec/finalizers").is_empty();
            if !waits_for_kubelet && (!is_namespace || finalized) {
                return Ok(state.remove(scope.shelf(), &object));
            }
        }
        if object == **current {
            return Ok(Arc::clone(current));
        }
        if resource.generation && wish_of(&object) != wish_of(current) {
            let generation = object::number(current, "/metadata/generation").unwrap_or(0) + 1;
            object::metadata_mut(&mut object).insert("generation".to_owned(), generation.into());
        }
        Ok(state.put(scope.shelf(), object))
    }
}

/// Checks that a body is an object of this kind and place, and completes what the path says.
fn shape(scope: Scope<'_>, object: &mut Value) -> Result<(), Failure> {
    let resource = scope.resource;
    let map = check_kind(resource, object)?;
    if map
        .get("metadata")
        .is_some_and(|it| !it.is_object() && !it.is_null())
    {
        return Err(Failure::bad_request("metadata is no JSON object"));
    }
    object::drop_nulls(object);
    for field in ["labels", "annotations"] {
        let texts = object["metadata"].get(field).and_then(Value::as_object);
        if texts.is_some_and(|texts| texts.values().any(|it| !it.is_string())) {
            return Err(Failure::bad_request(format!(
                "metadata.{field}: every value has to be a string"
            )));
        }
    }
    let stated = object::namespace(object).to_owned();
    let metadata = object::metadata_mut(object);
    if !resource.namespaced {
        metadata.remove("namespace");
    } else if !stated.is_empty() && stated != scope.namespace {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    } else {
        metadata.insert("namespace".to_owned(), scope.namespace.into());
    }
    Ok(())
}

/// Checks that a body is a map that says to be this kind, or says nothing.
///
/// # Errors
/// 400.
pub(crate) fn check_kind<'a>(
    resource: &Resource,
    object: &'a mut Value,
) -> Result<&'a mut Map<String, Value>, Failure> {
    let Some(map) = object.as_object_mut() else {
        return Err(Failure::bad_request("the body is no JSON object"));
    };
    let api_version = resource.api_version();
    for (field, expected) in [("apiVersion", &api_version), ("kind", &resource.kind)] {
        object::set_default(map, field, expected.as_str());
        if map[field] != expected.as_str() {
            return Err(Failure::bad_request(format!(
                "the {field} in the data ({}) does not match the expected {field} ({expected})",
                map[field]
            )));
        }
    }
    Ok(map)
}

fn name_new(resource: &Resource, object: &mut Value) -> Result<(), Failure> {
    let prefix = object::text(object, "/metadata/generateName").to_owned();
    if object::name(object).is_empty() && !prefix.is_empty() {
        let name = names::generate(&prefix);
        object::metadata_mut(object).insert("name".to_owned(), name.into());
    }
    let name = object::name(object);
    let cause = if name.is_empty() {
        Some(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ))
    } else {
        names::check(resource.names, name)
    };
    match cause {
        Some(cause) => Err(Failure::invalid(&resource.kind_subject(name), &[cause])),
        None => Ok(()),
    }
}

fn check_labels(resource: &Resource, object: &Value) -> Result<(), Failure> {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    let causes: Vec<_> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| names::check_label(key, object::text(value, "")))
        .collect();
    if causes.is_empty() {
        return Ok(());
    }
    let about = resource.kind_subject(object::name(object));
    Err(Failure::invalid(&about, &causes))
}

/// Nothing is made in a namespace that is not there, or that is going.
fn check_namespace(state: &Transaction<'_>, scope: Scope<'_>, name: &str) -> Result<(), Failure> {
    if !scope.resource.namespaced {
        return Ok(());
    }
    let Some(namespace) = state.get(NAMESPACES, "", scope.namespace) else {
        let about = crate::failure::Subject {
            resource: NAMESPACES,
            name: scope.namespace,
            ..Default::default()
        };
        return Err(Failure::not_found(&about));
    };
    if !object::is_deleting(&namespace) {
        return Ok(());
    }
    let message = format!(
        "unable to create new content in namespace {} because it is being terminated",
        scope.namespace
    );
    let cause = format!("namespace {} is being terminated", scope.namespace);
    Err(
        Failure::forbidden(&scope.resource.subject(name), &message).with_cause(
            "NamespaceTerminating",
            &cause,
            "metadata.namespace",
        ),
    )
}

/// The object that is replaced is the one that its author saw.
fn check_identity(scope: Scope<'_>, current: &Value, object: &Value) -> Result<(), Failure> {
    let name = object::name(current);
    let about = scope.resource.subject(name);
    let (uid, version) = (object::uid(object), object::resource_version(object));
    if !uid.is_empty() && uid != object::uid(current) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(current)
        );
        return Err(Failure::conflict(&about, &why));
    }
    if version.is_empty() && !scope.resource.unconditional_update {
        let why = "must be specified for an update";
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), why);
        return Err(Failure::invalid(
            &scope.resource.kind_subject(name),
            &[cause],
        ));
    }
    if !version.is_empty() && version != object::resource_version(current) {
        return Err(Failure::conflict(
            &about,
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        ));
    }
    Ok(())
}

/// Metadata that only the server changes.
fn keep_system_metadata(current: &Value, object: &mut Value) {
    let kept = &current["metadata"];
    let metadata = object::metadata_mut(object);
    for field in SET_BY_SERVER.into_iter().chain(["resourceVersion"]) {
        object::set_or_remove(metadata, field, kept.get(field).cloned());
    }
    if let Some(managed) = kept.get("managedFields") {
        object::set_default(metadata, "managedFields", managed.clone());
    }
}

/// The current object with one part of another.
fn with_part(current: &Value, object: &Value, part: Subresource) -> Value {
    let mut merged = current.clone();
    let managed = object["metadata"].get("managedFields").cloned();
    object::set_or_remove(object::metadata_mut(&mut merged), "managedFields", managed);
    match part {
        Subresource::Status => {
            let status = object.get("status").cloned();
            object::set_or_remove(object::map_mut_of(&mut merged), "status", status);
        }
        Subresource::Finalize => {
            let finalizers = object.pointer("/spec/finalizers").cloned();
            object::set_or_remove(
                object::map_mut(&mut merged, "spec"),
                "finalizers",
                finalizers,
            );
        }
        Subresource::Approval => {
            let conditions = object.pointer("/status/conditions").cloned();
            object::set_or_remove(
                object::map_mut(&mut merged, "status"),
                "conditions",
                conditions,
            );
        }
        Subresource::Token
        | Subresource::Log
        | Subresource::Exec
        | Subresource::Attach
        | Subresource::PortForward => {}
    }
    merged
}

/// Everything whose change is a new generation.
fn wish_of(object: &Value) -> Value {
    let mut wish = object.clone();
    let map = object::map_mut_of(&mut wish);
    map.remove("metadata");
    map.remove("status");
    wish
}

/// Fields of metadata that are taken from nobody.
const SET_BY_SERVER: [&str; 6] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "selfLink",
    "uid",
];

#[cfg(test)]
mod tests;
