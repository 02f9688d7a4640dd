use super::*;
use crate::resources::{Registry, SERVICE_ACCOUNTS};
use crate::store::Store;

fn create(plural: &str, group: &str, mut object: Value) -> Result<Value, Failure> {
    let store = Store::new();
    let account = json!({"metadata": {"namespace": "a", "name": "default"}});
    store
        .write(false, |state| Ok(state.put(SERVICE_ACCOUNTS, account)))
        .unwrap();
    let user = User {
        name: "jane".to_owned(),
        ..User::default()
    };
    store.read(|view| {
        let resource = Registry::new().find(view, group, "v1", plural).unwrap();
        Admission::default().create(view, &resource, &user, &mut object)
    })?;
    Ok(object)
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"namespace": "a", "name": "web"}, "spec": spec})
}

#[test]
fn a_pod_gets_its_defaults_and_no_status_of_its_authors() {
    let mut given = pod(json!({"containers": [{"name": "a", "image": "a:1"}]}));
    given["status"] = json!({"phase": "Succeeded"});
    let made = create("pods", "", given).unwrap();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["restartPolicy"], "Always");
    assert_eq!(made["status"]["phase"], "Pending");
}

#[test]
fn pods_that_cannot_be_are_refused() {
    let refused = |spec| {
        create("pods", "", pod(spec))
            .unwrap_err()
            .message()
            .to_owned()
    };
    assert_eq!(
        refused(json!({})),
        "Pod \"web\" is invalid: spec.containers: Required value"
    );
    assert_eq!(
        refused(json!({"containers": [
            {"name": "a", "image": "x"}, {"name": "a", "image": "x"}, {"name": "b"},
        ]})),
        "Pod \"web\" is invalid: [spec.containers[1].name: Duplicate value: \"a\", \
         spec.containers[2].image: Required value]"
    );
    assert_eq!(
        refused(json!({
            "serviceAccountName": "ghost", "containers": [{"name": "a", "image": "x"}],
        })),
        "pods \"web\" is forbidden: error looking up service account a/ghost: serviceaccount \
         \"ghost\" not found"
    );
}

#[test]
fn what_a_pod_runs_stays_but_for_its_images() {
    let before = pod(json!({"containers": [{"name": "a", "image": "a:1"}]}));
    let image = pod(json!({"containers": [{"name": "a", "image": "a:2"}]}));
    let other = pod(json!({"containers": [{"name": "b", "image": "a:1"}]}));
    assert_eq!(pods::update(&before, &image), None);
    assert!(pods::update(&before, &other).is_some());
}

#[test]
fn a_secrets_plain_text_is_encoded() {
    let made = create(
        "secrets",
        "",
        json!({"metadata": {"name": "s"}, "data": {"a": "YQ=="}, "stringData": {"b": "hello"}}),
    )
    .unwrap();
    assert_eq!(made["data"], json!({"a": "YQ==", "b": "aGVsbG8="}));
    assert_eq!(made["type"], "Opaque");
    assert_eq!(made.get("stringData"), None);
}

#[test]
fn who_asks_for_a_certificate_is_who_sent_the_request() {
    let made = create(
        "certificatesigningrequests",
        "certificates.k8s.io",
        json!({"metadata": {"name": "x"}, "spec": {"username": "root", "uid": "0"}}),
    )
    .unwrap();
    assert_eq!(made["spec"]["username"], "jane");
    assert_eq!(made["spec"].get("uid"), None);
}

#[test]
fn a_definition_is_named_after_its_kind() {
    let definition = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true}],
        }})
    };
    let plural = "customresourcedefinitions";
    let group = "apiextensions.k8s.io";
    assert!(create(plural, group, definition("widgets")).is_err());
    let made = create(plural, group, definition("widgets.example.com")).unwrap();
    assert_eq!(made["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
}
