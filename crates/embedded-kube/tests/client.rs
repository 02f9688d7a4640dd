//! A small HTTP client of a Kubernetes API: no library of ours or of others decides what the
//! tests see. One connection is kept for one request after the other; each has a deadline.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_embedded_kube::LocalAddress;
use cluster_proxy_identity::tls::ClientTls;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// An API server, and how its administrator proves itself.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: LocalAddress,
    pub(crate) server_name: String,
    /// PEM.
    pub(crate) ca: Vec<u8>,
    pub(crate) admin: Arc<Certificate>,
    /// An image that pods can have.
    pub(crate) image: String,
    /// What a line of a pod's log has in it, when the pod runs `echo hello`.
    pub(crate) log: &'static str,
}

/// PEM.
pub(crate) struct Certificate {
    pub(crate) cert: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// Somebody who sends requests.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) target: Target,
    certificate: Option<Arc<Certificate>>,
    headers: HeaderMap,
    /// Shared with all who show the same certificate.
    kept: Arc<Mutex<Option<Sender>>>,
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Sender = http1::SendRequest<Full<Bytes>>;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) bytes: Bytes,
}

impl Target {
    pub(crate) fn admin(&self) -> Client {
        Client {
            target: self.clone(),
            certificate: Some(Arc::clone(&self.admin)),
            headers: HeaderMap::new(),
            kept: Arc::default(),
        }
    }

    pub(crate) fn anonymous(&self) -> Client {
        Client {
            certificate: None,
            kept: Arc::default(),
            ..self.admin()
        }
    }

    pub(crate) fn with_token(&self, token: &str) -> Client {
        self.anonymous()
            .with(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }
}

impl Client {
    /// The same, with one more header in each request.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        let name: http::HeaderName = name.parse().expect("a header name");
        client
            .headers
            .append(name, value.parse().expect("a header value"));
        client
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, JSON, Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, JSON, body.to_string().into())
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PUT, path, JSON, body.to_string().into())
            .await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Reply {
        let kind = format!("application/{kind}");
        self.send(Method::PATCH, path, &kind, body.to_string().into())
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, JSON, Bytes::new()).await
    }

    /// # Panics
    /// When there is no answer in time.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Reply {
        let answered = async {
            let kept = self.kept.lock().await.take();
            let mut sender = match kept {
                Some(sender) if sender.is_ready() => sender,
                _ => self.connect().await,
            };
            let request = self.request(method, path, content_type, body);
            let response = sender.send_request(request).await.expect("an answer");
            let code = response.status();
            let bytes = response.into_body().collect().await;
            let bytes = bytes.expect("a whole body").to_bytes();
            if sender.ready().await.is_ok() {
                *self.kept.lock().await = Some(sender);
            }
            Reply { code, bytes }
        };
        timeout(DEADLINE, answered)
            .await
            .unwrap_or_else(|_| panic!("no answer in time: {path}"))
    }

    /// An answer that goes on, line by line.
    ///
    /// # Panics
    /// When it does not begin in time, or is refused.
    pub(crate) async fn stream(&self, path: &str) -> Lines {
        let opened = async {
            let mut sender = self.connect().await;
            let request = self.request(Method::GET, path, JSON, Bytes::new());
            sender.send_request(request).await.expect("an answer")
        };
        let response = timeout(DEADLINE, opened)
            .await
            .unwrap_or_else(|_| panic!("no answer in time: {path}"));
        assert_eq!(response.status(), 200, "{path}");
        Lines {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }

    async fn connect(&self) -> Sender {
        let certificate = self
            .certificate
            .as_ref()
            .map(|it| (it.cert.as_slice(), it.key.as_slice()));
        let tls = ClientTls::from_pem(&self.target.ca, certificate, Vec::new())
            .expect("the target's certificates are PEM");
        let stream: Box<dyn Transport> = match &self.target.address {
            LocalAddress::Tcp(address) => {
                Box::new(TcpStream::connect(address).await.expect("it listens"))
            }
            LocalAddress::Unix(path) => {
                Box::new(UnixStream::connect(path).await.expect("it listens"))
            }
        };
        let name = ServerName::try_from(self.target.server_name.clone()).expect("a server name");
        let stream = TlsConnector::from(tls.config())
            .connect(name, stream)
            .await
            .expect("a TLS session");
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/1.1");
        // Ends with the test's runtime, or with its last user.
        tokio::spawn(connection);
        sender
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        let headers = request.headers_mut();
        headers.insert(HOST, "contract".parse().expect("a host"));
        headers.insert(ACCEPT, JSON.parse().expect("a media type"));
        headers.insert(CONTENT_TYPE, content_type.parse().expect("a media type"));
        for (name, value) in &self.headers {
            if *name == ACCEPT {
                headers.insert(name, value.clone());
            } else {
                headers.append(name, value.clone());
            }
        }
        request
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// The JSON of an answer that has to have this code.
    ///
    /// # Panics
    /// When it has another.
    pub(crate) fn expect(&self, code: u16) -> Value {
        assert_eq!(
            self.code.as_u16(),
            code,
            "{}",
            String::from_utf8_lossy(&self.bytes)
        );
        self.json()
    }

    /// The message of a refusal that has to have this code and reason.
    ///
    /// # Panics
    /// When it has others, or is no Status.
    pub(crate) fn refused(&self, code: u16, reason: &str) -> String {
        let status = self.expect(code);
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["apiVersion"], "v1", "{status}");
        assert_eq!(status["status"], "Failure", "{status}");
        assert_eq!(status["reason"], reason, "{status}");
        assert_eq!(status["code"], code, "{status}");
        status["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// The lines of an answer that goes on.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line without its end; `None` when the answer is over.
    ///
    /// # Panics
    /// When there is none in time.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.rest.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let frame = timeout(DEADLINE, self.body.frame()).await;
            match frame.expect("a line in time") {
                Some(frame) => {
                    if let Ok(data) = frame.expect("no broken body").into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                None => return None,
            }
        }
    }

    /// The next event of a watch: its type and object.
    ///
    /// # Panics
    /// When there is none in time.
    pub(crate) async fn event(&mut self) -> (String, Value) {
        let line = self.next().await.expect("the watch goes on");
        let mut event: Value = serde_json::from_str(&line).expect("an event is JSON");
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        (kind, event["object"].take())
    }
}

/// A namespace of a test's own.
pub(crate) struct Space {
    pub(crate) admin: Client,
    pub(crate) name: String,
}

impl Space {
    pub(crate) async fn new(target: &Target) -> Self {
        let admin = target.admin();
        let body = json!({"metadata": {"generateName": "contract-"}});
        let made = admin.post("/api/v1/namespaces", &body).await.expect(201);
        Self {
            admin,
            name: made["metadata"]["name"]
                .as_str()
                .expect("it has a name")
                .to_owned(),
        }
    }

    /// The path of a kind of the core group, or of an object of it.
    pub(crate) fn core(&self, below: &str) -> String {
        format!("/api/v1/namespaces/{}/{below}", self.name)
    }

    /// The same in another group and version.
    pub(crate) fn group(&self, group: &str, below: &str) -> String {
        format!("/apis/{group}/namespaces/{}/{below}", self.name)
    }

    /// Deletes the namespace, so that a real cluster is left as it was found.
    pub(crate) async fn end(self) {
        let path = format!("/api/v1/namespaces/{}", self.name);
        self.admin.delete(&path).await.expect(200);
    }
}

/// Tries until `look` finds something.
///
/// # Panics
/// When it finds nothing in time.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Makes aws-lc-rs the provider of this program, once.
pub(crate) fn install_crypto_provider() {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        cluster_proxy_identity::tls::install_crypto_provider().expect("nobody else installs one");
    });
}

/// For one answer, and for one line of one that goes on. A real kubelet starts a pod in seconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// For something that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

const JSON: &str = "application/json";
