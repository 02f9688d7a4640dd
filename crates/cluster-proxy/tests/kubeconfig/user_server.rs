//! From a kubeconfig that `kubeconfig --merge` wrote, through `quickstart`'s user-server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cluster_proxy_testkit::quickstart::Quickstart;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{client, printed, printed_by, program};

/// The hub's kubeconfig of a user: with the token in a file, by an exec plugin, and inline.
fn hub_kubeconfig(quickstart: &Quickstart) -> String {
    let folder = &quickstart.folder;
    let role = std::fs::read_to_string(folder.join("user-server.kubeconfig"));
    let mut document: Value = serde_json::from_str(&role.expect("there")).expect("JSON");
    let file = folder.join("user.token");
    let token = std::fs::read_to_string(&file).expect("a token");
    let plugin = format!(
        r#"printf '{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",
        "status":{{"token":"%s"}}}}' "$(cat {})""#,
        file.display()
    );
    document["users"] = json!([
        {"name": "file", "user": {"tokenFile": file}},
        {"name": "inline", "user": {"token": token.trim()}},
        {"name": "plugin", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": ["-c", plugin],
        }}},
    ]);
    let contexts = ["file", "inline", "plugin"]
        .map(|user| json!({"name": user, "context": {"cluster": "hub", "user": user}}));
    document["contexts"] = json!(contexts);
    document["current-context"] = json!("file");
    document.to_string()
}

async fn pods(kubeconfig: &Path, context: &str) -> Vec<String> {
    let client = client(kubeconfig, context).await;
    let pods: Api<Pod> = Api::namespaced(client, "open-cluster-management-agent");
    let listed = pods.list(&ListParams::default()).await;
    let listed = listed.unwrap_or_else(|error| panic!("{context}: {error}"));
    let names = listed.items.into_iter().filter_map(|pod| pod.metadata.name);
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_reach_the_managed_cluster_with_every_kind_of_hub_credential() {
    drop(cluster_proxy_identity::tls::install_crypto_provider());
    let program = Path::new(env!("CARGO_BIN_EXE_cluster-proxy"));
    let quickstart = Quickstart::start(program).expect("it starts");
    let home = TempDir::new().expect("a folder");
    let config = home.path().join(".kube/config");
    std::fs::create_dir(home.path().join(".kube")).expect("made");
    std::fs::write(&config, hub_kubeconfig(&quickstart)).expect("written");
    let ca = quickstart.folder.join("ca.crt");
    let ca = ca.to_str().expect("UTF-8");

    for hub in ["file", "inline", "plugin"] {
        let prefix = format!("{hub}-");
        let arguments = [
            "kubeconfig",
            "managed",
            "--merge",
            "--context",
            hub,
            "--prefix",
            &prefix,
            "--server",
            &quickstart.server,
            "--certificate-authority",
            ca,
        ];
        let said = printed(home.path(), &arguments);
        let added = format!("context {hub}-managed added ({})\n", config.display());
        assert_eq!(said, added);
        let written = std::fs::read(&config).expect("there");
        let said = printed(home.path(), &arguments);
        assert!(said.contains("unchanged"), "{said}");
        assert_eq!(std::fs::read(&config).expect("there"), written);
        let context = format!("{hub}-managed");
        let found = pods(&config, &context).await;
        assert_eq!(found, ["klusterlet-agent-0", "klusterlet-agent-1"], "{hub}");
    }

    let text = std::fs::read_to_string(&config).expect("there");
    let token = std::fs::read_to_string(quickstart.folder.join("user.token")).expect("a token");
    // Where the user had it, and nowhere else.
    assert_eq!(text.matches(token.trim()).count(), 1);
    assert!(text.contains("current-context: file"), "{text}");
    let mode = std::fs::metadata(&config).expect("there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    several_files(&quickstart, home.path(), ca).await;
    // Who asks is the hub user, with that user's rights.
    let secrets: Api<Secret> = Api::namespaced(client(&config, "file-managed").await, "default");
    let refused = secrets
        .list(&ListParams::default())
        .await
        .expect_err("no right");
    let kube::Error::Api(status) = refused else {
        panic!("no answer of the cluster: {refused}");
    };
    assert_eq!(status.code, 403);
    let user = "cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa";
    assert!(status.message.contains(user), "{}", status.message);
}

/// A hub whose kubeconfig is in two files of `$KUBECONFIG`.
async fn several_files(quickstart: &Quickstart, home: &Path, ca: &str) {
    let mut all: Value = serde_json::from_str(&hub_kubeconfig(quickstart)).expect("JSON");
    let users = home.join("users");
    let rest = home.join("rest");
    let text = json!({"users": all["users"].take()}).to_string();
    std::fs::write(&users, text).expect("written");
    std::fs::write(&rest, all.to_string()).expect("written");
    let arguments = [
        "kubeconfig",
        "managed",
        "--merge",
        "--server",
        &quickstart.server,
        "--certificate-authority",
        ca,
    ];
    let list = std::env::join_paths([&rest, &users]).expect("a list");
    let mut program = program(home, &arguments);
    program.env("KUBECONFIG", list);
    let said = printed_by(program);
    assert_eq!(
        said,
        format!("context managed added ({})\n", rest.display())
    );
    assert_eq!(pods(&rest, "managed").await.len(), 2);
}
