//! The HTTP side of [`kube::Client`]: one request to one kube-apiserver, over kept connections.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use cluster_proxy_runtime::error::with_sources;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use tokio_rustls::client::TlsStream;
use tower::{BoxError, Service};

use crate::endpoint::{ApiEndpoint, ApiSocket, ConnectError};
use crate::tls::TlsGeneration;
use crate::token_source::TokenSource;

/// Adds server and token to a request and sends it.
pub(crate) struct ApiService {
    endpoint: Arc<ApiEndpoint>,
    token: TokenSource,
    silence: Duration,
    pool: Mutex<Pool>,
}

/// Kept connections, all made with the same certificate and trust.
struct Pool {
    generation: Arc<TlsGeneration>,
    client: HttpClient,
}

type HttpClient = Client<TimeoutConnector<Connector>, Body>;

impl ApiService {
    /// `silence` is how long the server may say nothing in the middle of an exchange.
    pub(crate) fn new(endpoint: Arc<ApiEndpoint>, token: TokenSource, silence: Duration) -> Self {
        let pool = Mutex::new(Pool::new(&endpoint, endpoint.generation(), silence));
        Self {
            endpoint,
            token,
            silence,
            pool,
        }
    }

    /// The client to send the next request with. Changed certificates or CAs begin a new pool:
    /// the kube-apiserver refuses requests on a connection whose certificate has expired, however
    /// long ago it was opened.
    fn http(&self) -> HttpClient {
        let generation = self.endpoint.generation();
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&pool.generation, &generation) {
            *pool = Pool::new(&self.endpoint, generation, self.silence);
        }
        pool.client.clone()
    }

    fn prepare(&self, request: Request<Body>) -> Result<Request<Body>, http::Error> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = Uri::builder()
            .scheme("https")
            .authority(self.endpoint.authority())
            .path_and_query(format!("{}{path}", self.endpoint.path_prefix()))
            .build()?;
        parts
            .headers
            .insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        if let Some(token) = self.token.current() {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            parts.headers.insert(AUTHORIZATION, value);
        }
        Ok(Request::from_parts(parts, body))
    }
}

impl Service<Request<Body>> for ApiService {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.http();
        let request = self.prepare(request);
        Box::pin(async move { Ok(client.request(request?).await.map_err(Unanswered)?) })
    }
}

/// A request that got no answer. It says why with all that is known, since kube and most of its
/// callers show the outermost error alone, and hyper's there is `client error (Connect)`.
#[derive(Debug)]
struct Unanswered(legacy::Error);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source().filter(|_| self.0.is_connect()) {
            Some(cause) => f.write_str(&with_sources(cause)),
            None => f.write_str(&with_sources(&self.0)),
        }
    }
}

impl Error for Unanswered {}

impl Pool {
    fn new(endpoint: &Arc<ApiEndpoint>, generation: Arc<TlsGeneration>, silence: Duration) -> Self {
        let mut connector = TimeoutConnector::new(Connector(Arc::clone(endpoint)));
        // No connect time-out here: the endpoint bounds both of its steps.
        connector.set_read_timeout(Some(silence));
        connector.set_write_timeout(Some(silence.min(SILENCE_TIMEOUT)));
        // Otherwise the time that a kept connection lay idle counts against the next answer.
        connector.set_reset_reader_on_write(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .build(connector);
        Self { generation, client }
    }
}

/// Opens connections for the pool. The URI is always the endpoint's own.
#[derive(Clone)]
struct Connector(Arc<ApiEndpoint>);

impl Service<Uri> for Connector {
    type Response = ApiStream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<ApiStream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = Arc::clone(&self.0);
        Box::pin(async move {
            let stream = endpoint.connect(true, &[b"http/1.1"]).await?;
            Ok(ApiStream(TokioIo::new(stream)))
        })
    }
}

/// A TLS stream in hyper's terms.
struct ApiStream(TokioIo<TlsStream<ApiSocket>>);

impl Connection for ApiStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for ApiStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for ApiStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}

/// How long the server may be silent, or not take what we send, in the middle of an exchange.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for watches: kube's watchers ask the server to end each after 290 s, and give up on
/// one themselves 5 s later.
pub(crate) const WATCH_SILENCE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a connection is kept without use; a kube-apiserver keeps its side open for 90 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many unused connections are kept: as many as reviews may run at once.
const MAX_IDLE_CONNECTIONS: usize = 32;

const OUR_NAME: &str = concat!("cluster-proxy/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests;
