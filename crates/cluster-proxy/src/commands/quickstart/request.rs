//! The request of the story, sent the way any HTTPS client sends it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cluster_proxy_identity::tls::ClientTls;
use http::{Request, StatusCode};
use http_body_util::Full;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::commands::http_request::exchange;

/// From dialling to the last byte.
const LIMIT: Duration = Duration::from_secs(10);

/// A list of pods is some kilobytes; nothing asked for here comes near this.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Where the user-server listens, and the CA to verify it with.
#[derive(Debug, Clone)]
pub(super) struct UserServer {
    pub(super) address: SocketAddr,
    pub(super) ca_pem: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) took: Duration,
}

impl Answer {
    /// The `message` of a Kubernetes `Status`, or nothing.
    pub(super) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl UserServer {
    /// A GET of `path` with a bearer token, or without one.
    pub(super) async fn get(&self, path: &str, token: Option<&str>) -> Result<Answer> {
        let begin = Instant::now();
        let (status, body) = tokio::time::timeout(LIMIT, self.exchange(path, token))
            .await
            .with_context(|| format!("no answer within {LIMIT:?}"))??;
        let took = begin.elapsed();
        let body = serde_json::from_slice(&body).context("an answer that is not JSON")?;
        Ok(Answer { status, body, took })
    }

    async fn exchange(&self, path: &str, token: Option<&str>) -> Result<(StatusCode, Bytes)> {
        let tls = ClientTls::from_pem(self.ca_pem.as_bytes(), None, vec![b"http/1.1".to_vec()])?;
        let socket = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(tls.config())
            .connect(name, socket)
            .await?;
        let mut request = Request::get(path).header("host", self.address.to_string());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::default())?;
        exchange(stream, request, MAX_BODY_BYTES)
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))
    }
}
