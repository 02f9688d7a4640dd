//! A user's side: requests over HTTP/2, and HTTP/1.1 as raw bytes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{ALICES_TOKEN, LIMIT, NAME, World, client_tls};

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The message of a `Status` with this code and reason.
    #[track_caller]
    pub(crate) fn message(&self, code: u16, reason: &str) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.code, code, "{text}");
        let status: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(status["kind"], "Status", "{text}");
        assert_eq!(status["status"], "Failure", "{text}");
        assert_eq!(status["code"], code, "{text}");
        assert_eq!(
            status["reason"].as_str().unwrap_or_default(),
            reason,
            "{text}"
        );
        assert_eq!(self.headers["content-type"], "application/json");
        status["message"].as_str().unwrap().to_owned()
    }

    /// All that a caller can tell answers apart by, other than time and the request's id.
    pub(crate) fn tells(&self) -> (StatusCode, Vec<(String, String)>, Bytes) {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !["date", "audit-id"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), format!("{value:?}")))
            .collect();
        headers.sort();
        (self.code, headers, self.body.clone())
    }
}

impl World {
    pub(crate) async fn connect(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let tls = client_tls(&self.ca, None).with_alpn(&[alpn]);
        let socket = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(tls.config())
            .connect(ServerName::try_from(NAME).unwrap(), socket)
            .await
            .unwrap()
    }

    /// A connection on which requests share HTTP/2.
    pub(crate) async fn http2(&self) -> SendRequest<Full<Bytes>> {
        let io = TokioIo::new(self.connect(b"h2").await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    /// GET with these headers.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(format!("https://{NAME}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).unwrap();
        let response = self.http2().await.send_request(request);
        read(timeout(LIMIT, response).await.unwrap().unwrap()).await
    }

    /// GET as the hub user alice.
    pub(crate) async fn get_as_alice(&self, path: &str) -> Answer {
        self.get(path, &[("authorization", &bearer(ALICES_TOKEN))])
            .await
    }

    /// Sends these bytes on an HTTP/1.1 connection, and reads until it is closed.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        let mut io = self.connect(b"http/1.1").await;
        io.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // Some servers close without a TLS close; what was read counts.
        let _ = timeout(LIMIT, io.read_to_end(&mut answer))
            .await
            .expect("it closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// As [`Self::raw`], until the answer's head is there.
    pub(crate) async fn raw_head(&self, request: &[u8]) -> String {
        let mut io = self.connect(b"http/1.1").await;
        io.write_all(request).await.unwrap();
        read_until(&mut io, "\r\n\r\n").await
    }

    /// As [`Self::raw`], for bytes after which the server may wait for more.
    pub(crate) async fn raw_for_a_while(&self, request: &[u8]) {
        let mut io = self.connect(b"http/1.1").await;
        let _ = io.write_all(request).await;
        let mut answer = Vec::new();
        let _ = timeout(A_WHILE, io.read_to_end(&mut answer)).await;
    }
}

/// Long for a request over loopback.
const A_WHILE: Duration = Duration::from_millis(300);

pub(crate) async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = timeout(LIMIT, body.collect())
        .await
        .unwrap()
        .unwrap()
        .to_bytes();
    Answer {
        code: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Reads until `mark` has come.
pub(crate) async fn read_until(io: &mut TlsStream<TcpStream>, mark: &str) -> String {
    let mut text = String::new();
    while !text.contains(mark) {
        let mut buffer = [0; 4096];
        let read = timeout(LIMIT, io.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed before {mark:?}: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
