//! Deletion: at once, or marked for whoever has to finish it (finalizers, the kubelet, the
//! namespace controller).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Objects, Scope};
use crate::clock;
use crate::failure::{Cause, Failure};
use crate::object;
use crate::query::{self, Query};
use crate::resources::{DEFINITIONS, NAMESPACES, PODS};
use crate::selectors::Selector;
use crate::store::Transaction;

/// `DeleteOptions`, from the body of a request and its query.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    grace: Option<i64>,
    orphan: bool,
    uid: String,
    version: String,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// # Errors
    /// 422 for values that no deletion has, 400 for what is no number.
    pub(crate) fn parse(query: &Query, body: &Value) -> Result<Self, Failure> {
        let text = |pointer| object::text(body, pointer).to_owned();
        let policy = match object::text(body, "/propagationPolicy") {
            "" => query.get("propagationPolicy"),
            given => given,
        };
        // Foreground is done like Background: dependents go a moment after their owner.
        let orphan = match policy {
            "Orphan" => true,
            "" | "Background" | "Foreground" => false,
            other => {
                let policies = ["Foreground", "Background", "Orphan"];
                let cause = Cause::unsupported("propagationPolicy", other, &policies);
                return Err(Failure::invalid_options(OPTIONS, cause));
            }
        };
        Ok(Self {
            grace: match object::number(body, "/gracePeriodSeconds") {
                Some(seconds) => Some(seconds),
                None => query.number("gracePeriodSeconds")?,
            },
            orphan,
            uid: text("/preconditions/uid"),
            version: text("/preconditions/resourceVersion"),
            dry_run: query.dry_run(OPTIONS)?
                || query::is_dry_run(OPTIONS, object::texts(body, "/dryRun").next())?,
        })
    }
}

/// What became of an object.
#[derive(Debug, Clone)]
pub(crate) enum Deleted {
    Gone(Arc<Value>),
    /// It waits for somebody to finish.
    Marked(Arc<Value>),
}

impl Deleted {
    pub(crate) fn object(&self) -> &Arc<Value> {
        match self {
            Self::Gone(object) | Self::Marked(object) => object,
        }
    }
}

impl Objects {
    /// Deletes one object.
    ///
    /// # Errors
    /// 404, 403 for namespaces that stay, 409 for a precondition that does not hold.
    pub(crate) fn delete(
        &self,
        state: &mut Transaction<'_>,
        scope: Scope<'_>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Failure> {
        let current = scope.current(state, name)?;
        check_preconditions(scope, &current, options)?;
        if scope.shelf() == NAMESPACES && PERMANENT.contains(&name) {
            return Err(Failure::forbidden(
                &scope.resource.subject(name),
                "this namespace may not be deleted",
            ));
        }
        let grace = grace_for(scope, &current, options);
        if scope.shelf() == NAMESPACES || object::has_finalizers(&current) || grace > 0 {
            return Ok(Deleted::Marked(mark(state, scope, &current, grace)));
        }
        if options.orphan {
            orphan_dependents(state, object::uid(&current));
        }
        if scope.shelf() == DEFINITIONS {
            remove_instances(state, &current);
        }
        Ok(Deleted::Gone(state.remove(scope.shelf(), &current)))
    }

    /// Deletes what a selector chooses. What is refused by itself (a namespace that stays) is
    /// passed over.
    pub(crate) fn delete_collection(
        &self,
        state: &mut Transaction<'_>,
        scope: Scope<'_>,
        selector: &Selector,
        options: &DeleteOptions,
    ) -> Vec<Arc<Value>> {
        let within = Some(scope.namespace).filter(|it| !it.is_empty());
        state
            .list(scope.shelf(), within)
            .into_iter()
            .filter(|object| selector.matches(object))
            .filter_map(|object| {
                let inside = Scope {
                    namespace: object::namespace(&object),
                    ..scope
                };
                self.delete(state, inside, object::name(&object), options)
                    .ok()
            })
            .map(|deleted| Arc::clone(deleted.object()))
            .collect()
    }
}

/// Seconds that a deletion waits for a kubelet; 0 for what has none to wait for.
pub(super) fn grace_of(object: &Value) -> i64 {
    object::number(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0)
}

/// A pod that a kubelet runs is given time; any other object is not.
fn grace_for(scope: Scope<'_>, current: &Value, options: &DeleteOptions) -> i64 {
    let runs = scope.shelf() == PODS && !object::text(current, "/spec/nodeName").is_empty();
    if !runs {
        return 0;
    }
    let own = object::number(current, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
    options.grace.unwrap_or(own).max(0)
}

fn mark(
    state: &mut Transaction<'_>,
    scope: Scope<'_>,
    current: &Arc<Value>,
    grace: i64,
) -> Arc<Value> {
    // Asking again changes nothing, unless it shortens the wait.
    if object::is_deleting(current) && grace_of(current) <= grace {
        return Arc::clone(current);
    }
    let mut object = Value::clone(current);
    let end = Timestamp::now()
        .checked_add(SignedDuration::from_secs(grace))
        .unwrap_or(Timestamp::MAX);
    let metadata = object::metadata_mut(&mut object);
    metadata.insert("deletionTimestamp".to_owned(), clock::seconds(end).into());
    if scope.shelf() == NAMESPACES {
        object["status"] = json!({"phase": "Terminating"});
    } else {
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    }
    state.put(scope.shelf(), object)
}

fn check_preconditions(
    scope: Scope<'_>,
    current: &Value,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let about = scope.resource.subject(object::name(current));
    for (what, wanted, found, perhaps) in [
        (
            "UID",
            &options.uid,
            object::uid(current),
            "deleted and then recreated",
        ),
        (
            "ResourceVersion",
            &options.version,
            object::resource_version(current),
            "modified",
        ),
    ] {
        if !wanted.is_empty() && wanted != found {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record \
                 ({found}). The object might have been {perhaps}"
            );
            return Err(Failure::conflict(&about, &why));
        }
    }
    Ok(())
}

/// Takes an owner out of everything that it owns.
fn orphan_dependents(state: &mut Transaction<'_>, owner: &str) {
    let is_owner = |reference: &Value| object::text(reference, "/uid") == owner;
    let dependents: Vec<_> = state
        .everything()
        .filter(|(_, it)| {
            object::list(it, "/metadata/ownerReferences")
                .iter()
                .any(is_owner)
        })
        .map(|(shelf, it)| (shelf.to_owned(), Value::clone(it)))
        .collect();
    for (shelf, mut dependent) in dependents {
        let metadata = object::metadata_mut(&mut dependent);
        if let Some(owners) = metadata
            .get_mut("ownerReferences")
            .and_then(Value::as_array_mut)
        {
            owners.retain(|reference| !is_owner(reference));
            if owners.is_empty() {
                metadata.remove("ownerReferences");
            }
        }
        state.put(&shelf, dependent);
    }
}

/// With a definition go the objects of its kind.
fn remove_instances(state: &mut Transaction<'_>, definition: &Value) {
    let shelf = object::name(definition).to_owned();
    for object in state.list(&shelf, None) {
        state.remove(&shelf, &object);
    }
}

const OPTIONS: &str = "DeleteOptions";

/// Namespaces that cannot be deleted.
const PERMANENT: [&str; 3] = ["default", "kube-public", "kube-system"];
