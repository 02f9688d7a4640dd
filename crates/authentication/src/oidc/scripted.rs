//! An OpenID provider over real TLS that answers by a script, and counts what it is asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::fake::Signer;

/// What a path is answered with.
#[derive(Clone)]
pub(super) enum Page {
    Json(Value),
    Status(u16),
    Redirect(String),
    /// A body without an end.
    Endless,
    /// Nothing, ever.
    Silent,
}

type Script = Box<dyn Fn(&str) -> Page + Send>;

pub(super) struct Provider {
    pub(super) ca: CertificateAuthority,
    pub(super) port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<String>>,
}

impl Provider {
    /// A provider that publishes these keys.
    pub(super) async fn start(keys: &[&Signer]) -> Self {
        let ca = CertificateAuthority::generate().expect("a CA");
        let leaf = Leaf::server(vec!["localhost".to_owned()]);
        let issued = ca.issue(&leaf).expect("a leaf");
        let tls = ServerTls::from_pem(
            issued.cert_pem.as_bytes(),
            issued.key_pem.as_bytes(),
            None,
            ClientAuth::Off,
            vec![b"http/1.1".to_vec()],
        )
        .expect("a server configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(|_| Page::Status(404))),
            asked: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, tls, Arc::clone(&shared)));
        let provider = Self {
            ca,
            port,
            shared,
            _tasks: tasks,
        };
        provider.publish(keys);
        provider
    }

    pub(super) fn issuer(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(super) fn tls(&self) -> ClientTls {
        ClientTls::from_pem(self.ca.cert_pem().as_bytes(), None, Vec::new()).expect("a CA")
    }

    pub(super) fn document(&self) -> Value {
        json!({ "issuer": self.issuer(), "jwks_uri": format!("{}/keys", self.issuer()) })
    }

    /// From now on it publishes these keys.
    pub(super) fn publish(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
        let (document, keys) = (self.document(), json!({ "keys": keys }));
        self.rewrite(move |path| match path {
            DISCOVERY => Page::Json(document.clone()),
            "/keys" => Page::Json(keys.clone()),
            _ => Page::Status(404),
        });
    }

    /// From now on it answers a path so.
    pub(super) fn rewrite(&self, script: impl Fn(&str) -> Page + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    pub(super) fn now_always(&self, page: Page) {
        self.rewrite(move |_| page.clone());
    }

    /// How often this path was asked for.
    pub(super) fn count(&self, path: &str) -> usize {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|own| *own == path).count()
    }
}

pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";

async fn serve(listener: TcpListener, tls: ServerTls, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.expect("accepted");
        let acceptor = TlsAcceptor::from(tls.config());
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let Ok(io) = acceptor.accept(tcp).await else {
                return;
            };
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(io), service)
                .await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let page = (shared.script.lock().unwrap())(&path);
    shared.asked.lock().unwrap().push(path);
    let (status, location, body) = match page {
        Page::Json(value) => (200, None, Full::from(value.to_string()).boxed()),
        Page::Status(status) => (status, None, Full::default().boxed()),
        Page::Redirect(to) => (302, Some(to), Full::default().boxed()),
        Page::Endless => (200, None, BoxBody::new(Endless)),
        Page::Silent => std::future::pending().await,
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let Some(location) = location {
        response
            .headers_mut()
            .insert("location", location.parse().expect("a header"));
    }
    Ok(response)
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let space = Bytes::from_static(&[b' '; 4096]);
        std::task::Poll::Ready(Some(Ok(Frame::data(space))))
    }
}
