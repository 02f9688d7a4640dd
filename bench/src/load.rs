//! The load: workers that ask one question again and again over kept connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use cluster_proxy_identity::tls::ClientTls;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One request takes no longer than this, or the run has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// What is asked, and of whom. The same for direct and proxied but for address and token.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) address: String,
    pub(crate) server_name: String,
    pub(crate) ca: Vec<u8>,
    pub(crate) path: String,
    pub(crate) token: String,
}

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// HTTP/1.1: a connection per worker. HTTP/2: one for all, as client-go keeps it.
    pub(crate) version: Version,
    pub(crate) workers: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub(crate) requests: usize,
    pub(crate) seconds: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        if self.seconds == 0.0 {
            0.0
        } else {
            as_f64(self.requests) / self.seconds
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a short run are far below 2^52"
)]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Asks for `duration`; any answer that is not 200 with a body ends the run with an error.
pub(crate) async fn run(question: &Question, shape: Shape, duration: Duration) -> Result<Measured> {
    let shared = match shape.version {
        Version::HTTP_2 => Some(Client::connect(question, shape.version).await?),
        _ => None,
    };
    let mut workers = JoinSet::new();
    let question = Arc::new(question.clone());
    for _ in 0..shape.workers {
        let client = match &shared {
            Some(client) => client.share()?,
            None => Client::connect(&question, shape.version).await?,
        };
        workers.spawn(ask(client, Arc::clone(&question), duration));
    }
    let begin = Instant::now();
    let mut latencies = Vec::new();
    while let Some(worker) = workers.join_next().await {
        latencies.extend(worker??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(!latencies.is_empty(), "not one request was answered");
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    Ok(Measured {
        requests: latencies.len(),
        seconds,
        p50: at(50),
        p99: at(99),
    })
}

async fn ask(
    mut client: Client,
    question: Arc<Question>,
    duration: Duration,
) -> Result<Vec<Duration>> {
    let end = Instant::now() + duration;
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        tokio::time::timeout(REQUEST_LIMIT, client.get(&question))
            .await
            .context("no answer in time")??;
        latencies.push(begin.elapsed());
    }
    Ok(latencies)
}

/// Watches that stay open until this is dropped.
pub(crate) struct Watches {
    _answers: Vec<Response<Incoming>>,
    _clients: Vec<Client>,
}

/// Watches on one connection, as many as a kube-apiserver takes.
const WATCHES_EACH: usize = 90;

/// Opens `count` watches of `path`, over HTTP/2.
pub(crate) async fn watches(question: &Question, path: &str, count: usize) -> Result<Watches> {
    let (mut answers, mut clients) = (Vec::new(), Vec::new());
    while answers.len() < count {
        let mut client = Client::connect(question, Version::HTTP_2).await?;
        for _ in 0..WATCHES_EACH.min(count - answers.len()) {
            let answer = tokio::time::timeout(REQUEST_LIMIT, client.open(question, path))
                .await
                .context("no answer in time")??;
            ensure!(
                answer.status() == StatusCode::OK,
                "a watch: {}",
                answer.status()
            );
            answers.push(answer);
        }
        clients.push(client);
    }
    Ok(Watches {
        _answers: answers,
        _clients: clients,
    })
}

enum Client {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn connect(question: &Question, version: Version) -> Result<Self> {
        let alpn: &[u8] = if version == Version::HTTP_2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        let io = TokioIo::new(tls(question, alpn).await?);
        // The connections end with their senders, at the end of the run.
        if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .context("HTTP/2")?;
            tokio::spawn(connection);
            Ok(Self::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await.context("HTTP/1.1")?;
            tokio::spawn(connection);
            Ok(Self::Http1(sender))
        }
    }

    fn share(&self) -> Result<Self> {
        match self {
            Self::Http2(sender) => Ok(Self::Http2(sender.clone())),
            Self::Http1(_) => bail!("an HTTP/1.1 connection has one user"),
        }
    }

    async fn get(&mut self, question: &Question) -> Result<()> {
        let response = self.open(question, &question.path).await?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .context("body")?
            .to_bytes();
        ensure!(
            status == StatusCode::OK && !body.is_empty(),
            "{status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(())
    }

    /// The head of the answer to a GET of `path`, whose body is still to come.
    async fn open(&mut self, question: &Question, path: &str) -> Result<Response<Incoming>> {
        let Question { address, token, .. } = question;
        let request = Request::get(match self {
            Self::Http1(_) => path.to_owned(),
            Self::Http2(_) => format!("https://{address}{path}"),
        });
        let request = request
            .header("host", address)
            .header("authorization", format!("Bearer {token}"))
            .header("accept", "application/json")
            .body(Empty::new())?;
        match self {
            Self::Http1(sender) => {
                // The last answer's end may be read before the connection is free again.
                sender.ready().await.context("request")?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => sender.send_request(request).await,
        }
        .context("request")
    }
}

async fn tls(question: &Question, alpn: &[u8]) -> Result<TlsStream<TcpStream>> {
    let config = ClientTls::from_pem(&question.ca, None, vec![alpn.to_vec()])?.config();
    let socket = TcpStream::connect(&question.address)
        .await
        .context(question.address.clone())?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(question.server_name.clone())?;
    let stream = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .context("TLS")?;
    ensure!(
        stream.get_ref().1.alpn_protocol() == Some(alpn),
        "the server chose another protocol"
    );
    Ok(stream)
}
