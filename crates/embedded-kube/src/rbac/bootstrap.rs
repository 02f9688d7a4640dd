//! The roles and bindings that every cluster begins with: those of Kubernetes
//! (plugin/pkg/auth/authorizer/rbac/bootstrappolicy) for the kinds that an embedded cluster
//! serves. `view`, `edit` and `admin` are aggregated as there.

use serde_json::{Value, json};

use crate::resources::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES};

/// Each object with the shelf it belongs on.
pub(crate) fn objects() -> Vec<(&'static str, Value)> {
    let roles = roles().into_iter().map(|role| (CLUSTER_ROLES, role));
    let bindings = BINDINGS
        .iter()
        .map(|(role, groups)| (CLUSTER_ROLE_BINDINGS, binding(role, groups)));
    roles.chain(bindings).collect()
}

/// Role, and the groups that have it. A binding is named like its role.
const BINDINGS: [(&str, &[&str]); 5] = [
    ("cluster-admin", &["system:masters"]),
    ("system:basic-user", &["system:authenticated"]),
    ("system:discovery", &["system:authenticated"]),
    (
        "system:public-info-viewer",
        &["system:authenticated", "system:unauthenticated"],
    ),
    (
        "system:service-account-issuer-discovery",
        &["system:serviceaccounts"],
    ),
];

fn roles() -> Vec<Value> {
    let mut roles = vec![
        role(
            "cluster-admin",
            &[],
            json!([rule("*", "*", "*"), paths(&["*"], "*")]),
        ),
        role(
            "system:auth-delegator",
            &[],
            json!([
                rule("authentication.k8s.io", "tokenreviews", "create"),
                rule("authorization.k8s.io", "subjectaccessreviews", "create"),
            ]),
        ),
        role(
            "system:basic-user",
            &[],
            json!([
                rule(
                    "authorization.k8s.io",
                    "selfsubjectaccessreviews selfsubjectrulesreviews",
                    "create"
                ),
                rule("authentication.k8s.io", "selfsubjectreviews", "create"),
            ]),
        ),
        role(
            "system:discovery",
            &[],
            json!([paths(
                &[
                    "/api",
                    "/api/*",
                    "/apis",
                    "/apis/*",
                    "/healthz",
                    "/livez",
                    "/openapi",
                    "/openapi/*",
                    "/readyz",
                    "/version",
                    "/version/",
                ],
                "get"
            )]),
        ),
        role(
            "system:public-info-viewer",
            &[],
            json!([paths(
                &["/healthz", "/livez", "/readyz", "/version", "/version/"],
                "get"
            )]),
        ),
        role(
            "system:service-account-issuer-discovery",
            &[],
            json!([paths(
                &[
                    "/.well-known/openid-configuration",
                    "/.well-known/openid-configuration/",
                    "/openid/v1/jwks",
                    "/openid/v1/jwks/",
                ],
                "get"
            )]),
        ),
    ];
    roles.extend(user_roles());
    roles
}

/// What people are given in a namespace, and the parts that these roles are aggregated of.
fn user_roles() -> Vec<Value> {
    vec![
        aggregated("admin", &[]),
        aggregated("edit", &["admin"]),
        aggregated("view", &["edit"]),
        role(
            "system:aggregate-to-view",
            &["view"],
            json!([
                rule(
                    "",
                    "configmaps pods serviceaccounts services services/status",
                    READ
                ),
                rule("", "events namespaces namespaces/status", READ),
                rule("", "pods/log pods/status", READ),
                rule("apps", "deployments deployments/status", READ),
            ]),
        ),
        role(
            "system:aggregate-to-edit",
            &["edit"],
            json!([
                rule("", "pods/attach pods/exec pods/portforward secrets", READ),
                rule("", "serviceaccounts", "impersonate"),
                rule(
                    "",
                    "configmaps events pods secrets serviceaccounts services",
                    WRITE
                ),
                rule("", "pods/attach pods/exec pods/portforward", WRITE),
                rule("", "serviceaccounts/token", "create"),
                rule("apps", "deployments", WRITE),
                rule("coordination.k8s.io", "leases", READ),
                rule("coordination.k8s.io", "leases", WRITE),
            ]),
        ),
        role(
            "system:aggregate-to-admin",
            &["admin"],
            json!([
                rule(
                    "authorization.k8s.io",
                    "localsubjectaccessreviews",
                    "create"
                ),
                rule("rbac.authorization.k8s.io", "rolebindings roles", READ),
                rule("rbac.authorization.k8s.io", "rolebindings roles", WRITE),
            ]),
        ),
    ]
}

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";

fn role(name: &str, part_of: &[&str], rules: Value) -> Value {
    let mut role = bootstrapped("ClusterRole", name);
    for whole in part_of {
        role["metadata"]["labels"][aggregation_label(whole)] = "true".into();
    }
    role["rules"] = rules;
    role
}

fn aggregated(name: &str, part_of: &[&str]) -> Value {
    let mut role = role(name, part_of, json!([]));
    role["aggregationRule"] =
        json!({"clusterRoleSelectors": [{"matchLabels": {aggregation_label(name): "true"}}]});
    role
}

fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn binding(role: &str, groups: &[&str]) -> Value {
    let mut binding = bootstrapped("ClusterRoleBinding", role);
    binding["roleRef"] = json!({
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": role,
    });
    binding["subjects"] = groups
        .iter()
        .map(|group| {
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group})
        })
        .collect();
    binding
}

fn bootstrapped(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        },
    })
}

/// Resources and verbs are separated by spaces.
fn rule(group: &str, resources: &str, verbs: &str) -> Value {
    json!({"apiGroups": [group], "resources": words(resources), "verbs": words(verbs)})
}

fn paths(urls: &[&str], verb: &str) -> Value {
    json!({"nonResourceURLs": urls, "verbs": [verb]})
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}
