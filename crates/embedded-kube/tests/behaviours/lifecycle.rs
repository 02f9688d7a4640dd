//! What happens by itself, and custom kinds.

use serde_json::{Value, json};

use crate::client::{Space, Target, eventually};

pub(crate) async fn a_namespace_goes_with_what_is_in_it(target: &Target) {
    let space = Space::new(target).await;
    let admin = target.admin();
    let account = space.core("serviceaccounts/default");
    let made = async || {
        let found = admin.get(&account).await;
        (found.code == 200).then_some(())
    };
    eventually("the default account is there", made).await;
    let root = space.core("configmaps/kube-root-ca.crt");
    let root = eventually("the CA is there", async || {
        let found = admin.get(&root).await;
        (found.code == 200).then(|| found.json())
    })
    .await;
    let pem = root["data"]["ca.crt"].as_str().unwrap_or_default();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    let object = json!({"metadata": {"name": "one"}});
    admin
        .post(&space.core("secrets"), &object)
        .await
        .expect(201);

    let path = format!("/api/v1/namespaces/{}", space.name);
    let active = admin.get(&path).await.expect(200);
    assert_eq!(active["status"]["phase"], "Active");
    let name = active["metadata"]["labels"]["kubernetes.io/metadata.name"].as_str();
    assert_eq!(name, Some(space.name.as_str()));
    let going = admin.delete(&path).await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    eventually("the namespace is gone", async || {
        (admin.get(&path).await.code == 404).then_some(())
    })
    .await;
    admin
        .get(&space.core("secrets/one"))
        .await
        .refused(404, "NotFound");
    admin
        .delete("/api/v1/namespaces/default")
        .await
        .refused(403, "Forbidden");
}

pub(crate) async fn finalizers_hold_an_object(target: &Target) {
    let space = Space::new(target).await;
    let (admin, one) = (&space.admin, space.core("configmaps/one"));
    let object = json!({"metadata": {"name": "one", "finalizers": ["example.com/hold"]}});
    admin
        .post(&space.core("configmaps"), &object)
        .await
        .expect(201);
    let marked = admin.delete(&one).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    admin.get(&one).await.expect(200);
    let free = json!({"metadata": {"finalizers": null}});
    admin
        .patch(&one, "merge-patch+json", &free)
        .await
        .expect(200);
    admin.get(&one).await.refused(404, "NotFound");
    space.end().await;
}

pub(crate) async fn dependents_go_after_their_owner(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all) = (&space.admin, space.core("configmaps"));
    let owner = admin
        .post(&all, &json!({"metadata": {"name": "owner"}}))
        .await
        .expect(201);
    let dependent = |name: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap",
            "name": "owner", "uid": owner["metadata"]["uid"],
        }]}})
    };
    admin.post(&all, &dependent("one")).await.expect(201);
    admin
        .delete(&space.core("configmaps/owner"))
        .await
        .expect(200);
    let one = space.core("configmaps/one");
    eventually("the dependent is gone", async || {
        (admin.get(&one).await.code == 404).then_some(())
    })
    .await;
    space.end().await;
}

pub(crate) async fn custom_kinds_are_served(target: &Target) {
    let space = Space::new(target).await;
    let admin = &space.admin;
    // A group of its own: tests run at once, in one real cluster.
    let group = format!("{}.example.com", space.name);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                ],
            }],
        },
    });
    admin.post(definitions, &definition).await.expect(201);
    let all = space.group(&format!("{group}/v1"), "widgets");
    eventually("the kind is served", async || {
        (admin.get(&all).await.code == 200).then_some(())
    })
    .await;
    let path = format!("{definitions}/widgets.{group}");
    eventually("it is established", async || {
        let found = admin.get(&path).await.expect(200);
        let conditions = found["status"]["conditions"].as_array().cloned()?;
        let established = |it: &Value| it["type"] == "Established" && it["status"] == "True";
        conditions.iter().any(established).then_some(())
    })
    .await;

    let widget = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "one"},
        "spec": {"color": "red"}, "status": {"ready": true},
    });
    let made = admin.post(&all, &widget).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made.get("status"), None, "status has a path of its own");
    let listed = admin.get(&all).await.expect(200);
    assert_eq!(listed["kind"], "WidgetList");
    assert_eq!(listed["items"][0]["kind"], "Widget");

    let mut next = made.clone();
    next["status"] = json!({"ready": true});
    let one = format!("{all}/one");
    let updated = admin.put(&format!("{one}/status"), &next).await.expect(200);
    assert_eq!(updated["status"], json!({"ready": true}));
    assert_eq!(updated["metadata"]["generation"], 1);
    let patch = json!({"spec": {"color": "blue"}, "status": {"ready": false}});
    let patched = admin
        .patch(&one, "merge-patch+json", &patch)
        .await
        .expect(200);
    assert_eq!(patched["spec"]["color"], "blue");
    assert_eq!(patched["status"], json!({"ready": true}));
    assert_eq!(patched["metadata"]["generation"], 2);
    let strategic = admin
        .patch(&one, "strategic-merge-patch+json", &patch)
        .await;
    strategic.refused(415, "UnsupportedMediaType");

    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let shown = target
        .admin()
        .with("Accept", table)
        .get(&one)
        .await
        .expect(200);
    assert_eq!(shown["rows"][0]["cells"], json!(["one", "blue"]));
    let listed = admin.get(&format!("/apis/{group}/v1")).await.expect(200);
    assert_eq!(listed["resources"][0]["name"], "widgets");

    admin.delete(&path).await.expect(200);
    eventually("the kind is gone", async || {
        (admin.get(&all).await.code == 404).then_some(())
    })
    .await;
    space.end().await;
}
