//! The operations listener: `/healthz` (liveness), `/readyz` (says what is awaited) and
//! `/metrics` (Prometheus text). For the kubelet and scrapers; plain HTTP, no secrets.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::drain::Drain;
use crate::readiness::Readiness;

/// Kubelets and scrapers keep a handful of connections; more are a mistake or an attack.
const MAX_CONNECTIONS: usize = 64;

/// One probe or scrape; a connection that idles longer is closed.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// How long a client may take to send its request's head.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// After a failed accept (out of descriptors, mostly) the next is tried after this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the operations listener tells.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Conditions behind `/readyz`.
    pub readiness: Readiness,
    /// `/readyz` answers 503 from the drain's start; the listener goes at its end.
    pub drain: Drain,
    /// Metrics behind `/metrics`.
    pub registry: Arc<Registry>,
}

impl Operations {
    /// Serves until the drain has ended.
    pub async fn serve(self, listener: TcpListener) {
        let this = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = tokio_util::task::TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = this.drain.ended() => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let this = Arc::clone(&this);
            connections.spawn(async move {
                let ended = this.drain.clone();
                tokio::select! {
                    _ = timeout(CONNECTION_LIMIT, this.serve_connection(stream)) => {}
                    () = ended.ended() => {}
                }
                drop(place);
            });
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(move |request| {
            let response = self.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "operations connection");
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/healthz" | "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" | "/ready" => self.readyz(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n"),
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        if self.drain.is_started() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "not ready: draining\n");
        }
        let waiting = self.readiness.waiting_for();
        if waiting.is_empty() {
            return text(StatusCode::OK, "ok\n");
        }
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: waiting for {}\n", waiting.join(", ")),
        )
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        if encode(&mut body, &self.registry).is_err() {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be encoded\n",
            );
        }
        let mut response = text(StatusCode::OK, body);
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
        );
        response
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tells_health_readiness_and_metrics() {
        let readiness = Readiness::new();
        let connected = readiness.condition("a proxy-server connection");
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("cluster_proxy_things", "Things", counter.clone());
        counter.inc();
        let drain = Drain::new();
        let operations = Operations {
            readiness,
            drain: drain.clone(),
            registry: Arc::new(registry),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(operations.serve(listener));

        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = get(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
        assert!(
            waiting.contains("waiting for a proxy-server connection"),
            "{waiting}"
        );
        connected.set(true);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(
            get(address, "/metrics")
                .await
                .contains("cluster_proxy_things_total 1")
        );
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
        drain.start();
        assert!(get(address, "/readyz").await.contains("draining"));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        drain.end();
        serving.await.unwrap();
    }
}
