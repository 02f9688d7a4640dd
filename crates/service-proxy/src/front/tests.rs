//! A whole service-proxy between real TLS connections: who is sent as whom.

mod acting_as;
mod id_tokens;
mod services;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_proxy_forward::{
    Class, Connect, Dialled, HandOn, Offer, Origin, Pool, PoolMetrics, PoolSettings, Protocol, tls,
};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls};
use cluster_proxy_identity::{ClusterName, TunnelHost};
use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use http_body_util::BodyExt;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::*;
use crate::config::Impersonation;
use crate::testing::{FakeCluster, Reviews};

/// A service-proxy before a managed cluster, and a hub that it may ask.
struct Rig {
    managed: FakeCluster,
    hub: FakeCluster,
    ca: CertificateAuthority,
    host: TunnelHost,
    address: std::net::SocketAddr,
    metrics: ServiceProxyMetrics,
    drain: Drain,
}

/// Dials the service-proxy as some peer.
struct Peer {
    address: std::net::SocketAddr,
    host: TunnelHost,
    tls: ClientTls,
}

impl Connect for Peer {
    type Io = tokio_rustls::client::TlsStream<TcpStream>;
    type Error = std::io::Error;

    async fn connect(&self, offer: Offer) -> Result<Dialled<Self::Io>, std::io::Error> {
        let name = ServerName::try_from(self.host.as_str().to_owned()).expect("a DNS name");
        let tcp = TcpStream::connect(self.address).await?;
        tls::connect(self.tls.with_alpn(offer.alpn()).config(), name, tcp).await
    }
}

impl Rig {
    async fn start(change: impl FnOnce(&mut Config, &FakeCluster)) -> Self {
        let managed = FakeCluster::start().await;
        let hub = FakeCluster::start().await;
        let ca = CertificateAuthority::generate().expect("a CA");
        let cluster: ClusterName = "managed".parse().expect("a name");
        let issued = ca.issue(&Leaf::service_proxy(&cluster)).expect("a leaf");
        let tls = ServerTls::from_pem(
            issued.cert_pem.as_bytes(),
            issued.key_pem.as_bytes(),
            Some(ca.cert_pem().as_bytes()),
            ClientAuth::Optional,
            vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        )
        .expect("a server configuration");
        let own = managed.connection(Some(OWN_TOKEN), Some("service-proxy"));
        let mut config = Config::new(tls, own);
        change(&mut config, &hub);
        let metrics = ServiceProxyMetrics::default();
        let drain = Drain::new();
        let proxy = ServiceProxy::new(&config, metrics.clone(), drain.clone()).expect("valid");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        drain.spawn(proxy.run(listener));
        let host = TunnelHost::of(&cluster);
        Self {
            managed,
            hub,
            ca,
            host,
            address,
            metrics,
            drain,
        }
    }

    fn peer(&self, leaf: Option<&Leaf>) -> Pool<Peer> {
        let issued = leaf.map(|leaf| self.ca.issue(leaf).expect("a leaf"));
        let pair = issued
            .as_ref()
            .map(|i| (i.cert_pem.as_bytes(), i.key_pem.as_bytes()));
        let tls = ClientTls::from_pem(self.ca.cert_pem().as_bytes(), pair, Vec::new())
            .expect("a client configuration");
        let peer = Peer {
            address: self.address,
            host: self.host.clone(),
            tls,
        };
        let origin = Origin::https(self.host.as_str()).expect("a host");
        Pool::new(
            peer,
            origin,
            PoolSettings::default(),
            PoolMetrics::default(),
        )
    }

    fn user_server(&self) -> Pool<Peer> {
        self.peer(Some(&Leaf::user_server_client()))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.drain.end();
    }
}

async fn rig() -> Rig {
    Rig::start(|_, _| {}).await
}

/// A request for the kube-apiserver, with these headers besides.
fn request(target: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = target.parse().expect("a target");
    let kube_apiserver = [
        ("cluster-proxy-proto", "https"),
        ("cluster-proxy-namespace", "default"),
        ("cluster-proxy-service", "kubernetes"),
        ("cluster-proxy-port", "443"),
    ];
    for (name, value) in kube_apiserver.iter().chain(fields) {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        request
            .headers_mut()
            .append(name, HeaderValue::from_str(value).expect("a value"));
    }
    request
}

fn stated(name: &str, groups: &[&str]) -> Request<Body> {
    let user = User {
        name: name.to_owned(),
        uid: Some("u-1".to_owned()),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        extra: BTreeMap::new(),
    };
    let mut request = request("/api/v1/pods?limit=5", &[]);
    user.to_remote_headers(request.headers_mut())
        .expect("plain text");
    request
}

async fn ask(pool: &Pool<Peer>, request: Request<Body>) -> (StatusCode, Value) {
    let after = Some(Duration::from_secs(10));
    let response = pool
        .send(request, Class::Short, after)
        .await
        .expect("answered");
    let status = response.status();
    let content = response
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    (status, serde_json::from_slice(&content).expect("JSON"))
}

const OWN_TOKEN: &str = "own-token";

fn alice() -> Value {
    json!({ "username": "alice", "groups": ["team", "system:authenticated"] })
}

#[tokio::test]
async fn a_stated_hub_user_is_impersonated_with_our_own_credentials() {
    let rig = rig().await;
    let pool = rig.user_server();
    let mut request = stated(
        "system:serviceaccount:ci:robot",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:ci",
            "system:authenticated",
        ],
    );
    request
        .headers_mut()
        .insert("audit-id", HeaderValue::from_static("id-1"));
    request
        .headers_mut()
        .insert("accept", HeaderValue::from_static("application/json"));
    let (status, _) = ask(&pool, request).await;
    assert_eq!(status, StatusCode::OK);
    let seen = rig.managed.take_one();
    assert_eq!(seen.target, "/api/v1/pods?limit=5");
    assert_eq!(seen.certificate, "service-proxy");
    assert_eq!(seen.protocol, Protocol::Http2);
    let mut headers = seen.headers;
    headers.sort();
    assert_eq!(
        headers,
        [
            "accept: application/json",
            "audit-id: id-1",
            "authorization: Bearer own-token",
            "impersonate-group: cluster:hub:system:serviceaccounts",
            "impersonate-group: cluster:hub:system:serviceaccounts:ci",
            "impersonate-group: system:authenticated",
            "impersonate-user: cluster:hub:system:serviceaccount:ci:robot",
        ]
    );
    assert!(rig.managed.reviewed().is_empty(), "nothing left to review");
}

#[tokio::test]
async fn only_the_user_servers_word_counts() {
    let rig = rig().await;
    let others = [
        None,
        Some(Leaf::proxy_client()),
        Some(Leaf::proxy_agent(&"managed".parse().expect("a name"))),
        Some(Leaf::client(
            "open-cluster-management:cluster-proxy:user-server ",
            Vec::new(),
        )),
    ];
    for leaf in others {
        let pool = rig.peer(leaf.as_ref());
        let (status, body) = ask(&pool, stated("alice", &["team"])).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{leaf:?}");
        assert_eq!(body["message"], "the request carries no bearer token");

        // With a token of its own, the statement is removed and the token counts.
        rig.managed.know("mine", alice());
        let mut request = stated("system:admin", &["system:masters"]);
        request
            .headers_mut()
            .insert(AUTHORIZATION, HeaderValue::from_static("Bearer mine"));
        assert_eq!(ask(&pool, request).await.0, StatusCode::OK);
        let seen = rig.managed.take_one();
        assert!(
            seen.headers
                .iter()
                .all(|line| !line.starts_with("x-remote-")),
            "{seen:?}"
        );
        assert!(
            seen.headers
                .iter()
                .all(|line| !line.starts_with("impersonate-")),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn a_stolen_user_server_key_is_not_root() {
    let rig = rig().await;
    let pool = rig.user_server();
    for (name, group) in [
        ("alice", "system:masters"),
        ("alice", "system:nodes"),
        ("alice", "system:kube-controller-manager"),
        ("system:kube-controller-manager", "team"),
        ("system:node:worker-1", "team"),
        ("cluster:hub:system:serviceaccount:a:b", "team"),
    ] {
        let (status, body) = ask(&pool, stated(name, &[group])).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{name} {group}");
        assert_eq!(body["reason"], "Forbidden");
        assert_eq!(body["kind"], "Status");
    }
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn doubtful_statements_are_refused() {
    let rig = rig().await;
    let pool = rig.user_server();
    for fields in [
        &[("x-remote-user", "alice"), ("x-remote-user", "bob")][..],
        &[("x-remote-group", "team")],
        &[("x-remote-user", "")],
    ] {
        let (status, _) = ask(&pool, request("/api", fields)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{fields:?}");
    }
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn a_token_of_this_cluster_goes_on_as_it_is_without_our_credentials() {
    let rig = rig().await;
    rig.managed.know("mine", alice());
    let pool = rig.peer(None);
    for _ in 0..3 {
        let answer = ask(&pool, request("/api", &[("authorization", "bearer  mine")])).await;
        assert_eq!(answer.0, StatusCode::OK);
        let seen = rig.managed.take_one();
        assert_eq!(seen.header("authorization"), ["bearer  mine"]);
        assert_eq!(seen.certificate, "", "no certificate of ours beside it");
        assert_eq!(seen.header("audit-id").len(), 1);
    }
    assert_eq!(rig.managed.reviewed(), ["mine"], "remembered");
}

#[tokio::test]
async fn a_client_that_impersonates_is_left_to_the_kube_apiserver() {
    let rig = rig().await;
    let pool = rig.peer(None);
    let fields = [
        ("authorization", "Bearer whatever"),
        ("impersonate-user", "bob"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
    ];
    assert_eq!(ask(&pool, request("/api", &fields)).await.0, StatusCode::OK);
    let seen = rig.managed.take_one();
    assert_eq!(seen.header("authorization"), ["Bearer whatever"]);
    assert_eq!(seen.header("impersonate-user"), ["bob"]);
    assert_eq!(seen.header("impersonate-group"), ["a", "b"]);
    assert_eq!(seen.certificate, "");
    assert!(rig.managed.reviewed().is_empty());
}

#[tokio::test]
async fn hard_case_2_without_a_usable_token_nothing_is_sent() {
    let rig = rig().await;
    let pool = rig.peer(None);
    let long = format!("Bearer {}", "a".repeat(70_000));
    for fields in [
        &[][..],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "Bearer a b")],
        &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
        &[("authorization", long.as_str())],
        &[("impersonate-user", "bob")],
        &[("authorization", "Bearer unknown")],
    ] {
        let (status, body) = ask(&pool, request("/api", fields)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{fields:?}");
        assert_eq!(body["reason"], "Unauthorized");
    }
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn a_hub_token_is_impersonated_where_the_hub_is_configured() {
    let rig =
        Rig::start(|config, hub| config.hub = Some(hub.connection(Some("agent"), None))).await;
    rig.hub.know("hub-token", alice());
    let pool = rig.peer(None);
    let fields = [("authorization", "Bearer hub-token"), ("cookie", "a=b")];
    assert_eq!(ask(&pool, request("/api", &fields)).await.0, StatusCode::OK);
    let seen = rig.managed.take_one();
    assert_eq!(seen.header("authorization"), ["Bearer own-token"]);
    assert_eq!(seen.header("impersonate-user"), ["alice"]);
    assert_eq!(
        seen.header("impersonate-group"),
        ["team", "system:authenticated"]
    );
    assert_eq!(
        rig.managed.reviewed(),
        ["hub-token"],
        "this cluster is asked first"
    );

    let (status, body) = ask(&pool, request("/api", &[("authorization", "Bearer none")])).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        body["message"],
        "the bearer token was not accepted, neither by the hub nor by the managed cluster"
    );
}

#[tokio::test]
async fn a_failed_review_is_never_a_no() {
    let rig =
        Rig::start(|config, hub| config.hub = Some(hub.connection(Some("agent"), None))).await;
    rig.hub.know("hub-token", alice());
    let pool = rig.peer(None);
    let request = || request("/api", &[("authorization", "Bearer hub-token")]);

    rig.managed.set_reviews(Reviews::Failing);
    let (status, body) = ask(&pool, request()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["details"]["retryAfterSeconds"], 5);
    assert!(
        body["message"]
            .as_str()
            .expect("text")
            .contains("by the managed cluster")
    );
    assert!(
        rig.hub.reviewed().is_empty(),
        "the token has not been shown to the hub"
    );

    rig.managed.set_reviews(Reviews::Answered);
    rig.hub.set_reviews(Reviews::Failing);
    let (status, body) = ask(&pool, request()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        body["message"]
            .as_str()
            .expect("text")
            .contains("by the hub")
    );
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn with_impersonation_off_tokens_pass_and_hub_users_do_not() {
    let off = Impersonation {
        enabled: false,
        ..Impersonation::default()
    };
    let rig = Rig::start(|config, _| config.impersonation = off).await;
    let pool = rig.user_server();
    assert_eq!(
        ask(&pool, stated("alice", &[])).await.0,
        StatusCode::FORBIDDEN
    );
    let answer = ask(&pool, request("/api", &[("authorization", "Bearer any")])).await;
    assert_eq!(answer.0, StatusCode::OK);
    assert_eq!(
        rig.managed.take_one().header("authorization"),
        ["Bearer any"]
    );
    assert!(rig.managed.reviewed().is_empty());
}

#[tokio::test]
async fn our_own_refused_credentials_are_not_the_clients_fault() {
    let rig = rig().await;
    rig.managed.refuse("Bearer own-token");
    let (status, body) = ask(&rig.user_server(), stated("alice", &[])).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(
        body["message"]
            .as_str()
            .expect("text")
            .contains("own credentials")
    );
}

#[tokio::test]
async fn a_target_must_be_named() {
    let rig = rig().await;
    let pool = rig.user_server();
    for (name, value, status) in [
        ("cluster-proxy-port", "0", StatusCode::BAD_REQUEST),
        ("cluster-proxy-proto", "gopher", StatusCode::BAD_REQUEST),
        ("cluster-proxy-service", "../x", StatusCode::BAD_REQUEST),
        ("cluster-proxy-namespace", "a.b", StatusCode::BAD_REQUEST),
    ] {
        let mut request = stated("alice", &[]);
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        assert_eq!(ask(&pool, request).await.0, status, "{name} {value}");
    }
    let mut missing = stated("alice", &[]);
    missing.headers_mut().remove("cluster-proxy-namespace");
    assert_eq!(ask(&pool, missing).await.0, StatusCode::BAD_REQUEST);
    let mut twice = stated("alice", &[]);
    twice
        .headers_mut()
        .append("cluster-proxy-port", HeaderValue::from_static("443"));
    assert_eq!(ask(&pool, twice).await.0, StatusCode::BAD_REQUEST);
    assert!(rig.managed.recorded().is_empty());

    // Another spelling of the kube-apiserver is authenticated all the same.
    let mut spelled = request("/api", &[]);
    spelled.headers_mut().insert(
        "cluster-proxy-service",
        HeaderValue::from_static("KUBERNETES"),
    );
    assert_eq!(ask(&pool, spelled).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn hard_case_9_path_bytes_arrive_as_they_were() {
    let rig = rig().await;
    let pool = rig.user_server();
    for target in [
        "/",
        "//api//v1/",
        "/a%2Fb/%2e%2e/../.%2E/;x=1",
        "/a\\b|c/{d}\"e",
        "/%zz%?%zz&&a=1&a=2;b",
        "/caf\u{e9}?q=\u{fc}",
        "/?",
        "/a??b=/c/../d",
    ] {
        let mut request = stated("alice", &[]);
        *request.uri_mut() = target.parse().expect("a target");
        assert_eq!(ask(&pool, request).await.0, StatusCode::OK);
        assert_eq!(rig.managed.take_one().target, target);
    }
}

#[tokio::test]
async fn hard_case_1_a_connection_header_takes_nothing_of_ours_away() {
    let rig = rig().await;
    rig.managed.know("mine", alice());
    // Hop-by-hop fields exist only in HTTP/1.1.
    let pool = rig.user_server();
    let mut upgrade = stated("alice", &["team"]);
    upgrade.headers_mut().insert(
        "connection",
        HeaderValue::from_static("Impersonate-User, impersonate-group, AUTHORIZATION, audit-id"),
    );
    let how = HandOn {
        class: Class::Short,
        head_timeout: None,
        upgrade: None,
    };
    // On HTTP/2 our own pool refuses to send such a header at all.
    let error = pool.hand_on(upgrade, how).await.expect_err("malformed");
    assert_eq!(error.reason(), "malformed");
    let text = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\
        connection: close, Impersonate-User\r\nCONNECTION: impersonate-group ,Authorization\r\n\
        cluster-proxy-proto: https\r\ncluster-proxy-namespace: default\r\n\
        cluster-proxy-service: kubernetes\r\ncluster-proxy-port: 443\r\n\
        x-remote-user: alice\r\nx-remote-group: team\r\nauthorization: Bearer mine\r\n\r\nok";
    let leaf = Leaf::user_server_client();
    let answer = raw_http1(&rig, Some(&leaf), text).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = rig.managed.take_one();
    assert_eq!(seen.method, Method::POST);
    assert_eq!(seen.body, b"ok");
    assert_eq!(seen.header("impersonate-user"), ["alice"]);
    assert_eq!(seen.header("impersonate-group"), ["team"]);
    assert_eq!(seen.header("authorization"), ["Bearer own-token"]);
    assert!(seen.header("connection").is_empty());
}

#[tokio::test]
async fn a_connection_header_cannot_turn_an_impersonation_into_oneself() {
    let rig = rig().await;
    rig.managed.know("mine", alice());
    let text = "GET /x HTTP/1.1\r\nhost: x\r\nconnection: close, impersonate-user\r\n\
        cluster-proxy-proto: https\r\ncluster-proxy-namespace: default\r\n\
        cluster-proxy-service: kubernetes\r\ncluster-proxy-port: 443\r\n\
        impersonate-user: bob\r\nauthorization: Bearer mine\r\n\r\n";
    let answer = raw_http1(&rig, None, text).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn hard_case_3_look_alike_headers_never_become_an_impersonation() {
    let rig = rig().await;
    let mut request = stated("alice", &[]);
    for name in [
        "impersonate_user",
        "impersonate_group",
        "x-impersonate-user",
    ] {
        let name = HeaderName::from_static(name);
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static("bob"));
    }
    assert_eq!(ask(&rig.user_server(), request).await.0, StatusCode::OK);
    let seen = rig.managed.take_one();
    assert_eq!(seen.header("impersonate-user"), ["alice"]);
    assert!(seen.header("impersonate-group").is_empty());
}

#[tokio::test]
async fn a_websocket_token_is_removed_from_an_impersonated_request() {
    let rig = rig().await;
    let mut request = stated("alice", &[]);
    request.headers_mut().insert(
        "sec-websocket-protocol",
        HeaderValue::from_static(
            "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0",
        ),
    );
    assert_eq!(ask(&rig.user_server(), request).await.0, StatusCode::OK);
    assert_eq!(
        rig.managed.take_one().header("sec-websocket-protocol"),
        ["v5.channel.k8s.io"]
    );
}

#[tokio::test]
async fn requests_share_connections() {
    let rig = rig().await;
    let pool = rig.user_server();
    for _ in 0..50 {
        assert_eq!(ask(&pool, stated("alice", &[])).await.0, StatusCode::OK);
    }
    assert_eq!(rig.metrics.apiserver.dialled.get(), 1);
    assert_eq!(rig.metrics.apiserver.requests.get(), 50);
    assert_eq!(rig.managed.accepted(), 1);
    assert_eq!(rig.metrics.active.get(), 0);
}

#[tokio::test]
async fn an_unreachable_kube_apiserver_is_named() {
    let rig = rig().await;
    rig.managed.stop();
    let (status, body) = ask(&rig.user_server(), stated("alice", &[])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body["message"],
        "the managed cluster's kube-apiserver cannot be reached by its service-proxy"
    );
}

/// An exec: the way in and the way out are HTTP/1.1 connections that become byte streams.
#[tokio::test]
async fn an_upgrade_goes_through_as_the_impersonated_user() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let rig = rig().await;
    let issued = rig.ca.issue(&Leaf::user_server_client()).expect("a leaf");
    let pair = Some((issued.cert_pem.as_bytes(), issued.key_pem.as_bytes()));
    let tls = ClientTls::from_pem(rig.ca.cert_pem().as_bytes(), pair, Vec::new())
        .expect("a client configuration");
    let peer = Peer {
        address: rig.address,
        host: rig.host.clone(),
        tls,
    };
    let mut io = peer.connect(Offer::Http1).await.expect("connected").io;
    let request = "POST /api/v1/namespaces/a/pods/b/exec?command=sh HTTP/1.1\r\nhost: x\r\n\
        connection: Upgrade\r\nupgrade: SPDY/3.1\r\n\
        x-stream-protocol-version: v4.channel.k8s.io\r\n\
        x-stream-protocol-version: v3.channel.k8s.io\r\n\
        cluster-proxy-proto: https\r\ncluster-proxy-namespace: default\r\n\
        cluster-proxy-service: kubernetes\r\ncluster-proxy-port: 443\r\n\
        x-remote-user: alice\r\n\r\n";
    io.write_all(request.as_bytes()).await.expect("sent");
    io.flush().await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert_eq!(
        head.matches("x-stream-protocol-version: ").count(),
        2,
        "kept apart: {head}"
    );

    io.write_all(b"ping").await.expect("open");
    io.flush().await.expect("open");
    let mut echoed = [0; 4];
    io.read_exact(&mut echoed).await.expect("echoed");
    assert_eq!(&echoed, b"ping");
    io.shutdown().await.expect("half closed");
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).await.expect("a clean end");
    assert_eq!(rest, b"bye");

    let seen = rig.managed.take_one();
    assert_eq!(seen.protocol, Protocol::Http1, "whatever ALPN would prefer");
    assert_eq!(seen.header("impersonate-user"), ["alice"]);
    assert_eq!(seen.header("authorization"), ["Bearer own-token"]);
    assert_eq!(seen.header("x-stream-protocol-version").len(), 2);
    assert_eq!(rig.metrics.apiserver.upgrades.get(), 1);
}

/// All that is logged while it lives.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn hard_case_22_no_token_cookie_or_query_is_logged_at_our_levels() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole process: a subscriber of one thread misses events whose callsites other tests
    // have met before it. What those log is looked through as well.
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only one of this process");

    let rig =
        Rig::start(|config, hub| config.hub = Some(hub.connection(Some("agent"), None))).await;
    rig.managed.know("s3cret-managed", alice());
    rig.hub.know("s3cret-hub", alice());
    let pool = rig.peer(None);
    for token in ["s3cret-managed", "s3cret-hub", "s3cret-unknown"] {
        let bearer = format!("Bearer {token}");
        let fields = [
            ("authorization", bearer.as_str()),
            ("cookie", "s3cret-cookie"),
        ];
        ask(&pool, request("/api?token=s3cret-query", &fields)).await;
    }
    rig.managed.set_reviews(Reviews::Failing);
    ask(
        &pool,
        request("/api", &[("authorization", "Bearer s3cret-failing")]),
    )
    .await;
    ask(
        &pool,
        request("/api", &[("authorization", "Bearer s3cret two")]),
    )
    .await;

    let text = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
    assert!(
        text.contains("access"),
        "the requests themselves are logged: {text}"
    );
    assert!(text.contains("path=\"/api\""), "{text}");
    for secret in ["s3cret", OWN_TOKEN] {
        let logged = text.lines().find(|line| line.contains(secret));
        assert_eq!(logged, None);
    }
}

/// Sends raw HTTP/1.1 as some peer and reads until the connection closes.
async fn raw_http1(rig: &Rig, leaf: Option<&Leaf>, text: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let issued = leaf.map(|leaf| rig.ca.issue(leaf).expect("a leaf"));
    let pair = issued
        .as_ref()
        .map(|i| (i.cert_pem.as_bytes(), i.key_pem.as_bytes()));
    let tls = ClientTls::from_pem(rig.ca.cert_pem().as_bytes(), pair, Vec::new())
        .expect("a client configuration");
    let peer = Peer {
        address: rig.address,
        host: rig.host.clone(),
        tls,
    };
    let mut io = peer.connect(Offer::Http1).await.expect("connected").io;
    io.write_all(text.as_bytes()).await.expect("sent");
    io.flush().await.expect("sent");
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}
