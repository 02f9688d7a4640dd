//! An admission webhook that a kube-apiserver reaches as a Service: it answers on this machine's
//! address in the lab.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_identity::tls::{ClientAuth, FlagFile, ServerTls, ServerTlsFiles};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::hub::Hub;

/// The ConfigMap that it does not let in, and why.
pub(crate) const DENIED: &str = "denied";
pub(crate) const REASON: &str = "this name is refused by the webhook";

/// This machine, as the lab's clusters reach it.
const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// More than a review of a small object.
const MAX_REVIEW: usize = 1024 * 1024;

/// For TLS and each request.
const LIMIT: Duration = Duration::from_secs(10);

const SERVICE: &str = "webhook";

pub(crate) struct Webhook {
    namespace: String,
    ca: String,
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Webhook {
    pub(crate) fn start(namespace: &str, hub: &Hub) -> Result<Self> {
        let name = format!("{SERVICE}.{namespace}.svc");
        hub.certificates
            .issue(SERVICE, &Leaf::proxy_server(vec![name]))?;
        let file = |end: &str| {
            let path = hub.certificates.file(&format!("{SERVICE}.{end}"));
            FlagFile::new("the webhook's", path)
        };
        let tls = ServerTls::load(ServerTlsFiles {
            cert: file("crt"),
            key: file("key"),
            client_ca: None,
            client_auth: ClientAuth::Off,
            alpn: vec![b"http/1.1".to_vec()],
        })?;
        let acceptor = TlsAcceptor::from(tls.config());
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind((MACHINE, 0)))?;
        let address = listener.local_addr()?;
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, acceptor.clone(), Arc::clone(&counted)));
            }
        });
        Ok(Self {
            namespace: namespace.to_owned(),
            ca: hub.certificates.ca_pem().to_owned(),
            address,
            asked,
            _runtime: runtime,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many reviews it has answered.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// What leads a kube-apiserver to it, for ConfigMaps of its namespace alone.
    pub(crate) fn objects(&self) -> [Value; 3] {
        let named = json!({"name": SERVICE, "namespace": self.namespace});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": named,
            "spec": {"ports": [{"port": 443, "targetPort": self.address.port()}]},
        });
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": named,
            "subsets": [{
                "addresses": [{"ip": self.address.ip()}],
                "ports": [{"port": self.address.port()}],
            }],
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": self.namespace},
            "webhooks": [{
                "name": "egress.cluster-proxy.test",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 10,
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": self.namespace},
                },
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
                    "operations": ["CREATE"],
                }],
                "clientConfig": {
                    "caBundle": STANDARD.encode(&self.ca),
                    "service": {"name": SERVICE, "namespace": self.namespace},
                },
            }],
        });
        [service, endpoints, configuration]
    }
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, asked: Arc<AtomicUsize>) {
    let accepting = tokio::time::timeout(LIMIT, acceptor.accept(socket));
    let Ok(Ok(tls)) = accepting.await else { return };
    let service = service_fn(move |request| {
        let asked = Arc::clone(&asked);
        async move {
            let answer = match tokio::time::timeout(LIMIT, review(request)).await {
                Ok(Ok(answer)) => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    Response::new(Full::new(Bytes::from(answer.to_string())))
                }
                _ => {
                    let mut answer = Response::new(Full::new(Bytes::new()));
                    *answer.status_mut() = StatusCode::BAD_REQUEST;
                    answer
                }
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(tls), service)
        .await;
}

async fn review(request: Request<Incoming>) -> Result<Value> {
    let body = Limited::new(request.into_body(), MAX_REVIEW)
        .collect()
        .await;
    let body = body.map_err(anyhow::Error::msg)?.to_bytes();
    let review: Value = serde_json::from_slice(&body)?;
    let uid = review["request"]["uid"].as_str().context("no uid")?;
    let denied = review["request"]["name"] == DENIED;
    Ok(json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": uid, "allowed": !denied, "status": {"message": REASON}},
    }))
}
