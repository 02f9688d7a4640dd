//! Server-side apply of objects of any kind, under our field manager.

use std::fmt;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::GroupVersionKind;

use crate::config::FIELD_MANAGER;
use crate::failure::RequestFailure;

/// Which object: its kind and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Group, version and kind.
    pub kind: GroupVersionKind,
    /// The namespace; `None` for kinds of the whole cluster.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Address {
    /// The address of an object that states its kind; one that does not has an empty kind.
    #[must_use]
    pub fn of(object: &DynamicObject) -> Self {
        let kind = object
            .types
            .as_ref()
            .and_then(|types| GroupVersionKind::try_from(types).ok());
        Self {
            kind: kind.unwrap_or_else(|| GroupVersionKind::gvk("", "", "")),
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Access to the objects beside it.
    #[must_use]
    pub fn api(&self, client: &kube::Client) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&self.kind);
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.kind.kind;
        match &self.namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
    }
}

/// Makes the object what `wanted` says, and gives it as it is then. Fields that we applied before
/// and that are not in `wanted` go; fields that others set and that are in it are taken over.
///
/// # Errors
/// When the hub refuses, in its words.
pub async fn apply(
    client: &kube::Client,
    wanted: &DynamicObject,
) -> Result<DynamicObject, RequestFailure> {
    let address = Address::of(wanted);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    address
        .api(client)
        .patch(&address.name, &params, &Patch::Apply(wanted))
        .await
        .map_err(RequestFailure::of("apply", address.to_string()))
}

/// Deletes the very object that was seen with `uid`, if it is still there.
///
/// # Errors
/// When the hub refuses, in its words.
pub async fn delete(
    client: &kube::Client,
    address: &Address,
    uid: &str,
) -> Result<(), RequestFailure> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match address.api(client).delete(&address.name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(RequestFailure::of("delete", address.to_string())(error)),
    }
}
