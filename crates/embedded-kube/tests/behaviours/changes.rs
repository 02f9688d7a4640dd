//! Watches.

use serde_json::{Value, json};

use crate::client::{Client, Space, Target};

fn config_map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"value": value}}, "data": {"k": value}})
}

/// The version of a list: where a watch that misses nothing begins.
async fn version(admin: &Client, all: &str) -> String {
    let listed = admin.get(all).await.expect(200);
    let version = listed["metadata"]["resourceVersion"].as_str();
    version.expect("a list has a version").to_owned()
}

fn named(event: &(String, Value)) -> (&str, &str) {
    let name = event.1["metadata"]["name"].as_str();
    (&event.0, name.unwrap_or_default())
}

pub(crate) async fn a_watch_tells_every_change(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all) = (&space.admin, space.core("configmaps"));
    let version = version(admin, &all).await;
    let made = admin.post(&all, &config_map("one", "1")).await.expect(201);
    // In a real cluster, the namespace's own ConfigMap may come in between.
    let path = format!("{all}?watch=1&resourceVersion={version}&labelSelector=value");
    let mut watch = admin.stream(&path).await;
    let event = watch.event().await;
    assert_eq!(named(&event), ("ADDED", "one"));
    assert_eq!(event.1, made);

    let one = space.core("configmaps/one");
    let patch = json!({"data": {"k": "2"}});
    admin
        .patch(&one, "merge-patch+json", &patch)
        .await
        .expect(200);
    let event = watch.event().await;
    assert_eq!(named(&event), ("MODIFIED", "one"));
    assert_eq!(event.1["data"]["k"], "2");
    admin.delete(&one).await.expect(200);
    let (kind, gone) = watch.event().await;
    assert_eq!(kind, "DELETED");
    assert_ne!(
        gone["metadata"]["resourceVersion"],
        event.1["metadata"]["resourceVersion"]
    );

    let ending = format!("{all}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let mut watch = admin.stream(&ending).await;
    while watch.next().await.is_some() {}
    space.end().await;
}

pub(crate) async fn a_watch_sees_through_its_selector(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all) = (&space.admin, space.core("configmaps"));
    let version = version(admin, &all).await;
    let path = format!("{all}?watch=1&resourceVersion={version}&labelSelector=value%3Dyes");
    let mut watch = admin.stream(&path).await;
    admin.post(&all, &config_map("one", "no")).await.expect(201);
    let one = space.core("configmaps/one");
    for (value, expected) in [("yes", "ADDED"), ("no", "DELETED")] {
        let patch = json!({"metadata": {"labels": {"value": value}}});
        admin
            .patch(&one, "merge-patch+json", &patch)
            .await
            .expect(200);
        assert_eq!(named(&watch.event().await), (expected, "one"));
    }
    let by_name = format!("{all}?watch=1&fieldSelector=metadata.name%3Dtwo");
    let mut watch = admin.stream(&by_name).await;
    admin.post(&all, &config_map("two", "1")).await.expect(201);
    assert_eq!(named(&watch.event().await), ("ADDED", "two"));
    space.end().await;
}

pub(crate) async fn a_watch_can_begin_with_what_is_there(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all) = (&space.admin, space.core("configmaps"));
    admin.post(&all, &config_map("one", "1")).await.expect(201);
    let mut watch = admin
        .stream(&format!("{all}?watch=1&labelSelector=value"))
        .await;
    assert_eq!(named(&watch.event().await), ("ADDED", "one"));

    let path = format!(
        "{all}?watch=1&labelSelector=value&sendInitialEvents=true\
         &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = admin.stream(&path).await;
    assert_eq!(named(&watch.event().await), ("ADDED", "one"));
    let (kind, bookmark) = watch.event().await;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(bookmark["kind"], "ConfigMap");
    space.end().await;
}
