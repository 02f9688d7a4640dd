//! An embedded cluster as kube-rs sees it, over HTTP/2 and with its own types.

use cluster_proxy_embedded_kube::{Config, EmbeddedKube};
use cluster_proxy_runtime::drain::Drain;
use futures_util::StreamExt;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenReview};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use serde_json::json;

async fn connect() -> kube::Client {
    crate::client::install_crypto_provider();
    let kube = EmbeddedKube::start(Config::new("rs"), &Drain::new())
        .await
        .expect("it starts");
    kube.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "main", "image": "example.com/none:1"}]},
    }))
    .expect("a pod is taken");
    let kubeconfig = Kubeconfig::from_yaml(&kube.admin_kubeconfig()).expect("YAML");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .expect("a kubeconfig with all it needs");
    kube::Client::try_from(config).expect("a usable configuration")
}

#[tokio::test]
async fn typed_clients_understand_everything() {
    let client = connect().await;
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(version.major, "1");

    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    pods.get("web").await.unwrap();
    let everything = ListParams::default();
    Api::<Node>::all(client.clone())
        .list(&everything)
        .await
        .unwrap();
    Api::<Namespace>::all(client.clone())
        .list(&everything)
        .await
        .unwrap();
    Api::<Secret>::all(client.clone())
        .list(&everything)
        .await
        .unwrap();
    Api::<Service>::all(client.clone())
        .list(&everything)
        .await
        .unwrap();
    Api::<ClusterRole>::all(client.clone())
        .list(&everything)
        .await
        .unwrap();

    let version = maps.list(&everything).await.unwrap();
    let version = version.metadata.resource_version.unwrap();
    let events = maps.watch(&WatchParams::default(), &version).await.unwrap();
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "one"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let taken = maps.create(&PostParams::default(), &map).await;
    assert!(matches!(taken, Err(kube::Error::Api(status)) if status.is_already_exists()));
    let patch = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"k": "v"},
    });
    let applied = maps
        .patch(
            "one",
            &PatchParams::apply("us").force(),
            &Patch::Apply(&patch),
        )
        .await
        .unwrap();
    assert_eq!(applied.data.unwrap()["k"], "v");
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    let absent = maps.get_opt("one").await.unwrap();
    assert!(absent.is_none());
    let mut events = std::pin::pin!(events);
    for expected in ["added", "modified", "deleted"] {
        let event = events.next().await.unwrap().unwrap();
        let kind = match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => "other",
        };
        assert_eq!(kind, expected);
    }

    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::default_namespaced(client.clone());
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let issued = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await
        .unwrap();
    let review = json!({"spec": {"token": issued.status.unwrap().token}});
    let review: TokenReview = serde_json::from_value(review).unwrap();
    let reviewed = Api::<TokenReview>::all(client)
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    let user = reviewed.status.unwrap().user.unwrap();
    assert_eq!(
        user.username.as_deref(),
        Some("system:serviceaccount:default:default")
    );
}
