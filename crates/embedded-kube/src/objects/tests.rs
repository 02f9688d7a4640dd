use super::*;
use crate::resources::Registry;
use crate::selectors::Selector;
use crate::store::Store;

/// A store with the namespace `a`, and everything that changes it.
struct World {
    store: Store,
    registry: Registry,
    objects: Objects,
    user: User,
}

impl World {
    fn new() -> Self {
        let world = Self {
            store: Store::new(),
            registry: Registry::new(),
            objects: Objects {
                admission: Admission::default(),
                root_ca: "PEM".to_owned(),
            },
            user: User::default(),
        };
        world
            .create("namespaces", json!({"metadata": {"name": "a"}}))
            .unwrap();
        world
    }

    fn run<T>(
        &self,
        plural: &str,
        part: Option<Subresource>,
        change: impl FnOnce(&mut Transaction<'_>, Scope<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.store.write(false, |state| {
            let resource = self
                .registry
                .all(state)
                .find(|it| it.plural == plural)
                .unwrap();
            let scope = Scope {
                resource: &resource,
                namespace: if resource.namespaced { "a" } else { "" },
                user: &self.user,
                part,
            };
            change(state, scope)
        })
    }

    fn create(&self, plural: &str, object: Value) -> Result<Arc<Value>, Failure> {
        self.run(plural, None, |state, scope| {
            self.objects.create(state, scope, object)
        })
    }

    fn update(&self, plural: &str, object: Value) -> Result<Arc<Value>, Failure> {
        self.update_part(plural, None, object)
    }

    fn update_part(
        &self,
        plural: &str,
        part: Option<Subresource>,
        object: Value,
    ) -> Result<Arc<Value>, Failure> {
        let name = object::name(&object).to_owned();
        self.run(plural, part, |state, scope| {
            self.objects.update(state, scope, &name, object)
        })
        .map(|(updated, _)| updated)
    }

    fn apply(&self, plural: &str, mut object: Value) -> Result<(Arc<Value>, bool), Failure> {
        object["apiVersion"] = "v1".into();
        object["kind"] = "ConfigMap".into();
        let object = &object;
        let patch = Patch {
            kind: PatchType::Apply,
            document: object,
            manager: "tester",
            force: false,
        };
        self.run(plural, None, |state, scope| {
            self.objects
                .patch(state, scope, object::name(object), patch)
        })
    }

    fn delete(&self, plural: &str, name: &str) -> Result<Deleted, Failure> {
        self.run(plural, None, |state, scope| {
            self.objects
                .delete(state, scope, name, &DeleteOptions::default())
        })
    }
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": value}})
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "a", "image": "a:1"}]},
            },
        },
    })
}

#[test]
fn what_the_server_sets_is_taken_from_nobody() {
    let world = World::new();
    let mut given = config_map("one", "1");
    given["metadata"]["uid"] = "mine".into();
    given["metadata"]["creationTimestamp"] = "1999-01-01T00:00:00Z".into();
    let made = world.create("configmaps", given).unwrap();
    assert_ne!(object::uid(&made), "mine");
    assert_eq!(made["apiVersion"], "v1");
    assert_eq!(object::namespace(&made), "a");
    let mut next = Value::clone(&made);
    next["metadata"]["creationTimestamp"] = "1999-01-01T00:00:00Z".into();
    next["data"]["k"] = "2".into();
    let updated = world.update("configmaps", next).unwrap();
    assert_eq!(
        updated["metadata"]["creationTimestamp"],
        made["metadata"]["creationTimestamp"]
    );
}

#[test]
fn an_outdated_version_is_a_conflict() {
    let world = World::new();
    let first = world.create("configmaps", config_map("one", "1")).unwrap();
    let mut next = Value::clone(&first);
    next["data"]["k"] = "2".into();
    let second = world.update("configmaps", next.clone()).unwrap();
    assert_ne!(
        object::resource_version(&first),
        object::resource_version(&second)
    );
    let refused = world.update("configmaps", next).unwrap_err();
    assert_eq!(
        (refused.code().as_u16(), refused.reason()),
        (409, "Conflict")
    );
    // Nothing changed: nothing is written.
    let same = world.update("configmaps", Value::clone(&second)).unwrap();
    assert_eq!(
        object::resource_version(&same),
        object::resource_version(&second)
    );
}

#[test]
fn names_and_namespaces_are_checked() {
    let world = World::new();
    let refused = |object| {
        let failure = world.create("configmaps", object).unwrap_err();
        (failure.code().as_u16(), failure.reason())
    };
    assert_eq!(refused(json!({})), (422, "Invalid"));
    assert_eq!(refused(config_map("Bad_Name", "1")), (422, "Invalid"));
    assert_eq!(
        refused(json!({"metadata": {"name": "x", "namespace": "b"}})),
        (400, "BadRequest")
    );
    assert_eq!(
        refused(json!({"kind": "Secret", "metadata": {"name": "x"}})),
        (400, "BadRequest")
    );
    world.create("configmaps", config_map("one", "1")).unwrap();
    assert_eq!(refused(config_map("one", "1")), (409, "AlreadyExists"));
    let made = world
        .create("configmaps", json!({"metadata": {"generateName": "x-"}}))
        .unwrap();
    assert!(object::name(&made).starts_with("x-"));
}

#[test]
fn status_and_the_rest_change_apart() {
    let world = World::new();
    let made = world.create("deployments", deployment()).unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    let mut next = Value::clone(&made);
    next["status"] = json!({"readyReplicas": 3});
    next["spec"]["replicas"] = 3.into();
    let updated = world.update("deployments", next.clone()).unwrap();
    assert_eq!(updated.get("status"), None);
    assert_eq!(updated["metadata"]["generation"], 2);

    let mut next = Value::clone(&updated);
    next["status"] = json!({"readyReplicas": 3});
    next["spec"]["replicas"] = 5.into();
    let updated = world
        .update_part("deployments", Some(Subresource::Status), next)
        .unwrap();
    assert_eq!(updated["status"]["readyReplicas"], 3);
    assert_eq!(updated["spec"]["replicas"], 3);
    assert_eq!(updated["metadata"]["generation"], 2);
}

#[test]
fn finalizers_hold_an_object_until_they_are_gone() {
    let world = World::new();
    let mut given = config_map("one", "1");
    given["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create("configmaps", given).unwrap();
    let Deleted::Marked(marked) = world.delete("configmaps", "one").unwrap() else {
        panic!("it has a finalizer");
    };
    let mut freed = Value::clone(&marked);
    freed["metadata"]["finalizers"] = json!([]);
    world.update("configmaps", freed).unwrap();
    assert_eq!(world.store.get("configmaps", "a", "one"), None);
}

#[test]
fn a_namespace_is_furnished_and_terminates() {
    let world = World::new();
    assert!(world.store.get(SERVICE_ACCOUNTS, "a", "default").is_some());
    let root = world
        .store
        .get(CONFIG_MAPS, "a", "kube-root-ca.crt")
        .unwrap();
    assert_eq!(root["data"]["ca.crt"], "PEM");
    world.delete("namespaces", "a").unwrap();
    let refused = world
        .create("configmaps", config_map("one", "1"))
        .unwrap_err();
    assert_eq!(
        refused.message(),
        "configmaps \"one\" is forbidden: unable to create new content in namespace a because it \
         is being terminated"
    );
}

#[test]
fn custom_kinds_come_and_go_with_their_definition() {
    let world = World::new();
    world
        .create(
            "customresourcedefinitions",
            json!({"metadata": {"name": "widgets.example.com"}, "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true}],
            }}),
        )
        .unwrap();
    world
        .create("widgets", json!({"metadata": {"name": "w"}, "spec": {}}))
        .unwrap();
    let refused = world
        .update("widgets", json!({"metadata": {"name": "w"}}))
        .unwrap_err();
    assert_eq!(refused.code(), 422, "it needs a resourceVersion");
    world
        .delete("customresourcedefinitions", "widgets.example.com")
        .unwrap();
    assert_eq!(world.store.get("widgets.example.com", "a", "w"), None);
}

#[test]
fn applying_makes_and_then_changes() {
    let world = World::new();
    let (made, created) = world.apply("configmaps", config_map("one", "1")).unwrap();
    assert!(created);
    let (again, created) = world.apply("configmaps", config_map("one", "1")).unwrap();
    assert!(!created);
    assert_eq!(
        object::resource_version(&made),
        object::resource_version(&again)
    );
    let (next, _) = world.apply("configmaps", config_map("one", "2")).unwrap();
    assert_eq!(next["data"]["k"], "2");
    assert_eq!(next["metadata"]["managedFields"][0]["manager"], "tester");
}

#[test]
fn a_collection_is_deleted_by_selector() {
    let world = World::new();
    for name in ["one", "two"] {
        let mut given = config_map(name, "1");
        given["metadata"]["labels"] = json!({"name": name});
        world.create("configmaps", given).unwrap();
    }
    let deleted = world
        .run("configmaps", None, |state, scope| {
            let selector = Selector::parse(scope.resource, Some("name=one"), None)?;
            let options = DeleteOptions::default();
            Ok(world
                .objects
                .delete_collection(state, scope, &selector, &options))
        })
        .unwrap();
    assert_eq!(deleted.len(), 1);
    assert!(world.store.get("configmaps", "a", "two").is_some());
}
