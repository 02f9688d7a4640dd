//! Services: which, for whom, and with what of the client's request.

use cluster_proxy_embedded_kube::{Config as KubeConfig, EmbeddedKube};
use cluster_proxy_identity::tls::{FlagFile, install_crypto_provider};
use cluster_proxy_kube_client::{ConfigMapName, Connection};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_user_server::{ExposedServicesConfigMap, ServicesConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::bearer;
use crate::world::{ALICES_TOKEN, MANAGED_TOKEN, Options, World, eventually};

const NAMESPACE: &str = "open-cluster-management-addon";
const NAME: &str = "cluster-proxy-exposed-services";

const GRAFANA: &str =
    "/managed/api/v1/namespaces/monitoring/services/http:grafana:3000/proxy-service";

/// Where the list is kept.
struct List {
    kube: EmbeddedKube,
    drain: Drain,
    _folder: TempDir,
    connection: Connection,
}

impl List {
    async fn start() -> Self {
        // Another test of this process may have been first.
        let _ = install_crypto_provider();
        let drain = Drain::new();
        let kube = EmbeddedKube::start(KubeConfig::new("hub"), &drain)
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kube.admin_kubeconfig()).unwrap();
        let file = FlagFile::new("--kubeconfig", kubeconfig);
        let connection = Connection::from_kubeconfig(file, None).unwrap();
        kube.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        }))
        .unwrap();
        Self {
            kube,
            drain,
            _folder: folder,
            connection,
        }
    }

    fn says(&self, data: &Value) {
        self.kube
            .apply(&json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data,
            }))
            .unwrap();
    }

    fn config(&self) -> ServicesConfig {
        ServicesConfig {
            exposed: Some(ExposedServicesConfigMap {
                hub: self.connection.clone(),
                map: ConfigMapName {
                    namespace: NAMESPACE.to_owned(),
                    name: NAME.to_owned(),
                },
            }),
            ..ServicesConfig::default()
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        self.drain.end();
    }
}

async fn world(services: ServicesConfig) -> World {
    World::with(Options {
        services,
        ..Options::default()
    })
    .await
}

/// The code of alice's request, once it is this.
async fn becomes(world: &World, path: &str, code: u16) -> String {
    let deadline = tokio::time::Instant::now() + crate::world::LIMIT;
    loop {
        let answer = world.get_as_alice(path).await;
        if answer.code == code {
            return String::from_utf8_lossy(&answer.body).into_owned();
        }
        assert!(tokio::time::Instant::now() < deadline, "{path}: {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn listed_services_are_reached_and_others_are_not() {
    let list = List::start().await;
    list.says(&json!({
        "services": "- {namespace: monitoring, service: grafana, port: 3000, protocol: http}",
    }));
    let world = world(list.config()).await;
    becomes(&world, &format!("{GRAFANA}/a%2Fb//c?x=%zz&&y"), 200).await;
    let seen = world.managed.only();
    assert_eq!(seen.target, "/a%2Fb//c?x=%zz&&y");
    for (name, value) in [
        ("cluster-proxy-proto", "http"),
        ("cluster-proxy-namespace", "monitoring"),
        ("cluster-proxy-service", "grafana"),
        ("cluster-proxy-port", "3000"),
    ] {
        assert_eq!(seen.all(name), [value]);
    }
    let states = |name: &&str| name.starts_with("x-remote") || *name == "authorization";
    let stated: Vec<_> = seen
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(states)
        .collect();
    assert!(
        stated.is_empty(),
        "a Service learns no user and no token: {stated:?}"
    );

    for path in [
        "/managed/api/v1/namespaces/monitoring/services/https:grafana:3000/proxy-service/",
        "/managed/api/v1/namespaces/monitoring/services/http:grafana:3001/proxy-service/",
        "/managed/api/v1/namespaces/monitoring/services/http:prometheus:3000/proxy-service/",
        "/managed/api/v1/namespaces/other/services/http:grafana:3000/proxy-service/",
        "/nowhere/api/v1/namespaces/default/services/kubernetes:443/proxy-service/",
    ] {
        let message = world.get_as_alice(path).await.message(403, "Forbidden");
        assert!(message.contains("is not exposed"), "{message}");
        let place = format!("ConfigMap {NAMESPACE}/{NAME} of the hub");
        assert!(message.contains(&place), "{message}");
    }
    assert_eq!(world.managed.seen().len(), 1);
    assert_eq!(
        world.metric("cluster_proxy_user_server_services_refused_total"),
        5
    );

    // Without a port the list's is meant.
    let path = "/managed/api/v1/namespaces/monitoring/services/http:grafana/proxy-service";
    assert_eq!(world.get_as_alice(path).await.code, 200);
    let seen = world.managed.seen().pop().unwrap();
    assert_eq!(
        (seen.target.as_str(), seen.all("cluster-proxy-port")),
        ("/", vec!["3000".to_owned()])
    );
}

#[tokio::test]
async fn the_list_is_watched_and_a_wrong_one_is_not_taken() {
    let list = List::start().await;
    let world = world(list.config()).await;
    becomes(&world, GRAFANA, 403).await;
    list.says(&json!({"any": "- {namespace: monitoring, service: grafana}"}));
    becomes(&world, GRAFANA, 200).await;
    list.says(&json!({"any": "- {namespace: monitoring, service: grafana}\n- {name: x}"}));
    eventually("the list is not valid", || {
        world.metric("cluster_proxy_user_server_exposed_services_valid") == 0
    })
    .await;
    assert_eq!(
        world.get_as_alice(GRAFANA).await.code,
        200,
        "the last good list stays"
    );
    let other = "/managed/api/v1/namespaces/a/services/b:1/proxy-service/";
    let message = world.get_as_alice(other).await.message(403, "Forbidden");
    assert!(message.contains("key \"any\""), "{message}");
    list.kube
        .delete("v1", "ConfigMap", NAMESPACE, NAME)
        .unwrap();
    becomes(&world, GRAFANA, 403).await;
}

#[tokio::test]
async fn services_are_for_users_of_the_hub() {
    let list = List::start().await;
    list.says(&json!({"s": "- {namespace: monitoring, service: grafana}"}));
    let strict = world(list.config()).await;
    becomes(&strict, GRAFANA, 200).await;
    strict.get(GRAFANA, &[]).await.message(401, "Unauthorized");
    let stranger = strict
        .get(GRAFANA, &[("authorization", &bearer(MANAGED_TOKEN))])
        .await;
    let message = stranger.message(401, "Unauthorized");
    assert!(message.contains("users of the hub"), "{message}");
    assert_eq!(strict.managed.seen().len(), 1);

    let open = world(ServicesConfig {
        anonymous: true,
        ..list.config()
    })
    .await;
    becomes(&open, GRAFANA, 200).await;
    for headers in [&[][..], &[("authorization", "Basic YTpi")]] {
        assert_eq!(open.get(GRAFANA, headers).await.code, 200);
        assert!(
            open.managed
                .seen()
                .pop()
                .unwrap()
                .all("authorization")
                .is_empty()
        );
    }
    // The kube-apiserver is never anonymous, in whatever words it is asked for.
    for path in [
        "/managed/api",
        "/managed/api/v1/namespaces/default/services/kubernetes/proxy-service/api",
        "/managed/api/v1/namespaces/DEFAULT/services/http:Kubernetes:80/proxy-service/api",
    ] {
        open.get(path, &[]).await.message(401, "Unauthorized");
    }
}

#[tokio::test]
async fn authorization_is_handed_on_where_somebody_said_so() {
    let list = List::start().await;
    list.says(
        &json!({"s": "- {namespace: monitoring, service: grafana, authorization: pass}\n\
                            - {namespace: monitoring, service: loki}"}),
    );
    let loki = GRAFANA.replace("grafana", "loki");
    let by_entry = world(list.config()).await;
    becomes(&by_entry, GRAFANA, 200).await;
    assert_eq!(
        by_entry.managed.only().all("authorization"),
        [bearer(ALICES_TOKEN)]
    );
    assert_eq!(by_entry.get_as_alice(&loki).await.code, 200);
    assert!(
        by_entry
            .managed
            .seen()
            .pop()
            .unwrap()
            .all("authorization")
            .is_empty()
    );

    let by_flag = world(ServicesConfig {
        pass_authorization: true,
        ..list.config()
    })
    .await;
    becomes(&by_flag, &loki, 200).await;
    assert_eq!(
        by_flag.managed.only().all("authorization"),
        [bearer(ALICES_TOKEN)]
    );
}

#[tokio::test]
async fn the_kube_apiserver_as_a_service_is_the_kube_apiserver() {
    let list = List::start().await;
    list.says(&json!({"s": "- {namespace: default, service: kubernetes}"}));
    let world = world(list.config()).await;
    let path = "/managed/api/v1/namespaces/Default/services/http:KUBERNETES:80/proxy-service/api";
    becomes(&world, path, 200).await;
    let seen = world.managed.only();
    assert_eq!(seen.all("cluster-proxy-proto"), ["https"]);
    assert_eq!(seen.all("cluster-proxy-port"), ["443"]);
    assert_eq!(seen.all("x-remote-user"), ["alice"]);
    assert!(seen.all("authorization").is_empty());
}

#[tokio::test]
async fn hard_case_46_what_a_service_sets_comes_back_to_it_alone() {
    let list = List::start().await;
    list.says(&json!({"s": "- {namespace: monitoring, service: grafana}"}));
    let world = world(list.config()).await;
    becomes(&world, GRAFANA, 200).await;
    let cookie =
        |answer: crate::client::Answer| answer.headers["set-cookie"].to_str().unwrap().to_owned();
    let set = cookie(world.get_as_alice(&format!("{GRAFANA}/cookie")).await);
    assert_eq!(set, format!("session=1; Secure; Path={GRAFANA}/"));
    let set = cookie(world.get_as_alice("/managed/cookie").await);
    assert_eq!(set, "session=1; Secure; Path=/managed/");
}

#[tokio::test]
async fn a_services_own_answers_are_handed_on() {
    let list = List::start().await;
    list.says(&json!({"s": "- {namespace: monitoring, service: grafana}"}));
    let world = world(list.config()).await;
    becomes(&world, GRAFANA, 200).await;
    let answer = world.get_as_alice(&format!("{GRAFANA}/unauthorized")).await;
    assert_eq!(answer.code, 401);
    assert_eq!(answer.body, crate::service_proxy::ITS_OWN_401);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_neither_a_yes_nor_a_no() {
    let list = List::start().await;
    let config = list.config();
    list.drain.end();
    let world = world(config).await;
    let message = world
        .get_as_alice(GRAFANA)
        .await
        .message(503, "ServiceUnavailable");
    assert!(message.contains("cannot tell"), "{message}");
    assert_eq!(
        world.get_as_alice("/managed/api").await.code,
        200,
        "nobody else waits"
    );
}
