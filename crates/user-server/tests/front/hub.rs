//! A hub's kube-apiserver as far as the user-server asks it: TokenReviews and signing keys.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_kube_client::{Address, Connection, ConnectionParts, TokenSource};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::server_tls;

const NAME: &str = "hub.test";

/// The hub. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    port: u16,
    users: Mutex<HashMap<String, Value>>,
    asked: Mutex<Vec<String>>,
    down: Mutex<Option<StatusCode>>,
    /// Who may use which cluster: `<user> <verb> <cluster>`; nobody can say without it.
    access: Mutex<Option<Vec<String>>>,
    key: Signer,
}

impl Hub {
    pub(crate) async fn start(ca: &CertificateAuthority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = Self(Arc::new(Inner {
            port: listener.local_addr().unwrap().port(),
            users: Mutex::default(),
            asked: Mutex::default(),
            down: Mutex::default(),
            access: Mutex::new(Some(Vec::new())),
            key: Signer::new("hub"),
        }));
        let tls = server_tls(ca, &Leaf::server(vec![NAME.to_owned()]), &[b"http/1.1"]);
        let server = hub.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (server, acceptor) = (server.clone(), TlsAcceptor::from(tls.config()));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    let service = service_fn(move |request| {
                        let server = server.clone();
                        async move { Ok::<_, Infallible>(server.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        hub
    }

    /// The user-server's connection to it.
    pub(crate) fn connection(&self, ca: &CertificateAuthority) -> Connection {
        Connection::from_parts(ConnectionParts {
            address: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port: self.0.port,
            },
            server_name: NAME.to_owned(),
            ca: ca.cert_pem().as_bytes().to_vec(),
            client_certificate: None,
            token: TokenSource::none(),
        })
        .unwrap()
    }

    /// From now on `token` is this user's.
    pub(crate) fn knows(&self, token: &str, user: Value) {
        self.0.users.lock().unwrap().insert(token.to_owned(), user);
    }

    /// A token that the hub has signed, whatever else it thinks of it.
    pub(crate) fn signed_token(&self, subject: &str) -> String {
        self.0.key.sign(subject)
    }

    /// From now on every question is answered with this code.
    pub(crate) fn breaks_with(&self, code: u16) {
        *self.0.down.lock().unwrap() = Some(StatusCode::from_u16(code).unwrap());
    }

    /// From now on somebody may use a cluster: `<user> <verb> <cluster>`.
    pub(crate) fn lets(&self, line: &str) {
        let mut access = self.0.access.lock().unwrap();
        access.as_mut().unwrap().push(line.to_owned());
    }

    /// From now on nobody may ask who may use a cluster.
    pub(crate) fn denies_the_question(&self) {
        *self.0.access.lock().unwrap() = None;
    }

    /// The tokens that were to be reviewed, in order.
    pub(crate) fn reviewed(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let down = *self.0.down.lock().unwrap();
        let (code, answer) = match (down, path.as_str()) {
            (Some(code), _) => (code, json!({"kind": "Status", "message": "down"})),
            (None, "/openid/v1/jwks") => {
                (StatusCode::OK, json!({"keys": [self.0.key.published()]}))
            }
            (None, "/apis/authentication.k8s.io/v1/tokenreviews") => {
                let review: Value = serde_json::from_slice(&body).unwrap();
                (StatusCode::CREATED, self.review(review))
            }
            (None, "/apis/authorization.k8s.io/v1/subjectaccessreviews") => {
                self.access(&serde_json::from_slice(&body).unwrap())
            }
            (None, _) => (StatusCode::NOT_FOUND, Value::Null),
        };
        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = code;
        response
    }

    fn access(&self, review: &Value) -> (StatusCode, Value) {
        let asked = &review["spec"]["resourceAttributes"];
        assert_eq!(asked["group"], "cluster.open-cluster-management.io");
        assert_eq!(asked["resource"], "managedclusters");
        assert_eq!(asked["subresource"], "proxy");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let line = format!(
            "{} {} {}",
            text(&review["spec"]["user"]),
            text(&asked["verb"]),
            text(&asked["name"])
        );
        match &*self.0.access.lock().unwrap() {
            Some(lines) => {
                let status = json!({"allowed": lines.contains(&line)});
                (StatusCode::CREATED, json!({"spec": {}, "status": status}))
            }
            None => (
                StatusCode::FORBIDDEN,
                json!({"kind": "Status", "message": "no right"}),
            ),
        }
    }

    /// Like the real one, it repeats the question, token included.
    fn review(&self, mut review: Value) -> Value {
        let token = review["spec"]["token"].as_str().unwrap().to_owned();
        review["status"] = match self.0.users.lock().unwrap().get(&token) {
            Some(user) => json!({"authenticated": true, "user": user}),
            None => json!({"user": {}, "error": "invalid bearer token"}),
        };
        self.0.asked.lock().unwrap().push(token);
        review
    }
}

/// A cluster's key for service account tokens.
pub(crate) struct Signer {
    key: EncodingKey,
    kid: &'static str,
}

impl Signer {
    pub(crate) fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
            kid,
        }
    }

    /// A token from an issuer of whose name every cluster has one.
    pub(crate) fn sign(&self, subject: &str) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        let claims = json!({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "aud": ["somebody-else"],
            "sub": subject,
            "exp": 1,
        });
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    fn published(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk
    }
}
