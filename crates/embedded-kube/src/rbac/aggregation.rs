//! Aggregated roles: their rules are those of the roles that their selectors choose, copied
//! whenever one of them changes (pkg/controller/clusterroleaggregation).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::object;
use crate::resources::CLUSTER_ROLES;
use crate::store::Transaction;

/// Brings every aggregated role up to date.
pub(crate) fn reconcile(state: &mut Transaction<'_>) {
    let roles = state.list(CLUSTER_ROLES, None);
    for role in roles.iter().filter(|role| !selectors(role).is_empty()) {
        let mut rules = Vec::new();
        collect(&roles, role, &mut BTreeSet::new(), &mut rules);
        if object::list(role, "/rules") != rules.as_slice() {
            let mut role = Value::clone(role);
            role["rules"] = rules.into();
            state.put(CLUSTER_ROLES, role);
        }
    }
}

/// The rules of the plain roles that `of` is made of. An aggregated role may be part of another
/// (`view` of `edit` of `admin`), and even of itself by a detour: each role counts once.
fn collect<'a>(
    roles: &'a [Arc<Value>],
    of: &'a Value,
    seen: &mut BTreeSet<&'a str>,
    rules: &mut Vec<Value>,
) {
    if !seen.insert(object::name(of)) {
        return;
    }
    let selectors = selectors(of);
    if selectors.is_empty() {
        for rule in object::list(of, "/rules") {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    for part in roles {
        if selectors.iter().any(|it| selects(it, part)) {
            collect(roles, part, seen, rules);
        }
    }
}

fn selectors(role: &Value) -> &[Value] {
    object::list(role, "/aggregationRule/clusterRoleSelectors")
}

/// `matchLabels` only, which is all that aggregation uses in practice.
fn selects(selector: &Value, role: &Value) -> bool {
    let Some(wanted) = selector.get("matchLabels").and_then(Value::as_object) else {
        return false;
    };
    let labels = role.pointer("/metadata/labels");
    !wanted.is_empty()
        && wanted
            .iter()
            .all(|(key, value)| labels.and_then(|it| it.get(key)) == Some(value))
}
