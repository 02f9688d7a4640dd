use serde_json::json;

use super::*;

fn config_map(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}})
}

fn put(store: &Store, object: Value) -> Arc<Value> {
    store
        .write(false, |state| Ok(state.put("configmaps", object)))
        .unwrap()
}

#[test]
fn every_change_gets_the_next_version() {
    let store = Store::new();
    let first = put(&store, config_map("a", "one"));
    let second = put(&store, config_map("a", "two"));
    assert_eq!(object::resource_version(&first), "2");
    assert_eq!(object::resource_version(&second), "3");
    let gone = store
        .write(false, |state| Ok(state.remove("configmaps", &first)))
        .unwrap();
    assert_eq!(object::resource_version(&gone), "4");
    assert_eq!(store.get("configmaps", "a", "one"), None);
    assert_eq!(store.read(|view| view.version()), 4);
}

#[test]
fn a_dry_run_changes_nothing() {
    let store = Store::new();
    store
        .write(true, |state| {
            Ok(state.put("configmaps", config_map("a", "one")))
        })
        .unwrap();
    assert_eq!(store.get("configmaps", "a", "one"), None);
    assert_eq!(store.read(|view| view.version()), 1);
}

#[test]
fn namespaces_are_listed_apart() {
    let store = Store::new();
    for namespace in ["a", "ab", "b"] {
        put(&store, config_map(namespace, "x"));
    }
    store.read(|view| {
        assert_eq!(view.list("configmaps", None).len(), 3);
        let listed = view.list("configmaps", Some("a"));
        assert_eq!(listed.len(), 1);
        assert_eq!(object::namespace(&listed[0]), "a");
    });
}

#[test]
fn a_watch_goes_on_after_the_version_seen() {
    let store = Store::new();
    put(&store, config_map("a", "one"));
    put(&store, config_map("b", "other"));
    let mut subscription = store
        .subscribe("configmaps", Some("a"), Start::After(1))
        .unwrap();
    assert_eq!(subscription.missed.len(), 1);
    put(&store, config_map("b", "other"));
    put(&store, config_map("a", "two"));
    let change = subscription.changes.try_recv().unwrap();
    assert_eq!(change.version, 5);
    assert!(change.before.is_none());
    assert!(subscription.changes.try_recv().is_err());
}

#[test]
fn history_is_bounded_and_says_so() {
    let store = Store::new();
    for _ in 0..watch::HISTORY + 5 {
        put(&store, config_map("a", "one"));
    }
    let expired = store.subscribe("configmaps", None, Start::After(2));
    assert_eq!(expired.err().unwrap().code(), 410);
    // A version that this store never gave.
    assert!(
        store
            .subscribe("configmaps", None, Start::After(1_000_000))
            .is_err()
    );
    let now = store.subscribe("configmaps", None, Start::Now).unwrap();
    assert_eq!(now.objects.len(), 1);
    // Another kind's history is its own.
    assert!(store.subscribe("secrets", None, Start::After(2)).is_ok());
}

#[test]
fn a_slow_watcher_is_closed_and_the_others_go_on() {
    let store = Store::new();
    let mut slow = store.subscribe("configmaps", None, Start::Now).unwrap();
    for _ in 0..=watch::WATCH_QUEUE {
        put(&store, config_map("a", "one"));
    }
    let mut healthy = store.subscribe("configmaps", None, Start::Now).unwrap();
    let mut received = 0;
    while slow.changes.try_recv().is_ok() {
        received += 1;
    }
    assert_eq!(received, watch::WATCH_QUEUE);
    assert!(slow.changes.is_closed());
    put(&store, config_map("a", "one"));
    assert!(healthy.changes.try_recv().is_ok());
}
