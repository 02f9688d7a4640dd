//! A scripted kube-apiserver behind a [`kube::Client`], without sockets, so that tests can stop
//! the clock. It counts what it is asked.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_identity::Token;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kube::client::Body;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

/// What the server answers, and after how long.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) body: Vec<u8>,
    pub(crate) delay: Duration,
}

impl Reply {
    pub(crate) fn json(body: &Value) -> Self {
        Self::raw(StatusCode::CREATED, body.to_string())
    }

    pub(crate) fn raw(code: StatusCode, body: impl Into<Vec<u8>>) -> Self {
        Self {
            code,
            body: body.into(),
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn status(code: StatusCode, message: &str) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": code.as_u16(),
        });
        Self::raw(code, body.to_string())
    }

    /// A TokenReview with this status; like the real one, it repeats the question.
    pub(crate) fn review(status: &Value) -> Self {
        Self::json(&json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"token": SECRET}, "status": status,
        }))
    }

    pub(crate) fn yes(name: &str) -> Self {
        Self::review(&json!({
            "authenticated": true,
            "user": {
                "username": name, "uid": "u-1", "groups": ["system:authenticated", "g"],
                "extra": {"scopes": ["a", "b"]},
            },
            "audiences": ["https://kubernetes.default.svc"],
        }))
    }

    pub(crate) fn no() -> Self {
        Self::review(&json!({"user": {}, "error": "invalid bearer token"}))
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// From path and body to the answer.
type Script = Box<dyn Fn(&str, &Value) -> Reply + Send>;

/// The server. Clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Inner>);

struct Inner {
    script: Mutex<Script>,
    asked: Mutex<Vec<(String, Value)>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl FakeApi {
    /// A server that answers (path, body) by this script.
    pub(crate) fn new(script: impl Fn(&str, &Value) -> Reply + Send + 'static) -> Self {
        Self(Arc::new(Inner {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        }))
    }

    /// A server that always answers the same.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::new(move |_, _| reply.clone())
    }

    /// From now on it answers so.
    pub(crate) fn rewrite(&self, script: impl Fn(&str, &Value) -> Reply + Send + 'static) {
        *self.0.script.lock().unwrap() = Box::new(script);
    }

    pub(crate) fn now_always(&self, reply: Reply) {
        self.rewrite(move |_, _| reply.clone());
    }

    pub(crate) fn client(&self) -> kube::Client {
        let server = self.clone();
        kube::Client::new(
            tower::service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            }),
            "default",
        )
    }

    /// How often it was asked.
    pub(crate) fn count(&self) -> usize {
        self.0.asked.lock().unwrap().len()
    }

    /// The last question.
    pub(crate) fn last(&self) -> (String, Value) {
        self.0
            .asked
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("a question")
    }

    /// How many questions were open at once, at most.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.0.most_in_flight.load(Ordering::SeqCst)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request
            .into_body()
            .collect()
            .await
            .expect("a whole body")
            .to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let reply = (self.0.script.lock().unwrap())(&path, &body);
        self.0.asked.lock().unwrap().push((path, body));
        let open = Open::new(&self.0);
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay).await;
        }
        drop(open);
        let mut response = Response::new(Full::new(Bytes::from(reply.body)));
        *response.status_mut() = reply.code;
        response
    }
}

/// A question under way; cancelled ones count down too.
struct Open<'a>(&'a Inner);

impl<'a> Open<'a> {
    fn new(inner: &'a Inner) -> Self {
        let now = inner.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(inner)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The token of most tests. Nothing printed may contain it.
pub(crate) const SECRET: &str = "s3cret-bearer-token";

pub(crate) fn secret() -> Token {
    token(SECRET)
}

pub(crate) fn token(text: &str) -> Token {
    Token::parse(text).expect("a token")
}

/// A signing key of a cluster.
pub(crate) struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<&'static str>,
}

impl Signer {
    pub(crate) fn rsa(kid: &'static str) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self {
            key,
            algorithm: Algorithm::RS256,
            kid: Some(kid),
        }
    }

    pub(crate) fn ec(kid: &'static str) -> Self {
        Self::of_curve(kid, &PKCS_ECDSA_P256_SHA256, Algorithm::ES256)
    }

    pub(crate) fn ec384(kid: &'static str) -> Self {
        Self::of_curve(kid, &PKCS_ECDSA_P384_SHA384, Algorithm::ES384)
    }

    fn of_curve(
        kid: &'static str,
        curve: &'static rcgen::SignatureAlgorithm,
        algorithm: Algorithm,
    ) -> Self {
        let pair = KeyPair::generate_for(curve).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self {
            key,
            algorithm,
            kid: Some(kid),
        }
    }

    /// The same key under another name, or none.
    pub(crate) fn named(self, kid: Option<&'static str>) -> Self {
        Self { kid, ..self }
    }

    pub(crate) fn with_algorithm(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// The key as a JWKS publishes it.
    pub(crate) fn published(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["use"] = json!("sig");
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    pub(crate) fn sign(&self, claims: &Value) -> Token {
        let mut header = Header::new(self.algorithm);
        header.kid = self.kid.map(str::to_owned);
        token(&jsonwebtoken::encode(&header, claims, &self.key).unwrap())
    }

    /// A token like those of a service account.
    pub(crate) fn token(&self) -> Token {
        self.sign(&json!({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "aud": ["https://kubernetes.default.svc.cluster.local"],
            "sub": "system:serviceaccount:default:ci",
            "exp": 1, "iat": 0,
        }))
    }
}

/// A JWKS answer with these keys.
pub(crate) fn jwks(keys: &[&Signer]) -> Reply {
    let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
    Reply::raw(StatusCode::OK, json!({ "keys": keys }).to_string())
}
