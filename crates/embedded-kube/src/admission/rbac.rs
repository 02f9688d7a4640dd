//! Roles and bindings: what a rule and a subject have to have
//! (pkg/apis/rbac/validation/validation.go).

use serde_json::Value;

use crate::failure::Cause;
use crate::object;
use crate::resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource};

/// What is wrong with a role or a binding; nothing is with other kinds.
pub(super) fn check(resource: &Resource, object: &Value) -> Vec<Cause> {
    match &*resource.shelf {
        ROLES | CLUSTER_ROLES => object::list(object, "/rules")
            .iter()
            .enumerate()
            .flat_map(|(index, rule)| check_rule(&format!("rules[{index}]"), rule))
            .collect(),
        ROLE_BINDINGS | CLUSTER_ROLE_BINDINGS => {
            let mut causes = check_reference(resource, object);
            let subjects = object::list(object, "/subjects").iter().enumerate();
            causes.extend(subjects.flat_map(|(index, subject)| {
                check_subject(resource, &format!("subjects[{index}]"), subject)
            }));
            causes
        }
        _ => Vec::new(),
    }
}

/// Completes what a binding may leave out.
pub(super) fn default_groups(binding: &mut Value) {
    if let Some(reference) = binding.get_mut("roleRef").and_then(Value::as_object_mut) {
        object::set_default(reference, "apiGroup", GROUP);
    }
    let subjects = binding.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        let of_group = matches!(object::text(subject, "/kind"), "User" | "Group");
        if let (true, Some(subject)) = (of_group, subject.as_object_mut()) {
            object::set_default(subject, "apiGroup", GROUP);
        }
    }
}

fn check_rule(field: &str, rule: &Value) -> Vec<Cause> {
    let is_empty = |list: &str| object::list(rule, &format!("/{list}")).is_empty();
    let mut causes = Vec::new();
    let mut need = |list: &str, why: &str| {
        if is_empty(list) {
            causes.push(Cause::required(&format!("{field}.{list}"), why));
        }
    };
    need("verbs", "verbs must contain at least one value");
    if is_empty("nonResourceURLs") {
        need(
            "apiGroups",
            "resource rules must supply at least one api group",
        );
        need(
            "resources",
            "resource rules must supply at least one resource",
        );
    }
    causes
}

fn check_reference(resource: &Resource, binding: &Value) -> Vec<Cause> {
    let kinds: &[&str] = if resource.namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let mut causes = Vec::new();
    let kind = object::text(binding, "/roleRef/kind");
    if !kinds.contains(&kind) {
        causes.push(Cause::unsupported("roleRef.kind", kind, kinds));
    }
    if object::text(binding, "/roleRef/name").is_empty() {
        causes.push(Cause::required("roleRef.name", ""));
    }
    causes
}

fn check_subject(resource: &Resource, field: &str, subject: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = object::text(subject, "/kind");
    if !SUBJECTS.contains(&kind) {
        causes.push(Cause::unsupported(
            &format!("{field}.kind"),
            kind,
            &SUBJECTS,
        ));
    }
    if object::text(subject, "/name").is_empty() {
        causes.push(Cause::required(&format!("{field}.name"), ""));
    }
    // Within a namespace, an account without one is of that namespace.
    let nowhere = object::text(subject, "/namespace").is_empty() && !resource.namespaced;
    if kind == "ServiceAccount" && nowhere {
        causes.push(Cause::required(&format!("{field}.namespace"), ""));
    }
    causes
}

const GROUP: &str = "rbac.authorization.k8s.io";

const SUBJECTS: [&str; 3] = ["ServiceAccount", "User", "Group"];
