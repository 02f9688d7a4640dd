//! A scripted cluster: a kube-apiserver that reviews the tokens it is told about and remembers what
//! else it is asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster_proxy_forward::server::{Client, Front, ServerMetrics, ServerSettings, serve};
use cluster_proxy_forward::{Body, Protocol};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use cluster_proxy_identity::{PeerIdentity, Token};
use cluster_proxy_kube_client::{Address, Connection, ConnectionParts, TokenSource};
use cluster_proxy_runtime::drain::Drain;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A running cluster; it ends when dropped.
#[derive(Debug)]
pub(crate) struct FakeCluster {
    api: Arc<FakeApi>,
    address: SocketAddr,
    ca: CertificateAuthority,
    metrics: ServerMetrics,
    drain: Drain,
}

/// A request as the kube-apiserver received it.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Its method.
    pub(crate) method: Method,
    /// Path and query, byte for byte.
    pub(crate) target: String,
    /// `name: value` of each header, in the order of arrival, names in lower case.
    pub(crate) headers: Vec<String>,
    /// Its content.
    pub(crate) body: Vec<u8>,
    /// The content did not break off.
    pub(crate) whole: bool,
    /// HTTP version of the connection.
    pub(crate) protocol: Protocol,
    /// Common name of the connection's client certificate; empty without one.
    pub(crate) certificate: String,
}

impl Recorded {
    /// All values of one header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter_map(|line| line.split_once(": "))
            .filter(|(own, _)| *own == name)
            .map(|(_, value)| value)
            .collect()
    }
}

/// How token reviews are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reviews {
    /// By the users that are known.
    Answered,
    /// With 500.
    Failing,
}

#[derive(Debug)]
struct FakeApi {
    tls: ServerTls,
    users: Mutex<HashMap<String, Value>>,
    reviews: Mutex<Reviews>,
    reviewed: Mutex<Vec<String>>,
    recorded: Mutex<Vec<Recorded>>,
    refuses: Mutex<Option<String>>,
    /// Who may impersonate what: `<user> <resource> <name>`.
    impersonators: Mutex<Vec<String>>,
    pages: Mutex<HashMap<String, Value>>,
    drain: Drain,
}

impl FakeCluster {
    /// Starts one on a free port of loopback.
    pub(crate) async fn start() -> Self {
        let ca = CertificateAuthority::generate().expect("a CA");
        let leaf = Leaf::server(
            [SERVER_NAME, SERVICE_NAME, "localhost"]
                .map(str::to_owned)
                .into(),
        );
        let issued = ca.issue(&leaf).expect("a leaf");
        let tls = ServerTls::from_pem(
            issued.cert_pem.as_bytes(),
            issued.key_pem.as_bytes(),
            Some(ca.cert_pem().as_bytes()),
            ClientAuth::Optional,
            vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        )
        .expect("a server configuration");
        let drain = Drain::new();
        let api = Arc::new(FakeApi {
            tls,
            users: Mutex::default(),
            reviews: Mutex::new(Reviews::Answered),
            reviewed: Mutex::default(),
            recorded: Mutex::default(),
            refuses: Mutex::default(),
            impersonators: Mutex::default(),
            pages: Mutex::default(),
            drain: drain.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let metrics = ServerMetrics::default();
        drain.spawn(serve(
            listener,
            Arc::clone(&api),
            ServerSettings::default(),
            metrics.clone(),
            drain.clone(),
        ));
        Self {
            api,
            address,
            ca,
            metrics,
            drain,
        }
    }

    /// A connection to it, with a token, a client certificate of this common name, or both.
    pub(crate) fn connection(&self, token: Option<&str>, certificate: Option<&str>) -> Connection {
        let certificate = certificate.map(|name| {
            let issued = self
                .ca
                .issue(&Leaf::client(name, Vec::new()))
                .expect("a leaf");
            (issued.cert_pem.into_bytes(), issued.key_pem.into_bytes())
        });
        let token = token.map_or_else(TokenSource::none, |text| {
            TokenSource::fixed(Token::parse(text).expect("a token"))
        });
        Connection::from_parts(ConnectionParts {
            address: Address::Tcp {
                host: self.address.ip().to_string(),
                port: self.address.port(),
            },
            server_name: SERVER_NAME.to_owned(),
            ca: self.ca.cert_pem().as_bytes().to_vec(),
            client_certificate: certificate,
            token,
        })
        .expect("a connection")
    }

    /// From now on `token` is this user's; `user` is the `status.user` of its review.
    pub(crate) fn know(&self, token: &str, user: Value) {
        lock(&self.api.users).insert(token.to_owned(), user);
    }

    /// From now on this path is answered with this: the cluster is an OpenID provider too.
    pub(crate) fn publish(&self, path: &str, page: Value) {
        lock(&self.api.pages).insert(path.to_owned(), page);
    }

    /// Its URL, under a name that resolves.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that trusts its certificate.
    pub(crate) fn client_tls(&self) -> ClientTls {
        ClientTls::from_pem(self.ca.cert_pem().as_bytes(), None, Vec::new()).expect("a CA")
    }

    /// From now on token reviews are answered so.
    pub(crate) fn set_reviews(&self, reviews: Reviews) {
        *lock(&self.api.reviews) = reviews;
    }

    /// From now on this `Authorization` is answered with 401.
    pub(crate) fn refuse(&self, authorization: &str) {
        *lock(&self.api.refuses) = Some(authorization.to_owned());
    }

    /// From now on this user may impersonate that: `users`, `groups` and so on, and a name.
    pub(crate) fn lets_impersonate(&self, user: &str, resource: &str, name: &str) {
        lock(&self.api.impersonators).push(format!("{user} {resource} {name}"));
    }

    /// Tokens that it was asked to review.
    pub(crate) fn reviewed(&self) -> Vec<String> {
        lock(&self.api.reviewed).clone()
    }

    /// Requests other than reviews, in the order of arrival.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        lock(&self.api.recorded).clone()
    }

    /// The only request since the last call.
    ///
    /// # Panics
    /// When there was none, or another.
    pub(crate) fn take_one(&self) -> Recorded {
        let mut all = std::mem::take(&mut *lock(&self.api.recorded));
        assert_eq!(all.len(), 1, "requests that arrived: {all:#?}");
        all.remove(0)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.metrics.accepted.get()
    }

    /// Cuts all connections and accepts no more.
    pub(crate) fn stop(&self) {
        self.drain.end();
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.drain.end();
    }
}

impl Front for FakeApi {
    type Peer = String;
    type Content = Body;

    fn tls_config(&self) -> Arc<ServerConfig> {
        self.tls.config()
    }

    fn identify(&self, certificates: Option<&[CertificateDer<'_>]>) -> String {
        match PeerIdentity::of(certificates) {
            PeerIdentity::Client { common_name } => common_name,
            PeerIdentity::Anonymous => String::new(),
            other => format!("{other:?}"),
        }
    }

    async fn answer(&self, request: Request<Body>, client: &Arc<Client<String>>) -> Response<Body> {
        let page = lock(&self.pages).get(request.uri().path()).cloned();
        if let Some(page) = page {
            return answer_json(StatusCode::OK, &page);
        }
        match request.uri().path() {
            "/apis/authentication.k8s.io/v1/tokenreviews" => self.review(request).await,
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => self.access(request).await,
            _ => self.record(request, client).await,
        }
    }
}

impl FakeApi {
    async fn review(&self, request: Request<Body>) -> Response<Body> {
        let review = read_json(request).await;
        let token = review["spec"]["token"]
            .as_str()
            .expect("a token")
            .to_owned();
        let user = lock(&self.users).get(&token).cloned();
        lock(&self.reviewed).push(token);
        if *lock(&self.reviews) == Reviews::Failing {
            return answer_json(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({ "message": "down" }),
            );
        }
        let status = match user {
            Some(user) => json!({ "authenticated": true, "user": user }),
            None => json!({ "error": "invalid bearer token" }),
        };
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {}, "status": status,
        });
        answer_json(StatusCode::CREATED, &review)
    }

    async fn access(&self, request: Request<Body>) -> Response<Body> {
        let review = read_json(request).await;
        if *lock(&self.reviews) == Reviews::Failing {
            return answer_json(StatusCode::FORBIDDEN, &json!({ "message": "no right" }));
        }
        let attributes = &review["spec"]["resourceAttributes"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let asked = format!(
            "{} {} {}",
            text(&review["spec"]["user"]),
            text(&attributes["resource"]),
            text(&attributes["name"])
        );
        let allowed =
            attributes["verb"] == "impersonate" && lock(&self.impersonators).contains(&asked);
        answer_json(
            StatusCode::CREATED,
            &json!({ "spec": {}, "status": { "allowed": allowed } }),
        )
    }

    async fn record(&self, mut request: Request<Body>, client: &Client<String>) -> Response<Body> {
        let upgrade = request.headers().get(UPGRADE).cloned();
        let switch = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let refuses = lock(&self.refuses).clone();
        let refused = refuses.is_some_and(|refused| {
            parts
                .headers
                .get("authorization")
                .is_some_and(|value| value == refused.as_str())
        });
        let mut recorded = Recorded {
            method: parts.method,
            target: parts
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            headers: parts.headers.iter().map(line).collect(),
            body: Vec::new(),
            whole: true,
            protocol: client.protocol,
            certificate: client.peer.clone(),
        };
        match body.collect().await {
            Ok(content) => recorded.body = content.to_bytes().to_vec(),
            Err(_) => recorded.whole = false,
        }
        lock(&self.recorded).push(recorded);
        if refused {
            return answer_json(
                StatusCode::UNAUTHORIZED,
                &json!({ "message": "Unauthorized" }),
            );
        }
        match (upgrade, switch) {
            (Some(protocol), Some(switch)) => {
                self.drain.spawn_until_ended(async move {
                    let Ok(upgraded) = switch.await else { return };
                    let _ = echo(TokioIo::new(upgraded)).await;
                });
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, protocol);
                for version in ["v4.channel.k8s.io", "v3.channel.k8s.io"] {
                    headers.append(STREAM_PROTOCOL, HeaderValue::from_static(version));
                }
                response
            }
            _ => answer_json(StatusCode::OK, &json!({ "kind": "PodList", "items": [] })),
        }
    }
}

async fn read_json(request: Request<Body>) -> Value {
    let content = request.into_body().collect().await.expect("a whole body");
    serde_json::from_slice(&content.to_bytes()).expect("JSON")
}

/// Sends back what comes until its end, and then `bye`.
async fn echo<Io>(mut io: Io) -> std::io::Result<()>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 4096];
    loop {
        let read = io.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        io.write_all(&buffer[..read]).await?;
        io.flush().await?;
    }
    io.write_all(b"bye").await?;
    io.shutdown().await
}

fn answer_json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn line((name, value): (&HeaderName, &HeaderValue)) -> String {
    format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a kube-apiserver's certificate is always valid for.
const SERVER_NAME: &str = "kubernetes.default.svc";

/// It may stand for this Service, too.
pub(crate) const SERVICE_NAME: &str = "web.shop.svc";

/// How SPDY peers agree on a version of the stream protocol.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
