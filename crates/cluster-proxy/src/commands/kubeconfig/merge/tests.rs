use super::*;
use crate::commands::hub::Hub;
use crate::commands::hub::tests::hub_of;
use crate::commands::kubeconfig::entries::Credential;
use crate::commands::kubeconfig::user_server::UserServer;

fn hub() -> Hub {
    hub_of("{token: abc}").expect("a hub")
}

fn merge(
    document: &mut Value,
    hub: &str,
    server: &str,
    clusters: &[&str],
) -> Result<Vec<(String, State)>, String> {
    let credential = Credential::new(&self::hub(), None).expect("a credential");
    let user_server = UserServer {
        url: server.parse().expect("a URL"),
        ca: Some("PEM".to_owned()),
        tls_server_name: None,
    };
    let entries = Entries {
        hub,
        prefix: "p-",
        user_server: &user_server,
        credential: &credential,
    };
    let clusters: Vec<_> = clusters
        .iter()
        .map(|name| name.parse().expect("a name"))
        .collect();
    let changes = into(document, &entries, &clusters)?;
    Ok(changes
        .into_iter()
        .map(|change| (change.context, change.state))
        .collect())
}

fn named(name: &str, state: State) -> (String, State) {
    (name.to_owned(), state)
}

#[test]
fn what_is_there_stays_and_a_second_run_changes_nothing() {
    let old = json!({
        "kind": "Config", "current-context": "hub", "unknown": {"kept": 1},
        "clusters": [{"name": "hub", "cluster": {"server": "https://h"}, "odd": true}],
        "users": null,
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": ""}}],
    });
    let mut document = old.clone();
    let changes = merge(&mut document, "hub", "https://u", &["a", "b"]).expect("merged");
    assert_eq!(
        changes,
        [named("p-a", State::Added), named("p-b", State::Added)]
    );
    assert_eq!(document["current-context"], "hub");
    assert_eq!(document["unknown"], old["unknown"]);
    assert_eq!(document["clusters"][0], old["clusters"][0]);
    assert_eq!(document["contexts"][0], old["contexts"][0]);
    assert_eq!(document["clusters"][1]["cluster"]["server"], "https://u/a");
    assert_eq!(document["contexts"][2]["context"]["user"], "p-b");
    assert_eq!(
        document["users"][0]["user"]["exec"]["args"][0],
        "credential"
    );

    let once = document.clone();
    let changes = merge(&mut document, "hub", "https://u", &["b"]).expect("merged");
    assert_eq!(changes, [named("p-b", State::Unchanged)]);
    assert_eq!(document, once);
}

#[test]
fn an_update_keeps_what_the_user_added() {
    let mut document = Value::Null;
    merge(&mut document, "hub", "https://old", &["a"]).expect("merged");
    document["contexts"][0]["context"]["namespace"] = json!("mine");
    document["clusters"][0]["cluster"]["proxy-url"] = json!("http://p");
    document["clusters"][0]["cluster"]["tls-server-name"] = json!("old.example");
    let changes = merge(&mut document, "hub", "https://new", &["a"]).expect("merged");
    assert_eq!(changes, [named("p-a", State::Updated)]);
    let cluster = &document["clusters"][0]["cluster"];
    assert_eq!(cluster["server"], "https://new/a");
    assert_eq!(cluster["proxy-url"], "http://p");
    assert_eq!(cluster.get("tls-server-name"), None);
    assert_eq!(document["contexts"][0]["context"]["namespace"], "mine");
    let lists =
        ["clusters", "users", "contexts"].map(|list| document[list].as_array().map(Vec::len));
    assert_eq!(lists, [Some(1); 3]);
}

#[test]
fn entries_of_others_are_not_taken() {
    for list in ["clusters", "users", "contexts"] {
        let field = list.trim_end_matches('s');
        let mut document = json!({list: [{"name": "p-a", field: {"x": 1}}]});
        let refused = merge(&mut document, "hub", "https://u", &["a"]).expect_err(list);
        assert!(
            refused.contains(&format!("a {field} \"p-a\"")) && refused.contains("--prefix"),
            "{refused}"
        );
    }
    let mut document = Value::Null;
    merge(&mut document, "hub", "https://u", &["a"]).expect("merged");
    let refused = merge(&mut document, "other", "https://v", &["a"]).expect_err("another hub");
    assert!(refused.contains("of the hub \"hub\""), "{refused}");
}

#[test]
fn what_is_partly_there_is_completed() {
    let mut document = Value::Null;
    merge(&mut document, "hub", "https://u", &["a"]).expect("merged");
    let whole = document.clone();
    document["users"] = json!([]);
    let changes = merge(&mut document, "hub", "https://u", &["a"]).expect("merged");
    assert_eq!(changes, [named("p-a", State::Updated)]);
    assert_eq!(document, whole);
}
