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
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::drain::Drain;
use crate::metrics_text::Format;
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
        let drain = self.drain.clone();
        serve(listener, drain, move |request| self.answer(request)).await;
    }

    /// The answer to a GET.
    pub(crate) fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/healthz" | "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" | "/ready" => self.readyz(),
            "/metrics" => self.metrics(Format::of(request.headers())),
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

    fn metrics(&self, format: Format) -> Response<Full<Bytes>> {
        let Ok(body) = format.render(&self.registry) else {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be encoded\n",
            );
        };
        let mut response = text(StatusCode::OK, body);
        let content_type = header::HeaderValue::from_static(format.content_type());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }
}

/// Serves what `answer` says to each GET until the drain has ended.
pub(crate) async fn serve<A>(listener: TcpListener, drain: Drain, answer: A)
where
    A: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.ended() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (answer, ended) = (Arc::clone(&answer), drain.clone());
        connections.spawn(async move {
            tokio::select! {
                _ = timeout(CONNECTION_LIMIT, serve_connection(stream, answer)) => {}
                () = ended.ended() => {}
            }
            drop(place);
        });
    }
}

async fn serve_connection<A>(stream: TcpStream, answer: Arc<A>)
where
    A: Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let response = if request.method() == Method::GET || request.method() == Method::HEAD {
            answer(&request)
        } else {
            text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n")
        };
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

pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
pub(crate) mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    pub(crate) async fn get(address: std::net::SocketAddr, path: &str) -> String {
        request(address, "GET", path).await
    }

    pub(crate) async fn request(address: std::net::SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
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
