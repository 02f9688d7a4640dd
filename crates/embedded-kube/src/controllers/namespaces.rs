//! Namespaces that go: first all that is in them, then they themselves
//! (pkg/controller/namespace).

use cluster_proxy_identity::User;

use crate::cluster::Cluster;
use crate::object;
use crate::objects::{DeleteOptions, Scope};
use crate::resources::NAMESPACES;
use crate::store::Transaction;

pub(super) fn reconcile(state: &mut Transaction<'_>, cluster: &Cluster, user: &User) {
    for namespace in state.list(NAMESPACES, None) {
        if object::is_deleting(&namespace)
            && is_empty(state, cluster, user, object::name(&namespace))
        {
            state.remove(NAMESPACES, &namespace);
        }
    }
}

/// Deletes what is in a namespace; `true` once nothing is.
fn is_empty(state: &mut Transaction<'_>, cluster: &Cluster, user: &User, namespace: &str) -> bool {
    let content: Vec<_> = state
        .everything()
        .filter(|(_, object)| object::namespace(object) == namespace)
        .map(|(shelf, object)| (shelf.to_owned(), object::name(object).to_owned()))
        .collect();
    for (shelf, name) in &content {
        let Some(resource) = cluster.registry.all(state).find(|it| *it.shelf == **shelf) else {
            continue;
        };
        let scope = Scope {
            resource: &resource,
            namespace,
            user,
            part: None,
        };
        // A refusal would be one of its owner's finalizers or versions; the next look tries again.
        let _ = cluster
            .objects
            .delete(state, scope, name, &DeleteOptions::default());
    }
    content.is_empty()
}
