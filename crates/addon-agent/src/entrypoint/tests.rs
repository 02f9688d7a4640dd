//! Against the embedded Kubernetes, which lists pods and forwards to none (501). What it is to
//! reach one is in `tests/port_forward_lab.rs`.

use cluster_proxy_embedded_kube::{Config, EmbeddedKube, LocalAddress};
use cluster_proxy_http_proxy::Proxies;
use cluster_proxy_identity::tls::{FlagFile, install_crypto_provider};
use cluster_proxy_kube_client::ConnectionError;
use cluster_proxy_testkit::eventually;
use cluster_proxy_testkit::http_proxy::{HttpProxy, HttpProxyScript};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::*;

struct World {
    kube: EmbeddedKube,
    entrypoint: Arc<Entrypoint>,
    drain: Drain,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(Config::new("hub"), |file, _| FollowedKubeconfig::load(file)).await
    }

    /// A hub of this configuration, and how its kubeconfig is used.
    async fn with(
        config: Config,
        hub: impl FnOnce(FlagFile, &EmbeddedKube) -> Result<FollowedKubeconfig, ConnectionError>,
    ) -> Self {
        // Another test of this process may have been first.
        let _ = install_crypto_provider();
        let drain = Drain::new();
        let kube = EmbeddedKube::start(config, &drain).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, kube.admin_kubeconfig()).unwrap();
        let hub = hub(FlagFile::new("--hub-kubeconfig", path), &kube).unwrap();
        let config = PortForwardConfig {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            hub,
            namespace: "default".to_owned(),
            port: 8091,
        };
        Self {
            kube,
            entrypoint: Arc::new(Entrypoint::new(config, Metrics::default())),
            drain,
            _folder: folder,
        }
    }

    fn add_pod(&self) {
        self.kube
            .apply(&json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "proxy-server-0", "labels": {
                    "proxy.open-cluster-management.io/component-name": "proxy-server",
                }},
                "spec": {"containers": [{"name": "main", "image": "example.com/none:1"}]},
            }))
            .unwrap();
    }
}

#[tokio::test]
async fn why_nobody_is_reached_is_told() {
    let world = World::new().await;
    let error = world.entrypoint.open().await.map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no pod with the label proxy.open-cluster-management.io/component-name=proxy-server is \
         ready in the hub's namespace default"
    );
    world.add_pod();
    let error = eventually(
        Duration::from_secs(10),
        "the pod is ready",
        async || match world.entrypoint.open().await {
            Err(error @ ForwardError::Open { .. }) => Ok(error.to_string()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("a connection to nowhere".to_owned()),
        },
    )
    .await;
    assert!(
        error.starts_with("pod proxy-server-0: the hub answers 501"),
        "{error}"
    );
    world.drain.end();
    let error = world.entrypoint.open().await.map(|_| ()).unwrap_err();
    assert_eq!(error.reason(), "list_failed");
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_is_reset() {
    let world = World::new().await;
    let address = world.entrypoint.listener.local_addr().unwrap();
    let running = tokio::spawn(Arc::clone(&world.entrypoint).run(world.drain.clone()));
    let mut agent = TcpStream::connect(address).await.unwrap();
    let end = timeout(Duration::from_secs(15), agent.read(&mut [0]))
        .await
        .unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    world.drain.close();
    running.await.unwrap();
}

/// Behind a proxy, both the question for pods and the WebSocket go through it.
#[tokio::test]
async fn an_http_proxy_leads_to_the_hub() {
    let proxy = HttpProxy::start(HttpProxyScript::default()).await.unwrap();
    let variables = |name: &str| (name == "HTTPS_PROXY").then(|| proxy.address().to_string());
    let config = Config {
        sans: vec!["hub.test".to_owned()],
        ..Config::new("hub")
    };
    let world = World::with(config, |file, kube| {
        match kube.local_address() {
            LocalAddress::Tcp(address) => proxy.lead("hub.test:6443", *address),
            other @ LocalAddress::Unix(_) => panic!("{other:?}"),
        }
        let text = std::fs::read_to_string(&file.path).unwrap();
        let text = text.replace(&kube.url(), "https://hub.test:6443");
        std::fs::write(&file.path, text).unwrap();
        FollowedKubeconfig::load_through(file, Proxies::from_variables(variables).unwrap())
    })
    .await;
    world.add_pod();
    eventually(
        Duration::from_secs(10),
        "the kube-apiserver behind the proxy answers the WebSocket",
        async || match world.entrypoint.open().await {
            Err(ForwardError::Open { cause, .. }) if cause.to_string().contains("501") => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("a connection to nowhere".to_owned()),
        },
    )
    .await;
    let heads = proxy.heads();
    assert!(heads.len() >= 2, "{heads:?}");
    world.drain.end();
    drop(proxy);
    let error = world.entrypoint.open().await.map(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("HTTP proxy http://127.0.0.1:"),
        "{error}"
    );
}
