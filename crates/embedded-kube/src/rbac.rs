//! Authorization by roles and bindings, rule for rule as in Kubernetes
//! (plugin/pkg/auth/authorizer/rbac and pkg/apis/rbac/v1/evaluation_helpers.go).
//!
//! Not here: the check that nobody grants by a role what they do not have themselves
//! (`escalate`, `bind`), and the Node authorizer.

pub(crate) mod aggregation;
pub(crate) mod bootstrap;

use cluster_proxy_identity::User;
use cluster_proxy_kube_api::names::{MASTERS_GROUP, SERVICE_ACCOUNT_USER_PREFIX};
use serde_json::Value;

use crate::failure::{Failure, Subject};
use crate::object;
use crate::resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES};
use crate::store::Transaction;

/// Who wants to do what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a User,
    pub(crate) verb: &'a str,
    pub(crate) target: Target<'a>,
}

/// What it is to be done to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    Resource {
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        /// Empty: the cluster, or all namespaces.
        namespace: &'a str,
        name: &'a str,
    },
    Path(&'a str),
}

/// Whether it may be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Empty where there is nothing to say.
    pub(crate) reason: String,
}

/// Decides. Nobody is denied by a rule; whom no rule allows may not.
pub(crate) fn authorize(store: &Transaction<'_>, attributes: &Attributes<'_>) -> Decision {
    if attributes.user.groups.iter().any(|it| it == MASTERS_GROUP) {
        return Decision {
            allowed: true,
            reason: String::new(),
        };
    }
    let namespace = match attributes.target {
        Target::Resource { namespace, .. } => namespace,
        Target::Path(_) => "",
    };
    let mut missing = Vec::new();
    for grant in grants(store, attributes.user, namespace) {
        match grant {
            Ok(grant) => {
                if grant.rules.iter().any(|rule| allows(rule, attributes)) {
                    return Decision {
                        allowed: true,
                        reason: format!("RBAC: allowed by {}", grant.source),
                    };
                }
            }
            Err(role) => missing.push(role),
        }
    }
    let reason = match missing.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        several => format!("RBAC: [{}]", several.join(", ")),
    };
    Decision {
        allowed: false,
        reason,
    }
}

/// The answer to whom [`authorize`] did not allow something, in the kube-apiserver's words.
pub(crate) fn denial(attributes: &Attributes<'_>, decision: &Decision) -> Failure {
    let (user, verb) = (&attributes.user.name, attributes.verb);
    let (about, mut message) = match attributes.target {
        Target::Path(path) => (
            Subject::default(),
            format!("User {user:?} cannot {verb} path {path:?}"),
        ),
        Target::Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
        } => {
            let full = combined(resource, subresource);
            let scope = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            let about = Subject {
                group,
                resource,
                name,
            };
            let message = format!(
                "User {user:?} cannot {verb} resource {full:?} in API group {group:?} {scope}"
            );
            (about, message)
        }
    };
    // Nothing that a browser could take for HTML.
    message = message
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    if !decision.reason.is_empty() {
        message = format!("{message}: {}", decision.reason);
    }
    Failure::forbidden(&about, &message)
}

/// The rules that apply to a user in a namespace, for SelfSubjectRulesReview: resource rules,
/// rules for paths, and what could not be resolved.
pub(crate) fn rules_for(
    store: &Transaction<'_>,
    user: &User,
    namespace: &str,
) -> (Vec<Value>, Vec<Value>, String) {
    let mut resources = Vec::new();
    let mut paths = Vec::new();
    let mut missing = Vec::new();
    for grant in grants(store, user, namespace) {
        match grant {
            Ok(grant) => {
                for rule in grant.rules {
                    let listed = if object::list(&rule, "/resources").is_empty() {
                        &mut paths
                    } else {
                        &mut resources
                    };
                    listed.push(rule);
                }
            }
            Err(role) => missing.push(role),
        }
    }
    (resources, paths, missing.join(", "))
}

/// `pods` or `pods/log`.
fn combined(resource: &str, subresource: &str) -> String {
    if subresource.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}/{subresource}")
    }
}

/// A binding that applies, with the rules of its role.
struct Grant {
    source: String,
    rules: Vec<Value>,
}

/// The bindings of the cluster and of the namespace that name the user, in that order. An `Err`
/// says which role does not exist.
fn grants(
    store: &Transaction<'_>,
    user: &User,
    namespace: &str,
) -> impl Iterator<Item = Result<Grant, String>> {
    let of_cluster = store.list(CLUSTER_ROLE_BINDINGS, None);
    let of_namespace = if namespace.is_empty() {
        Vec::new()
    } else {
        store.list(ROLE_BINDINGS, Some(namespace))
    };
    of_cluster
        .into_iter()
        .chain(of_namespace)
        .filter_map(move |binding| {
            let within = object::namespace(&binding);
            let subject = object::list(&binding, "/subjects")
                .iter()
                .find(|subject| names(subject, user, within))?;
            let role = object::text(&binding, "/roleRef/name");
            let kind = object::text(&binding, "/roleRef/kind");
            let found = match kind {
                "Role" if !within.is_empty() => store.get(ROLES, within, role),
                "ClusterRole" => store.get(CLUSTER_ROLES, "", role),
                _ => {
                    return Some(Err(format!("unsupported role reference kind: {kind:?}")));
                }
            };
            let Some(found) = found else {
                let kind = kind.to_ascii_lowercase();
                return Some(Err(format!(
                    "{kind}.rbac.authorization.k8s.io {role:?} not found"
                )));
            };
            Some(Ok(Grant {
                source: describe(&binding, subject),
                rules: object::list(&found, "/rules").to_vec(),
            }))
        })
}

/// Whether a binding's subject is the user. Within a namespace, a service account without one is
/// of that namespace.
fn names(subject: &Value, user: &User, within: &str) -> bool {
    let name = object::text(subject, "/name");
    match object::text(subject, "/kind") {
        "User" => user.name == name,
        "Group" => user.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let namespace = match object::text(subject, "/namespace") {
                "" => within,
                given => given,
            };
            !namespace.is_empty()
                && user
                    .name
                    .strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)
                    .and_then(|rest| rest.split_once(':'))
                    == Some((namespace, name))
        }
        _ => false,
    }
}

fn describe(binding: &Value, subject: &Value) -> String {
    let name = object::name(binding);
    let namespace = object::namespace(binding);
    let (kind, full_name) = if namespace.is_empty() {
        ("ClusterRoleBinding", name.to_owned())
    } else {
        ("RoleBinding", format!("{name}/{namespace}"))
    };
    let subject_kind = object::text(subject, "/kind");
    let subject_name = object::text(subject, "/name");
    let subject_full = match (subject_kind, object::text(subject, "/namespace")) {
        ("ServiceAccount", "") => format!("{subject_name}/{namespace}"),
        ("ServiceAccount", own) => format!("{subject_name}/{own}"),
        _ => subject_name.to_owned(),
    };
    format!(
        "{kind} {full_name:?} of {} {:?} to {subject_kind} {subject_full:?}",
        object::text(binding, "/roleRef/kind"),
        object::text(binding, "/roleRef/name"),
    )
}

fn allows(rule: &Value, attributes: &Attributes<'_>) -> bool {
    let any = |field: &str, wanted: &str| {
        object::texts(rule, field).any(|value| value == "*" || value == wanted)
    };
    if !any("/verbs", attributes.verb) {
        return false;
    }
    match attributes.target {
        Target::Path(path) => object::texts(rule, "/nonResourceURLs").any(|url| {
            url == path
                || url
                    .strip_suffix('*')
                    .is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
        }),
        Target::Resource {
            group,
            resource,
            subresource,
            name,
            ..
        } => {
            any("/apiGroups", group)
                && resource_matches(rule, resource, subresource)
                && (object::list(rule, "/resourceNames").is_empty()
                    || object::texts(rule, "/resourceNames").any(|it| it == name))
        }
    }
}

/// `*` is everything, `*/log` that subresource of everything; `pods` does not mean `pods/log`, and
/// `pods/*` means nothing.
fn resource_matches(rule: &Value, resource: &str, subresource: &str) -> bool {
    let full = combined(resource, subresource);
    object::texts(rule, "/resources").any(|it| {
        it == "*"
            || it == full
            || (!subresource.is_empty() && it.strip_prefix("*/") == Some(subresource))
    })
}

#[cfg(test)]
mod tests;
