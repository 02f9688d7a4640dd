//! Readers that stop in the middle: downloads and followed logs of one cluster that nobody takes any
//! more, while others get its pods.
//!
//! Times are compared beside downloads alone: a kubelet takes a core by itself for some dozens who
//! follow a log, whoever they come through.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_testkit::process_usage::{cpu_seconds, resident};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::setting::{LOG_LINE, LOG_LINES, NAMESPACE, Setting, TALKER, WEB};

/// Stopped downloads over HTTP/1.1, and as many over HTTP/2.
const DOWNLOADS: usize = 50;

/// The same of followed logs.
const LOGS: usize = 5;

/// Others' gets, before and beside the stopped readers.
const GETS: usize = 300;

/// The p99 of others beside stopped readers, over that without.
const RATIO: f64 = 2.0;

/// Both clusters share the machine: one slow moment of theirs is more than one in a hundred.
const TRIES: usize = 4;

/// For an answer's head, or its next piece.
const LIMIT: Duration = Duration::from_secs(20);

/// Every buffer on the way is full when the roles have taken next to no CPU for so long.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_CPU: f64 = 0.05;

/// Until that is so; a debug build fills them slowly.
const FILL_LIMIT: Duration = Duration::from_secs(40);

/// What one stopped reader may make a program hold: the largest window of the connections between
/// the roles, and as much again in pieces that were taken and not yet handed on.
const HELD_EACH: u64 = 2 << 20;

/// Beside what the readers hold.
const MORE: u64 = 32 << 20;

/// Taken from a download after it was left alone.
const RESUMED: usize = 32 << 20;

/// The window of each of the clients' streams: what they take before they stop.
const STREAM_WINDOW: u32 = 256 << 10;

/// So large that no stream of the clients' own connection holds up another.
const CONNECTION_WINDOW: u32 = 64 << 20;

pub(crate) fn others_go_on(setting: &Setting) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(others(setting))
}

async fn others(setting: &Setting) -> Result<()> {
    let roles = [
        ("user-server", setting.installation.user_server.id()),
        ("service-proxy", setting.installation.service_proxy.id()),
    ];
    let mut other = Client::connect(setting, Version::HTTP_2).await?;
    other.gets(setting).await?;
    let download = format!("/api/v1/namespaces/{NAMESPACE}/pods/{WEB}:8080/proxy/large");
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let before = other.gets(setting).await?;
        let held = roles.map(|(_, pid)| resident(pid));
        let mut readers = Readers::start(setting, DOWNLOADS, &download).await?;
        until_quiet(&roles.map(|(_, pid)| pid)).await?;
        let beside = other.gets(setting).await?;
        for ((role, pid), before) in roles.into_iter().zip(held) {
            let grown = resident(pid)?.saturating_sub(before?);
            let most = 2 * DOWNLOADS as u64 * HELD_EACH + MORE;
            ensure!(
                grown <= most,
                "{role} grew by {grown} bytes, of at most {most}"
            );
        }
        for answer in readers.resume() {
            let bytes = take(answer, RESUMED).await?;
            ensure!(bytes.bytes().all(|byte| byte == 0), "other bytes came");
        }
        let ratio = beside.as_secs_f64() / before.as_secs_f64();
        seen.push(format!("{ratio:.2} ({beside:?} over {before:?})"));
        if ratio <= RATIO {
            return logs(setting, &mut other).await;
        }
    }
    anyhow::bail!("p99 of others beside stopped readers, over that without: {seen:?}")
}

async fn until_quiet(roles: &[u32]) -> Result<()> {
    let used = || -> Result<f64> { roles.iter().map(|&pid| cpu_seconds(pid)).sum() };
    let end = Instant::now() + FILL_LIMIT;
    loop {
        let before = used()?;
        tokio::time::sleep(QUIET).await;
        if used()? - before <= QUIET_CPU {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "the roles are still busy {FILL_LIMIT:?} after all readers have stopped"
        );
    }
}

/// Others are answered beside followed logs that stopped, and whoever reads on misses nothing.
async fn logs(setting: &Setting, other: &mut Client) -> Result<()> {
    let log = format!("/api/v1/namespaces/{NAMESPACE}/pods/{TALKER}/log?follow=true");
    let mut readers = Readers::start(setting, LOGS, &log).await?;
    other.gets(setting).await?;
    for answer in readers.resume() {
        let text = take(answer, LOG_LINES * (LOG_LINE.len() + 1)).await?;
        ensure!(
            text.lines().all(|line| line == LOG_LINE),
            "a line of the log is not whole"
        );
    }
    Ok(())
}

/// Those who stopped, with the connections that they came by.
struct Readers {
    answers: Vec<Response<Incoming>>,
    _clients: Vec<Client>,
}

impl Readers {
    /// So many over HTTP/1.1, each by a connection of its own, and so many over HTTP/2 by one.
    async fn start(setting: &Setting, each: usize, path: &str) -> Result<Self> {
        let mut shared = Client::connect(setting, Version::HTTP_2).await?;
        let (mut answers, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..each {
            let mut client = Client::connect(setting, Version::HTTP_11).await?;
            answers.push(client.get(setting, path).await?);
            clients.push(client);
            answers.push(shared.get(setting, path).await?);
        }
        clients.push(shared);
        Ok(Self {
            answers,
            _clients: clients,
        })
    }

    /// One of each protocol, whose connections last as long as this does.
    fn resume(&mut self) -> impl Iterator<Item = Response<Incoming>> {
        self.answers.drain(..2)
    }
}

/// So many bytes of an answer, from its beginning.
async fn take(answer: Response<Incoming>, length: usize) -> Result<String> {
    let mut body = answer.into_body();
    let mut taken = Vec::with_capacity(length);
    while taken.len() < length {
        let frame = timeout(LIMIT, body.frame())
            .await
            .context("a reader that reads on gets nothing")?
            .with_context(|| format!("the end after {} bytes of {length}", taken.len()))??;
        taken.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    taken.truncate(length);
    Ok(String::from_utf8(taken)?)
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// One connection to the user-server.
struct Client {
    sender: Sender,
    _driver: JoinSet<()>,
}

impl Client {
    async fn connect(setting: &Setting, version: Version) -> Result<Self> {
        let alpn: &[u8] = if version == Version::HTTP_2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        let node = setting.lab.hub.node_ip();
        let ca = std::fs::read(setting.installation.ca())?;
        let tls = ClientTls::from_pem(&ca, None, vec![alpn.to_vec()])?;
        let socket = timeout(LIMIT, TcpStream::connect((node, 9092)))
            .await
            .context("no connection in time")??;
        socket.set_nodelay(true)?;
        let io = TlsConnector::from(tls.config())
            .connect(ServerName::from(node), socket)
            .await?;
        let io = TokioIo::new(io);
        let mut driver = JoinSet::new();
        let sender = if version == Version::HTTP_2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(io)
                .await?;
            driver.spawn(async { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            driver.spawn(async { drop(connection.await) });
            Sender::Http1(sender)
        };
        Ok(Self {
            sender,
            _driver: driver,
        })
    }

    async fn get(&mut self, setting: &Setting, path: &str) -> Result<Response<Incoming>> {
        let node = setting.lab.hub.node_ip();
        let uri = match self.sender {
            Sender::Http1(_) => format!("/managed{path}"),
            Sender::Http2(_) => format!("https://{node}:9092/managed{path}"),
        };
        let request = Request::get(uri)
            .header("host", format!("{node}:9092"))
            .header("authorization", format!("Bearer {}", setting.token))
            .body(Empty::new())?;
        let answer = async {
            match &mut self.sender {
                Sender::Http1(sender) => sender.send_request(request).await,
                Sender::Http2(sender) => sender.send_request(request).await,
            }
        };
        let answer = timeout(LIMIT, answer)
            .await
            .with_context(|| format!("no answer to {path}"))??;
        let status = answer.status();
        ensure!(status == StatusCode::OK, "{path}: {status}");
        Ok(answer)
    }

    /// The p99 of gets of a pod, one after the other.
    async fn gets(&mut self, setting: &Setting) -> Result<Duration> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{WEB}");
        let mut took = Vec::with_capacity(GETS);
        for _ in 0..GETS {
            let begin = Instant::now();
            let answer = self.get(setting, &path).await?;
            let body = timeout(LIMIT, answer.into_body().collect())
                .await
                .context("a pod does not end")??;
            ensure!(!body.to_bytes().is_empty(), "an empty pod");
            took.push(begin.elapsed());
        }
        took.sort_unstable();
        Ok(took[GETS * 99 / 100])
    }
}
