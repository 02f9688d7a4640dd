//! From here to the user-server, and through it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_identity::{ClusterName, Token};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::answers::{Hop, ended_at};
use super::steps::{Report, Step};
use crate::commands::http_request::exchange;
use crate::commands::kubeconfig::user_server::ServerUrl;

/// Where to go.
pub(super) struct Way<'a> {
    pub(super) server: &'a ServerUrl,
    /// PEM; the system's without it.
    pub(super) ca: Option<&'a str>,
    /// The name that the certificate must have, where it is another than the URL's.
    pub(super) name: Option<&'a str>,
    pub(super) cluster: &'a ClusterName,
    pub(super) limit: Duration,
}

/// Tries each step until one fails; those after it are reported as not tried.
pub(super) async fn walk(report: &mut Report, way: &Way<'_>, token: Option<&Token>) {
    let broken = reach(report, way).await.err();
    if let Some(at) = broken {
        let order = ["DNS", "TCP", "TLS", "user-server"];
        let after = order.iter().skip_while(|name| **name != at).skip(1);
        for name in after {
            report.add(Step::skipped(name, format!("{at} failed")));
        }
        skip_hops(report, Hop::ALL[0], &format!("{at} failed"));
        return;
    }
    match token {
        None => skip_hops(report, Hop::ALL[0], "there is no token to come with"),
        Some(token) => through(report, way, token).await,
    }
}

/// As far as the user-server.
async fn reach(report: &mut Report, way: &Way<'_>) -> Result<(), &'static str> {
    let (host, port) = way.host_and_port();
    report.doing("DNS");
    let addresses = match timeout(way.limit, tokio::net::lookup_host((host.as_str(), port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return broken(report, "DNS", error.to_string(), DNS),
        Err(_elapsed) => return broken(report, "DNS", way.late(), DNS),
    };
    let shown: Vec<_> = addresses.iter().map(|it| it.ip().to_string()).collect();
    report.add(Step::ok("DNS", format!("{host} is {}", shown.join(", "))));

    report.doing("TCP");
    let begun = Instant::now();
    let socket = match way.dial(&addresses).await {
        Ok(socket) => socket,
        Err(cause) => return broken(report, "TCP", cause, TCP),
    };
    report.add(Step::ok(
        "TCP",
        format!("port {port}, {} ms", begun.elapsed().as_millis()),
    ));

    report.doing("TLS");
    let stream = match way.encrypt(socket).await {
        Ok(stream) => stream,
        Err((cause, what)) => return broken(report, "TLS", cause, what),
    };
    report.add(dates(&stream));

    report.doing("user-server");
    let uri = format!("/{}/version", way.cluster);
    match way.ask(stream, Method::GET, &uri, None, None).await {
        Ok((StatusCode::UNAUTHORIZED, body)) if body["kind"] == "Status" => {
            report.add(Step::ok("user-server", "it asks for a token"));
            Ok(())
        }
        Ok((code, _)) => broken(
            report,
            "user-server",
            format!("what answers is no user-server: {code} to a request without a token"),
            (
                "you, or the hub",
                "look at --server: is it another web server, or a proxy before it?",
            ),
        ),
        Err(cause) => broken(
            report,
            "user-server",
            format!("no answer: {cause}"),
            ("the hub", "look at the user-server's pods"),
        ),
    }
}

/// Through the tunnel, with a question that every user may ask: who am I?
async fn through(report: &mut Report, way: &Way<'_>, token: &Token) {
    report.doing("request");
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = format!(
        "/{}/apis/authentication.k8s.io/v1/selfsubjectreviews",
        way.cluster
    );
    let asked = way.again(Method::POST, &path, token, Some(&review)).await;
    let (code, body) = match asked {
        Ok(answer) => answer,
        Err(cause) => {
            report.add(
                Step::failed("request", format!("no answer: {cause}"))
                    .by("the hub, or the way to it", "look at the user-server's log"),
            );
            return skip_hops(report, Hop::ALL[0], "the request got no answer");
        }
    };
    let message = body["message"].as_str().unwrap_or_default();
    let user = body["status"]["userInfo"]["username"].as_str();
    let Some(user) = user.filter(|_| code.is_success()) else {
        let Some((ended, step)) = ended_at(code.as_u16(), message) else {
            // An answer of the kube-apiserver itself: all of the way works.
            passed(report, None);
            report.add(
                Step::failed(Hop::Identity.name(), format!("{code}: {message}"))
                    .by("the managed cluster", "look at its kube-apiserver's log"),
            );
            return;
        };
        for hop in Hop::ALL.into_iter().filter(|hop| *hop < ended) {
            report.add(Step::ok(hop.name(), ""));
        }
        report.add(step);
        let after = Hop::ALL.into_iter().find(|hop| *hop > ended);
        if let Some(next) = after {
            skip_hops(report, next, &format!("{} failed", ended.name()));
        }
        return;
    };
    let begun = Instant::now();
    let version = format!("/{}/version", way.cluster);
    let took = way.again(Method::GET, &version, token, None).await;
    let took = took.ok().map(|_| begun.elapsed());
    passed(report, took);
    report.add(Step::ok(
        Hop::Identity.name(),
        format!("you are {user:?}; what you may do is that cluster's RBAC"),
    ));
}

/// All hops but the last one.
fn passed(report: &mut Report, took: Option<Duration>) {
    for hop in Hop::ALL.into_iter().filter(|hop| *hop != Hop::Identity) {
        let detail = match (hop, took) {
            (Hop::KubeApiserver, Some(took)) => {
                format!("a request and its answer took {} ms", took.as_millis())
            }
            _ => String::new(),
        };
        report.add(Step::ok(hop.name(), detail));
    }
}

fn skip_hops(report: &mut Report, from: Hop, why: &str) {
    for hop in Hop::ALL.into_iter().filter(|hop| *hop >= from) {
        report.add(Step::skipped(hop.name(), why));
    }
}

type WhatToDo = (&'static str, &'static str);

fn broken(
    report: &mut Report,
    name: &'static str,
    cause: String,
    (fault, what): WhatToDo,
) -> Result<(), &'static str> {
    report.add(Step::failed(name, cause).by(fault, what));
    Err(name)
}

impl Way<'_> {
    fn host_and_port(&self) -> (String, u16) {
        let uri: Uri = self.server.to_string().parse().expect("parsed before");
        let host = uri.host().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        (host, uri.port_u16().unwrap_or(443))
    }

    fn late(&self) -> String {
        format!("no answer within {} s", self.limit.as_secs())
    }

    async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
        match timeout(self.limit, TcpStream::connect(addresses)).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(self.late()),
        }
    }

    async fn encrypt(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, (String, WhatToDo)> {
        let alpn = vec![b"http/1.1".to_vec()];
        let tls = match self.ca {
            Some(ca) => ClientTls::from_pem(ca.as_bytes(), None, alpn),
            None => ClientTls::from_system(&[], &[], alpn),
        };
        let tls = tls.map_err(|error| (error.to_string(), CERTIFICATE_AUTHORITY))?;
        let (host, _) = self.host_and_port();
        let name = self.name.unwrap_or(&host).to_owned();
        let name = ServerName::try_from(name).map_err(|error| {
            (
                error.to_string(),
                ("you", "look at --server and --tls-server-name"),
            )
        })?;
        match timeout(
            self.limit,
            TlsConnector::from(tls.config()).connect(name, socket),
        )
        .await
        {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err((error.to_string(), about(&error))),
            Err(_elapsed) => Err((self.late(), NO_TLS)),
        }
    }

    /// A request on a connection of its own.
    async fn again(
        &self,
        method: Method,
        path: &str,
        token: &Token,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), String> {
        let (host, port) = self.host_and_port();
        let found = timeout(self.limit, tokio::net::lookup_host((host, port)));
        let addresses: Vec<_> = match found.await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_elapsed) => return Err(self.late()),
        };
        let socket = self.dial(&addresses).await?;
        let stream = self.encrypt(socket).await.map_err(|(cause, _)| cause)?;
        self.ask(stream, method, path, Some(token), body).await
    }

    async fn ask(
        &self,
        stream: TlsStream<TcpStream>,
        method: Method,
        path: &str,
        token: Option<&Token>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), String> {
        let uri: Uri = self.server.to_string().parse().expect("parsed before");
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let content = body.map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(content))
            .map_err(|error| error.to_string())?;
        if let Some(token) = token {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| "the token fits in no header".to_owned())?;
            bearer.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        let (code, body) = timeout(self.limit, exchange(stream, request, MAX_BODY_BYTES))
            .await
            .map_err(|_elapsed| self.late())?
            .map_err(|error| error.to_string())?;
        // What is no JSON is somebody else's answer.
        Ok((code, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// Until when the certificate is good.
fn dates(stream: &TlsStream<TcpStream>) -> Step {
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let Some(Ok((_, certificate))) = leaf.map(|leaf| X509Certificate::from_der(leaf)) else {
        return Step::warning("TLS", "its certificate's dates cannot be read");
    };
    let end = certificate.validity().not_after.timestamp();
    let shown = Timestamp::from_second(end).map_or_else(|_| "?".to_owned(), |it| it.to_string());
    let said = format!("trusted until {shown}, by {}", certificate.issuer());
    if end - Timestamp::now().as_second() < SOON_SECONDS {
        return Step::warning("TLS", format!("{said}: that is soon"))
            .by("the hub", "renew the certificate of the user-server");
    }
    Step::ok("TLS", said)
}

/// Whose fault a failed handshake is.
fn about(error: &io::Error) -> WhatToDo {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "the hub",
                "renew the certificate of the user-server; or look at this clock",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                "your clock, or the hub",
                "look at the time here and at the certificate's dates",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (
                    "you, or the hub",
                    "use a name that is in the certificate, or --tls-server-name",
                )
            }
            // Another CA of the same name, too.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                "you, or whoever looks into TLS on the way",
                "name its CA with --certificate-authority; a proxy that inspects TLS shows a \
                 certificate of its own",
            ),
            _ => CERTIFICATE_AUTHORITY,
        },
        _ => NO_TLS,
    }
}

const DNS: WhatToDo = ("you, or your DNS", "look at the name in --server");
const TCP: WhatToDo = (
    "the way to the hub",
    "look at the address, at firewalls, and whether the user-server's Service leads to a ready pod",
);
const CERTIFICATE_AUTHORITY: WhatToDo = ("you", "look at --certificate-authority");
const NO_TLS: WhatToDo = (
    "you, or the way to the hub",
    "is that the user-server's port?",
);

/// Answers asked for here have some kilobytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Thirty days: certificates renew before.
const SOON_SECONDS: i64 = 30 * 24 * 3600;
