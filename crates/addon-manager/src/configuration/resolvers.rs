//! ManagedProxyServiceResolvers: objects of releases 0.9 and 0.10 that no later one reads.

use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;

use crate::context::Context;
use crate::failure::describe;

/// How many of them lie on the hub; none where their definition is gone, or may not be read.
pub(super) async fn count(context: &Context) -> usize {
    let kind = GroupVersionKind::gvk(
        "proxy.open-cluster-management.io",
        "v1alpha1",
        "ManagedProxyServiceResolver",
    );
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource);
    match api.list_metadata(&ListParams::default()).await {
        Ok(found) => found.items.len(),
        Err(kube::Error::Api(status)) if status.is_not_found() => 0,
        Err(error) => {
            tracing::debug!("ManagedProxyServiceResolvers: {}", describe(&error));
            0
        }
    }
}
