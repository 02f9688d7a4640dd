use serde_json::json;

use super::*;
use crate::store::Store;

fn store_with(objects: &[(&str, Value)]) -> Store {
    let store = Store::new();
    store
        .write(false, |state| {
            for (shelf, object) in objects {
                state.put(shelf, object.clone());
            }
            aggregation::reconcile(state);
            Ok(())
        })
        .unwrap();
    store
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.to_owned(),
        groups: groups.iter().map(|&it| it.to_owned()).collect(),
        ..User::default()
    }
}

fn reader() -> Vec<(&'static str, Value)> {
    vec![
        (
            ROLES,
            json!({
                "metadata": {"name": "reader", "namespace": "a"},
                "rules": [
                    {"apiGroups": [""], "resources": ["pods", "*/log"], "verbs": ["get", "list"]},
                    {
                        "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"],
                        "resourceNames": ["mine"],
                    },
                ],
            }),
        ),
        (
            ROLE_BINDINGS,
            json!({
                "metadata": {"name": "reader", "namespace": "a"},
                "roleRef": {"kind": "Role", "name": "reader"},
                "subjects": [
                    {"kind": "User", "name": "jane"},
                    {"kind": "ServiceAccount", "name": "robot"},
                ],
            }),
        ),
    ]
}

/// `verb resource[/subresource] namespace name`, with `-` for nothing.
fn may(store: &Store, who: &User, what: &str) -> Decision {
    let words: Vec<_> = what
        .split(' ')
        .map(|word| if word == "-" { "" } else { word })
        .collect();
    let [verb, full, namespace, name] = words.as_slice() else {
        panic!("four words: {what}");
    };
    let (resource, subresource) = full.split_once('/').unwrap_or((full, ""));
    let target = Target::Resource {
        group: "",
        resource,
        subresource,
        namespace,
        name,
    };
    let attributes = Attributes {
        user: who,
        verb,
        target,
    };
    store.read(|view| authorize(view, &attributes))
}

#[test]
fn a_role_binding_allows_in_its_namespace_only() {
    let store = store_with(&reader());
    let jane = user("jane", &[]);
    for (what, allowed) in [
        ("list pods a -", true),
        ("get pods a web", true),
        ("get pods/log a web", true),
        ("get pods/exec a web", false),
        ("delete pods a web", false),
        ("list pods b -", false),
        ("list pods - -", false),
        ("get secrets a mine", true),
        ("get secrets a other", false),
        ("list secrets a -", false),
    ] {
        assert_eq!(may(&store, &jane, what).allowed, allowed, "{what}");
    }
    let decision = may(&store, &jane, "list pods a -");
    assert_eq!(
        decision.reason,
        r#"RBAC: allowed by RoleBinding "reader/a" of Role "reader" to User "jane""#
    );
    let robot = user("system:serviceaccount:a:robot", &[]);
    assert!(may(&store, &robot, "list pods a -").allowed);
    let same_name_elsewhere = user("system:serviceaccount:b:robot", &[]);
    assert!(!may(&store, &same_name_elsewhere, "list pods a -").allowed);
}

#[test]
fn a_missing_role_is_named_in_the_denial() {
    let mut objects = reader();
    objects.remove(0);
    let store = store_with(&objects);
    let jane = user("jane", &[]);
    let attributes = Attributes {
        user: &jane,
        verb: "list",
        target: Target::Resource {
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "a",
            name: "",
        },
    };
    let decision = store.read(|view| authorize(view, &attributes));
    assert_eq!(
        denial(&attributes, &decision).message(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"a\": RBAC: role.rbac.authorization.k8s.io \"reader\" not found"
    );
}

#[test]
fn denials_are_worded_as_by_kubernetes() {
    let jane = user("jane<b>", &[]);
    let none = Decision {
        allowed: false,
        reason: String::new(),
    };
    let say = |verb, target| {
        let attributes = Attributes {
            user: &jane,
            verb,
            target,
        };
        denial(&attributes, &none).message().to_owned()
    };
    assert_eq!(
        say("get", Target::Path("/metrics")),
        r#"forbidden: User "jane&lt;b&gt;" cannot get path "/metrics""#
    );
    let log = Target::Resource {
        group: "apps",
        resource: "deployments",
        subresource: "scale",
        namespace: "",
        name: "web",
    };
    assert_eq!(
        say("get", log),
        "deployments.apps \"web\" is forbidden: User \"jane&lt;b&gt;\" cannot get resource \
         \"deployments/scale\" in API group \"apps\" at the cluster scope"
    );
}

#[test]
fn bootstrap_roles_do_what_their_names_say() {
    let store = store_with(&bootstrap::objects());
    let masters = user("root", &["system:masters"]);
    assert!(may(&store, &masters, "delete nodes - x").allowed);
    let nobody = user("system:anonymous", &["system:unauthenticated"]);
    let path = |who: &User, path| {
        let attributes = Attributes {
            user: who,
            verb: "get",
            target: Target::Path(path),
        };
        store.read(|view| authorize(view, &attributes)).allowed
    };
    assert!(path(&nobody, "/version"));
    assert!(!path(&nobody, "/apis"));
    let somebody = user("jane", &["system:authenticated"]);
    assert!(path(&somebody, "/apis/apps/v1"));
    assert!(!path(&somebody, "/metrics"));
    let account = user("x", &["system:serviceaccounts", "system:authenticated"]);
    assert!(path(&account, "/openid/v1/jwks"));
    assert!(!path(&somebody, "/openid/v1/jwks"));
}

#[test]
fn aggregated_roles_have_the_rules_of_their_parts() {
    let mut objects = bootstrap::objects();
    for role in ["view", "edit", "admin"] {
        objects.push((
            ROLE_BINDINGS,
            json!({
                "metadata": {"name": role, "namespace": "a"},
                "roleRef": {"kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": role}],
            }),
        ));
    }
    let store = store_with(&objects);
    for (who, what, allowed) in [
        ("view", "list pods a -", true),
        ("view", "get pods/log a web", true),
        ("view", "get secrets a x", false),
        ("view", "create pods a -", false),
        ("edit", "list pods a -", true),
        ("edit", "get secrets a x", true),
        ("edit", "create serviceaccounts/token a x", true),
        ("edit", "update pods/status a x", false),
        ("admin", "delete configmaps a x", true),
        ("admin", "delete namespaces a a", false),
    ] {
        let decision = may(&store, &user(who, &[]), what);
        assert_eq!(decision.allowed, allowed, "{who}: {what}");
    }
}
