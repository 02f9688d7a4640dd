//! Authorization, reviews of it, and impersonation.

use serde_json::{Value, json};

use crate::client::{Client, Space, Target, eventually};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Lets a subject do what the rules say, in the test's namespace.
async fn allow(space: &Space, name: &str, subject: Value, rules: Value) {
    let role = json!({
        "apiVersion": RBAC, "kind": "Role", "metadata": {"name": name}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [subject],
    });
    for (kind, object) in [("roles", role), ("rolebindings", binding)] {
        let path = space.group(RBAC, kind);
        space.admin.post(&path, &object).await.expect(201);
    }
}

/// A request as somebody without rights of its own: by impersonation, which the administrator may.
fn user(target: &Target, name: &str) -> Client {
    target.admin().with("Impersonate-User", name)
}

pub(crate) async fn a_binding_allows_what_its_role_says(target: &Target) {
    let space = Space::new(target).await;
    let name = format!("jane-of-{}", space.name);
    let jane = user(target, &name);
    let all = space.core("configmaps");
    assert_eq!(
        jane.get(&all).await.refused(403, "Forbidden"),
        format!(
            "configmaps is forbidden: User \"{name}\" cannot list resource \"configmaps\" in API \
             group \"\" in the namespace \"{}\"",
            space.name
        )
    );
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
        {
            "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"],
            "resourceNames": ["mine"],
        },
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]);
    allow(
        &space,
        "reader",
        json!({"kind": "User", "name": name}),
        rules,
    )
    .await;
    // A real kube-apiserver authorizes by what it has watched so far.
    eventually("the binding is known", async || {
        let reply = jane.get(&all).await;
        (reply.code == 200).then_some(())
    })
    .await;
    let made = json!({"metadata": {"name": "one"}});
    jane.post(&all, &made).await.refused(403, "Forbidden");
    assert_eq!(
        jane.get(&space.core("secrets/mine"))
            .await
            .refused(404, "NotFound"),
        "secrets \"mine\" not found"
    );
    assert_eq!(
        jane.get(&space.core("secrets/other"))
            .await
            .refused(403, "Forbidden"),
        format!(
            "secrets \"other\" is forbidden: User \"{name}\" cannot get resource \"secrets\" in \
             API group \"\" in the namespace \"{}\"",
            space.name
        )
    );
    jane.get(&space.core("pods/web/log"))
        .await
        .refused(404, "NotFound");
    jane.get(&space.core("pods/web"))
        .await
        .refused(403, "Forbidden");
    assert_eq!(
        jane.get("/api/v1/configmaps")
            .await
            .refused(403, "Forbidden"),
        format!(
            "configmaps is forbidden: User \"{name}\" cannot list resource \"configmaps\" in API \
             group \"\" at the cluster scope"
        )
    );
    assert_eq!(
        jane.get("/metrics").await.refused(403, "Forbidden"),
        format!("forbidden: User \"{name}\" cannot get path \"/metrics\"")
    );
    space.end().await;
}

pub(crate) async fn requests_without_credentials_are_anonymous(target: &Target) {
    let nobody = target.anonymous();
    nobody.get("/version").await.expect(200);
    assert_eq!(nobody.get("/readyz").await.code, 200);
    assert_eq!(
        nobody
            .get("/api/v1/namespaces/default/pods")
            .await
            .refused(403, "Forbidden"),
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \
         \"\" in the namespace \"default\""
    );
    nobody.get("/api").await.refused(403, "Forbidden");
    let wrong = target.with_token("wrong");
    for path in ["/version", "/api/v1/namespaces/default/pods"] {
        assert_eq!(
            wrong.get(path).await.refused(401, "Unauthorized"),
            "Unauthorized"
        );
    }
    // Another scheme, or no token, is as good as nothing.
    let basic = nobody.with("Authorization", "Basic eDp5");
    basic.get("/version").await.expect(200);
    let empty = nobody.with("Authorization", "Bearer ");
    empty.get("/version").await.expect(200);
    // A certificate comes before a token.
    let both = target.admin().with("Authorization", "Bearer wrong");
    both.get("/api/v1/namespaces").await.expect(200);
}

pub(crate) async fn access_reviews_tell_what_is_allowed(target: &Target) {
    let space = Space::new(target).await;
    let name = format!("jane-of-{}", space.name);
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]},
    ]);
    allow(
        &space,
        "lister",
        json!({"kind": "User", "name": name}),
        rules,
    )
    .await;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let may = async |client: &Client, verb: &str| {
        let question = json!({"spec": {"resourceAttributes": {
            "namespace": space.name, "verb": verb, "resource": "configmaps",
        }}});
        client.post(reviews, &question).await.expect(201)["status"].clone()
    };
    let jane = user(target, &name);
    let allowed = eventually("the binding is known", async || {
        let status = may(&jane, "list").await;
        (status["allowed"] == true).then_some(status)
    })
    .await;
    assert_eq!(
        allowed,
        json!({
            "allowed": true,
            "reason": format!(
                "RBAC: allowed by RoleBinding \"lister/{}\" of Role \"lister\" to User \"{name}\"",
                space.name
            ),
        })
    );
    assert_eq!(may(&jane, "delete").await, json!({"allowed": false}));
    assert_eq!(may(&target.admin(), "delete").await["allowed"], true);
    let neither = target.admin().post(reviews, &json!({"spec": {}})).await;
    neither.refused(422, "Invalid");

    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let question = json!({"spec": {
        "user": name,
        "resourceAttributes": {
            "namespace": space.name, "verb": "list", "resource": "configmaps",
        },
    }});
    let answered = space.admin.post(reviews, &question).await.expect(201);
    assert_eq!(answered["status"]["allowed"], true);
    let question = json!({"spec": {
        "user": "x", "groups": ["system:masters"],
        "nonResourceAttributes": {"verb": "get", "path": "/metrics"},
    }});
    let answered = space.admin.post(reviews, &question).await.expect(201);
    assert_eq!(answered["status"]["allowed"], true);
    jane.post(reviews, &question)
        .await
        .refused(403, "Forbidden");

    let local = space.group("authorization.k8s.io/v1", "localsubjectaccessreviews");
    let question = json!({
        "metadata": {"namespace": space.name},
        "spec": {"user": name, "resourceAttributes": {
            "namespace": space.name, "verb": "watch", "resource": "configmaps",
        }},
    });
    let answered = space.admin.post(&local, &question).await.expect(201);
    assert_eq!(answered["status"]["allowed"], false);

    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let question = json!({"spec": {"namespace": space.name}});
    let answered = jane.post(rules, &question).await.expect(201);
    let listed = answered["status"]["resourceRules"].as_array().cloned();
    assert!(
        listed.unwrap_or_default().iter().any(|rule| {
            rule["resources"] == json!(["configmaps"]) && rule["verbs"] == json!(["list"])
        }),
        "{answered}"
    );
    space.end().await;
}

pub(crate) async fn impersonation_needs_its_rights(target: &Target) {
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let who = async |client: &Client| {
        let answered = client.post(whoami, &json!({})).await.expect(201);
        answered["status"]["userInfo"].clone()
    };
    let jane = user(target, "jane");
    assert_eq!(
        who(&jane).await,
        json!({"username": "jane", "groups": ["system:authenticated"]})
    );
    let full = jane
        .with("Impersonate-Group", "staff")
        .with("Impersonate-Uid", "u-1")
        .with("Impersonate-Extra-Scopes", "read")
        .with("Impersonate-Extra-example.com%2Fkey", "v");
    assert_eq!(
        who(&full).await,
        json!({
            "username": "jane",
            "uid": "u-1",
            "groups": ["staff", "system:authenticated"],
            "extra": {"scopes": ["read"], "example.com/key": ["v"]},
        })
    );
    let account = user(target, "system:serviceaccount:a:robot");
    assert_eq!(
        who(&account).await["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated"
        ])
    );
    let nobody = user(target, "system:anonymous");
    let denied = nobody.post(whoami, &json!({})).await;
    denied.refused(403, "Forbidden");
    let groups_alone = target.admin().with("Impersonate-Group", "staff");
    groups_alone.get("/api").await.refused(400, "BadRequest");

    // A token's user, who has no rights: one header too many is a refusal.
    let space = Space::new(target).await;
    let account = json!({"metadata": {"name": "robot"}});
    let path = space.core("serviceaccounts");
    space.admin.post(&path, &account).await.expect(201);
    let path = space.core("serviceaccounts/robot/token");
    let issued = space.admin.post(&path, &json!({})).await.expect(201);
    let token = issued["status"]["token"].as_str().unwrap_or_default();
    let robot = target.with_token(token);
    let name = format!("system:serviceaccount:{}:robot", space.name);
    assert_eq!(who(&robot).await["username"], name.as_str());
    let denied = robot.with("Impersonate-User", "jane").get("/api").await;
    assert_eq!(
        denied.refused(403, "Forbidden"),
        format!(
            "users \"jane\" is forbidden: User \"{name}\" cannot impersonate resource \"users\" \
             in API group \"\" at the cluster scope"
        )
    );
    let other = robot.with("Impersonate-User", "system:serviceaccount:kube-system:x");
    assert_eq!(
        other.get("/api").await.refused(403, "Forbidden"),
        format!(
            "serviceaccounts \"x\" is forbidden: User \"{name}\" cannot impersonate resource \
             \"serviceaccounts\" in API group \"\" in the namespace \"kube-system\""
        )
    );
    space.end().await;
}
