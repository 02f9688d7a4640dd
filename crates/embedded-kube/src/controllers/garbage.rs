//! Dependents go after their owners (pkg/controller/garbagecollector): an object whose owners are
//! all gone is deleted, and of several owners the gone ones are taken out.

use std::collections::BTreeSet;

use cluster_proxy_identity::User;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::object;
use crate::objects::{DeleteOptions, Scope};
use crate::store::Transaction;

pub(super) fn reconcile(state: &mut Transaction<'_>, cluster: &Cluster, user: &User) {
    for (shelf, dependent) in dependents_of_nobody(state) {
        let owners = object::list(&dependent, "/metadata/ownerReferences");
        let standing: Vec<_> = owners
            .iter()
            .filter(|owner| stands(state, owner))
            .cloned()
            .collect();
        if standing.is_empty() {
            let Some(resource) = cluster.registry.all(state).find(|it| *it.shelf == *shelf) else {
                continue;
            };
            let scope = Scope {
                resource: &resource,
                namespace: object::namespace(&dependent),
                user,
                part: None,
            };
            // Marked already, or held by a finalizer: nothing more to do.
            let name = object::name(&dependent);
            let _ = cluster
                .objects
                .delete(state, scope, name, &DeleteOptions::default());
        } else {
            let mut kept = dependent;
            object::metadata_mut(&mut kept).insert("ownerReferences".to_owned(), standing.into());
            state.put(&shelf, kept);
        }
    }
}

/// Objects with an owner that is not there.
fn dependents_of_nobody(state: &Transaction<'_>) -> Vec<(String, Value)> {
    let uids: BTreeSet<&str> = state
        .everything()
        .map(|(_, object)| object::uid(object))
        .collect();
    state
        .everything()
        .filter(|(_, object)| {
            object::list(object, "/metadata/ownerReferences")
                .iter()
                .any(|owner| !uids.contains(object::text(owner, "/uid")))
        })
        .map(|(shelf, object)| (shelf.to_owned(), Value::clone(object)))
        .collect()
}

fn stands(state: &Transaction<'_>, owner: &Value) -> bool {
    let uid = object::text(owner, "/uid");
    state
        .everything()
        .any(|(_, object)| object::uid(object) == uid)
}
