//! A kube-apiserver that only an HTTP proxy leads to.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;

use cluster_proxy_embedded_kube::{Config, EmbeddedKube, LocalAddress};
use cluster_proxy_http_proxy::Proxies;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, FlagFile, ServerTls, install_crypto_provider};
use cluster_proxy_kube_client::{Connection, FollowedKubeconfig};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::error::with_sources;
use cluster_proxy_testkit::http_proxy::{HttpProxy, HttpProxyScript};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use tokio::net::TcpListener;

/// `agent:s3cret`
const CREDENTIALS: &str = "YWdlbnQ6czNjcmV0";

/// A name that nobody resolves but a proxy.
const HUB: &str = "hub.test:6443";

/// A cluster whose kubeconfig has that name.
struct World {
    kube: EmbeddedKube,
    folder: tempfile::TempDir,
    drain: Drain,
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.end();
    }
}

impl World {
    async fn new() -> Self {
        // Another test of this process may have been first.
        let _ = install_crypto_provider();
        let drain = Drain::new();
        let config = Config {
            sans: vec!["hub.test".to_owned()],
            ..Config::new("hub")
        };
        let world = Self {
            kube: EmbeddedKube::start(config, &drain).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            drain,
        };
        world.write_kubeconfig("");
        world
    }

    /// The kubeconfig, with `more` lines in its cluster.
    fn write_kubeconfig(&self, more: &str) {
        let (text, url) = (self.kube.admin_kubeconfig(), self.kube.url());
        let text = text
            .replace(&url, &format!("https://{HUB}"))
            .replace("  cluster:\n", &format!("  cluster:\n{more}"));
        assert!(text.contains(HUB) && text.contains(more), "{url}");
        std::fs::write(self.folder.path().join("kubeconfig"), text).unwrap();
    }

    fn file(&self) -> FlagFile {
        FlagFile::new("--kubeconfig", self.folder.path().join("kubeconfig"))
    }

    fn connection(&self, variables: &[(&str, &str)]) -> Connection {
        Connection::from_kubeconfig_through(self.file(), None, &proxies(variables)).unwrap()
    }

    fn address(&self) -> SocketAddr {
        match self.kube.local_address() {
            LocalAddress::Tcp(address) => *address,
            other @ LocalAddress::Unix(_) => panic!("{other:?}"),
        }
    }

    /// A proxy that leads to the cluster.
    async fn proxy(&self, script: HttpProxyScript) -> HttpProxy {
        proxy_to(self.address(), script).await
    }
}

async fn proxy_to(address: SocketAddr, script: HttpProxyScript) -> HttpProxy {
    HttpProxy::start(HttpProxyScript {
        routes: HashMap::from([(HUB.to_owned(), address)]),
        ..script
    })
    .await
    .unwrap()
}

fn proxies(variables: &[(&str, &str)]) -> Proxies {
    Proxies::from_variables(|name| {
        let mut found = variables.iter().filter(|(own, _)| *own == name);
        found.next().map(|(_, value)| (*value).to_owned())
    })
    .unwrap()
}

async fn namespaces(client: kube::Client) -> Result<Vec<String>, kube::Error> {
    let list = Api::<Namespace>::all(client)
        .list(&ListParams::default())
        .await?;
    let names = list.items.into_iter().filter_map(|item| item.metadata.name);
    Ok(names.collect())
}

/// The error with everything behind it, in which no credential may stand.
fn said(error: &(dyn Error + 'static)) -> String {
    let text = with_sources(error);
    let debug = format!("{error:?}");
    assert!(
        !text.contains("s3cret") && !debug.contains("s3cret"),
        "{debug}"
    );
    assert!(
        !text.contains(CREDENTIALS) && !debug.contains(CREDENTIALS),
        "{debug}"
    );
    text
}

#[tokio::test]
async fn clients_and_raw_connections_go_through_the_proxy() {
    let world = World::new().await;
    let proxy = world
        .proxy(HttpProxyScript {
            credentials: Some(CREDENTIALS),
            ..HttpProxyScript::default()
        })
        .await;
    let url = format!("http://agent:s3cret@{}", proxy.address());
    let connection = world.connection(&[("HTTPS_PROXY", &url)]);
    let client = connection.client();
    for _ in 0..3 {
        let names = namespaces(client.clone()).await.unwrap();
        assert!(names.contains(&"default".to_owned()), "{names:?}");
    }
    // The connection is kept, and the client certificate went to the server behind the proxy.
    assert_eq!(proxy.heads().len(), 1, "{:?}", proxy.heads());
    namespaces(connection.watch_client()).await.unwrap();
    let raw = connection.endpoint().connect(true, &[b"http/1.1"]).await;
    raw.unwrap();
    let heads = proxy.heads();
    assert_eq!(heads.len(), 3);
    let asked = heads
        .iter()
        .all(|head| head.starts_with("CONNECT hub.test:6443 "));
    assert!(asked, "{heads:?}");
    assert!(!format!("{connection:?}").contains("s3cret"));
}

#[tokio::test]
async fn an_encrypted_proxy_is_believed_by_the_ca_of_the_environment() {
    let world = World::new().await;
    let ca = CertificateAuthority::generate().unwrap();
    let leaf = ca.issue(&Leaf::server(vec!["127.0.0.1".to_owned()]));
    let leaf = leaf.unwrap();
    let tls = ServerTls::from_pem(
        leaf.cert_pem.as_bytes(),
        leaf.key_pem.as_bytes(),
        None,
        ClientAuth::Off,
        vec![],
    );
    let proxy = world
        .proxy(HttpProxyScript {
            tls: Some(tls.unwrap()),
            ..HttpProxyScript::default()
        })
        .await;
    let url = format!("https://{}", proxy.address());
    let file = world.folder.path().join("proxy-ca.crt");
    std::fs::write(&file, ca.cert_pem()).unwrap();
    let file = file.display().to_string();
    let variables = [("HTTPS_PROXY", url.as_str()), ("ROOT_CA_CERT", &file)];
    let names = namespaces(world.connection(&variables).client()).await;
    assert!(names.unwrap().contains(&"default".to_owned()));

    let connection = world.connection(&[("HTTPS_PROXY", &url)]);
    let text = said(&connection.endpoint().dial().await.unwrap_err());
    assert!(
        text.contains("the kube-apiserver at hub.test:6443 cannot be reached"),
        "{text}"
    );
    assert!(
        text.contains("put that CA into proxyConfig.caBundle"),
        "{text}"
    );
}

#[tokio::test]
async fn a_proxy_of_the_kubeconfig_wins() {
    let world = World::new().await;
    let proxy = world.proxy(HttpProxyScript::default()).await;
    world.write_kubeconfig(&format!("    proxy-url: http://{}\n", proxy.address()));
    let elsewhere = [("HTTPS_PROXY", "http://nowhere.invalid"), ("NO_PROXY", "*")];
    namespaces(world.connection(&elsewhere).client())
        .await
        .unwrap();
    assert_eq!(proxy.heads().len(), 1);

    world.write_kubeconfig("    proxy-url: http://agent:s3cret@proxy:port\n");
    let text = said(&Connection::from_kubeconfig(world.file(), None).unwrap_err());
    assert!(text.contains("proxy-url: its port is none"), "{text}");
}

#[tokio::test]
async fn a_kubeconfig_that_changes_keeps_its_proxy() {
    let world = World::new().await;
    let proxy = world.proxy(HttpProxyScript::default()).await;
    let url = format!("http://{}", proxy.address());
    let chosen = proxies(&[("https_proxy", &url)]);
    let followed = FollowedKubeconfig::load_through(world.file(), chosen).unwrap();
    namespaces(followed.connection().client()).await.unwrap();
    world.write_kubeconfig("    tls-server-name: kubernetes.default.svc\n");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    tokio::time::resume();
    namespaces(followed.connection().client()).await.unwrap();
    let name = followed
        .connection()
        .endpoint()
        .server_name()
        .to_str()
        .into_owned();
    assert_eq!(
        (name.as_str(), proxy.heads().len()),
        ("kubernetes.default.svc", 2)
    );
}

#[tokio::test]
async fn who_is_at_fault_is_told() {
    let world = World::new().await;
    let proxy = world
        .proxy(HttpProxyScript {
            credentials: Some(CREDENTIALS),
            ..HttpProxyScript::default()
        })
        .await;
    let url = format!("http://agent:s3cret2@{}", proxy.address());
    let client = world.connection(&[("HTTPS_PROXY", &url)]).client();
    let text = said(&namespaces(client).await.unwrap_err());
    assert!(
        text.contains("answered 407 Proxy Authentication Required"),
        "{text}"
    );
    assert!(text.contains("does not accept user and password"), "{text}");

    let nowhere = HttpProxy::start(HttpProxyScript::default()).await.unwrap();
    let url = format!("http://agent:s3cret@{}", nowhere.address());
    let connection = world.connection(&[("HTTPS_PROXY", &url)]);
    let text = said(&connection.endpoint().dial().await.unwrap_err());
    let answered = format!("the HTTP proxy http://{} answered 502", nowhere.address());
    assert!(
        text.contains(&answered) && text.contains("resolve the name"),
        "{text}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://agent:s3cret@{address}");
    let connection = world.connection(&[("HTTPS_PROXY", &url)]);
    let text = said(&connection.endpoint().dial().await.unwrap_err());
    assert!(
        text.contains(&format!("its HTTP proxy http://{address} does not")),
        "{text}"
    );

    // NO_PROXY: the name itself is dialled, which nobody knows.
    let connection = world.connection(&[("HTTPS_PROXY", &url), ("NO_PROXY", ".test:6443")]);
    let text = said(&connection.endpoint().dial().await.unwrap_err());
    assert!(!text.contains("proxy"), "{text}");
}

#[tokio::test]
async fn a_proxy_that_inspects_tls_is_named() {
    let world = World::new().await;
    let other = World::new().await;
    let proxy = proxy_to(other.address(), HttpProxyScript::default()).await;
    let url = format!("http://{}", proxy.address());
    let connection = world.connection(&[("HTTPS_PROXY", &url)]);
    let connected = connection.endpoint().connect(true, &[b"http/1.1"]).await;
    let text = said(&connected.unwrap_err());
    assert!(
        text.contains(&format!("through the HTTP proxy {url} failed")),
        "{text}"
    );
    assert!(
        text.contains("unknown CA came in place of the hub's"),
        "{text}"
    );
    assert!(text.contains("inspects TLS"), "{text}");
}
