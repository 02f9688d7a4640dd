//! Create, read, update, patch, apply, delete.

use serde_json::{Value, json};

use crate::client::{Space, Target};

fn config_map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"name": name}},
        "data": {"k": value},
    })
}

pub(crate) async fn objects_are_made_read_and_deleted(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all, one) = (
        &space.admin,
        space.core("configmaps"),
        space.core("configmaps/one"),
    );
    let made = admin.post(&all, &config_map("one", "1")).await.expect(201);
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["metadata"]["namespace"], space.name.as_str());
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(made["metadata"][field].is_string(), "{field}");
    }
    let again = admin.post(&all, &config_map("one", "1")).await;
    assert_eq!(
        again.refused(409, "AlreadyExists"),
        "configmaps \"one\" already exists"
    );
    assert_eq!(admin.get(&one).await.expect(200)["data"]["k"], "1");

    admin.post(&all, &config_map("two", "2")).await.expect(201);
    let listed = admin
        .get(&format!("{all}?labelSelector=name+in+(two,three)"))
        .await
        .expect(200);
    assert_eq!(listed["kind"], "ConfigMapList");
    assert!(listed["metadata"]["resourceVersion"].is_string());
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["items"][0]["metadata"]["name"], "two");
    assert_eq!(listed["items"][0].get("kind"), None);
    let by_name = format!("{all}?fieldSelector=metadata.name%3Done");
    let listed = admin.get(&by_name).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));

    let deleted = admin.delete(&one).await.expect(200);
    assert_eq!(deleted["status"], "Success");
    assert_eq!(deleted["details"]["uid"], made["metadata"]["uid"]);
    let gone = admin.get(&one).await;
    assert_eq!(
        gone.refused(404, "NotFound"),
        "configmaps \"one\" not found"
    );
    assert_eq!(
        gone.json()["details"],
        json!({"name": "one", "kind": "configmaps"})
    );
    space.end().await;
}

pub(crate) async fn an_outdated_update_is_refused(target: &Target) {
    let space = Space::new(target).await;
    let (admin, one) = (&space.admin, space.core("configmaps/one"));
    let first = admin
        .post(&space.core("configmaps"), &config_map("one", "1"))
        .await
        .expect(201);
    let mut next = first.clone();
    next["data"]["k"] = "2".into();
    let second = admin.put(&one, &next).await.expect(200);
    assert_ne!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(
        admin.put(&one, &next).await.refused(409, "Conflict"),
        "Operation cannot be fulfilled on configmaps \"one\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    // The same again is no change.
    let same = admin.put(&one, &second).await.expect(200);
    assert_eq!(
        same["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
    let other_uid = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "uid": "other"},
    });
    admin.put(&one, &other_uid).await.refused(409, "Conflict");
    let absent = space.core("configmaps/absent");
    admin
        .put(&absent, &config_map("absent", "1"))
        .await
        .refused(404, "NotFound");
    space.end().await;
}

pub(crate) async fn patches_change_parts(target: &Target) {
    let space = Space::new(target).await;
    let (admin, one) = (&space.admin, space.core("configmaps/one"));
    admin
        .post(&space.core("configmaps"), &config_map("one", "1"))
        .await
        .expect(201);
    let merge = json!({"data": {"k": null, "m": "2"}});
    let merged = admin.patch(&one, "merge-patch+json", &merge).await;
    assert_eq!(merged.expect(200)["data"], json!({"m": "2"}));
    let operations = json!([
        {"op": "test", "path": "/data/m", "value": "2"},
        {"op": "add", "path": "/data/j", "value": "3"},
    ]);
    let patched = admin.patch(&one, "json-patch+json", &operations).await;
    assert_eq!(patched.expect(200)["data"], json!({"m": "2", "j": "3"}));
    let failing = json!([{"op": "test", "path": "/data/m", "value": "9"}]);
    let refused = admin.patch(&one, "json-patch+json", &failing).await;
    assert_eq!(refused.code, 422);
    let outdated = json!({"metadata": {"resourceVersion": "1"}, "data": {"k": "4"}});
    let refused = admin.patch(&one, "merge-patch+json", &outdated).await;
    refused.refused(409, "Conflict");
    admin
        .patch(&one, "patch", &merge)
        .await
        .refused(415, "UnsupportedMediaType");

    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"name": "a", "port": 80}], "selector": {"app": "web"}},
    });
    admin
        .post(&space.core("services"), &service)
        .await
        .expect(201);
    let strategic = json!({"spec": {"ports": [{"name": "b", "port": 81}]}});
    let path = space.core("services/web");
    let patched = admin
        .patch(&path, "strategic-merge-patch+json", &strategic)
        .await
        .expect(200);
    let ports = patched["spec"]["ports"].as_array().cloned();
    let mut ports: Vec<_> = ports
        .unwrap_or_default()
        .iter()
        .map(|port| port["port"].clone())
        .collect();
    ports.sort_by_key(Value::as_i64);
    assert_eq!(ports, [json!(80), json!(81)], "items are merged by key");
    space.end().await;
}

pub(crate) async fn applying_owns_fields(target: &Target) {
    let space = Space::new(target).await;
    let (admin, one) = (&space.admin, space.core("configmaps/one"));
    let apply = async |manager: &str, options: &str, data: Value| {
        let mut object = config_map("one", "");
        object["data"] = data;
        let path = format!("{one}?fieldManager={manager}{options}");
        admin.patch(&path, "apply-patch+yaml", &object).await
    };
    let made = apply("us", "", json!({"a": "1", "b": "1"}))
        .await
        .expect(201);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(entry["manager"], "us");
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["fieldsV1"]["f:data"]["f:a"], json!({}));

    let same = apply("us", "", json!({"a": "1", "b": "1"}))
        .await
        .expect(200);
    assert_eq!(
        same["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let less = apply("us", "", json!({"a": "1"})).await.expect(200);
    assert_eq!(less["data"], json!({"a": "1"}), "b is not stated any more");

    let refused = apply("them", "", json!({"a": "2"})).await;
    assert_eq!(
        refused.refused(409, "Conflict"),
        "Apply failed with 1 conflict: conflict with \"us\": .data.a"
    );
    let forced = apply("them", "&force=true", json!({"a": "2"})).await;
    assert_eq!(forced.expect(200)["data"], json!({"a": "2"}));
    let refused = admin
        .patch(&one, "apply-patch+yaml", &config_map("one", ""))
        .await;
    refused.refused(422, "Invalid");
    space.end().await;
}

pub(crate) async fn a_dry_run_changes_nothing(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all) = (&space.admin, space.core("configmaps"));
    let path = format!("{all}?dryRun=All");
    admin.post(&path, &config_map("one", "1")).await.expect(201);
    admin
        .get(&space.core("configmaps/one"))
        .await
        .refused(404, "NotFound");
    admin.post(&all, &config_map("one", "1")).await.expect(201);
    let path = space.core("configmaps/one?dryRun=All");
    let patch = json!({"data": {"k": "2"}});
    let answered = admin
        .patch(&path, "merge-patch+json", &patch)
        .await
        .expect(200);
    assert_eq!(answered["data"]["k"], "2");
    admin.delete(&path).await.expect(200);
    let found = admin.get(&space.core("configmaps/one")).await.expect(200);
    assert_eq!(found["data"]["k"], "1");
    space.end().await;
}

pub(crate) async fn wrong_objects_are_refused(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all) = (&space.admin, space.core("configmaps"));
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    assert_eq!(
        admin.post(&all, &nameless).await.refused(422, "Invalid"),
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is \
         required"
    );
    let misnamed = admin.post(&all, &config_map("Bad_Name", "1")).await;
    let message = misnamed.refused(422, "Invalid");
    assert!(
        message.starts_with(
            "ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a \
             lowercase RFC 1123 subdomain must consist of"
        ),
        "{message}"
    );
    let cause = &misnamed.json()["details"]["causes"][0];
    assert_eq!(cause["reason"], "FieldValueInvalid");
    assert_eq!(cause["field"], "metadata.name");

    let mut elsewhere = config_map("one", "1");
    elsewhere["metadata"]["namespace"] = "default".into();
    admin
        .post(&all, &elsewhere)
        .await
        .refused(400, "BadRequest");
    let mut other_kind = config_map("one", "1");
    other_kind["kind"] = "Secret".into();
    admin
        .post(&all, &other_kind)
        .await
        .refused(400, "BadRequest");
    let nowhere = admin
        .post(
            "/api/v1/namespaces/absent/configmaps",
            &config_map("one", "1"),
        )
        .await;
    assert_eq!(
        nowhere.refused(404, "NotFound"),
        "namespaces \"absent\" not found"
    );
    // Nothing to list is no error.
    let listed = admin
        .get("/api/v1/namespaces/absent/configmaps")
        .await
        .expect(200);
    assert_eq!(listed["items"], json!([]));

    let large = json!({"metadata": {"name": "x"}, "data": {"k": "x".repeat(4 << 20)}});
    admin
        .post(&all, &large)
        .await
        .refused(413, "RequestEntityTooLarge");
    let generated = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "one-"},
    });
    let made = admin.post(&all, &generated).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    assert_eq!(name.len(), "one-".len() + 5);
    space.end().await;
}

pub(crate) async fn a_collection_is_deleted_by_label(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all) = (&space.admin, space.core("configmaps"));
    for name in ["one", "two"] {
        admin.post(&all, &config_map(name, "1")).await.expect(201);
    }
    admin
        .delete(&format!("{all}?labelSelector=name%3Done"))
        .await
        .expect(200);
    admin
        .get(&space.core("configmaps/one"))
        .await
        .refused(404, "NotFound");
    let two = admin.get(&space.core("configmaps/two")).await.expect(200);

    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": "00000000-0000-0000-0000-000000000000"},
    });
    let path = space.core("configmaps/two");
    let delete = async |options: &Value| {
        let body = options.to_string().into();
        admin
            .send(http::Method::DELETE, &path, "application/json", body)
            .await
    };
    delete(&options).await.refused(409, "Conflict");
    let right = json!({"preconditions": {"uid": two["metadata"]["uid"]}});
    delete(&right).await.expect(200);
    space.end().await;
}

pub(crate) async fn applying_merges_lists_by_key(target: &Target) {
    let space = Space::new(target).await;
    let path = space.group("apps/v1", "deployments/web");
    let apply = async |manager: &str, containers: Value| {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers},
                },
            },
        });
        let path = format!("{path}?fieldManager={manager}");
        space.admin.patch(&path, "apply-patch+yaml", &object).await
    };
    let containers = |object: &Value| -> Vec<(String, String)> {
        let listed = object["spec"]["template"]["spec"]["containers"].as_array();
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        listed
            .into_iter()
            .flatten()
            .map(|it| (text(&it["name"]), text(&it["image"])))
            .collect()
    };
    let owned = |names: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(name, image): &(&str, &str)| ((*name).to_owned(), (*image).to_owned());
        names.iter().map(owned).collect()
    };
    let both = json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]);
    let made = apply("us", both).await.expect(201);
    assert_eq!(containers(&made), owned(&[("a", "a:1"), ("b", "b:1")]));
    let entry = &made["metadata"]["managedFields"][0]["fieldsV1"];
    let fields = &entry["f:spec"]["f:template"]["f:spec"]["f:containers"];
    assert_eq!(
        fields["k:{\"name\":\"a\"}"],
        json!({".": {}, "f:name": {}, "f:image": {}})
    );
    let third = apply("them", json!([{"name": "c", "image": "c:1"}])).await;
    assert_eq!(
        containers(&third.expect(200)),
        owned(&[("a", "a:1"), ("b", "b:1"), ("c", "c:1")])
    );
    let less = apply("us", json!([{"name": "a", "image": "a:2"}])).await;
    assert_eq!(
        containers(&less.expect(200)),
        owned(&[("a", "a:2"), ("c", "c:1")])
    );
    let refused = apply("them", json!([{"name": "a", "image": "a:3"}])).await;
    let message = refused.refused(409, "Conflict");
    assert!(
        message.contains(".spec.template.spec.containers[name=\"a\"].image"),
        "{message}"
    );
    space.end().await;
}

pub(crate) async fn some_kinds_are_made_by_update(target: &Target) {
    let space = Space::new(target).await;
    let admin = &space.admin;
    let path = space.group("coordination.k8s.io/v1", "leases/one");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "one"},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15},
    });
    let made = admin.put(&path, &lease).await.expect(201);
    let without_version = admin.put(&path, &lease).await;
    without_version.refused(422, "Invalid");
    let mut next = made;
    next["spec"]["holderIdentity"] = "you".into();
    let taken = admin.put(&path, &next).await.expect(200);
    assert_eq!(taken["spec"]["holderIdentity"], "you");

    let path = space.group("rbac.authorization.k8s.io/v1", "rolebindings/one");
    let mut binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "one"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
        "subjects": [{"kind": "User", "name": "jane"}],
    });
    let made = admin.put(&path, &binding).await.expect(201);
    assert_eq!(made["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    binding["roleRef"]["name"] = "other".into();
    let message = admin.put(&path, &binding).await.refused(422, "Invalid");
    assert!(message.contains("cannot change roleRef"), "{message}");
    space.end().await;
}
