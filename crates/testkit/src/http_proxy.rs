//! An HTTP proxy on the loopback address that does as a test tells it.
//!
//! It really carries bytes. Which target leads where is the test's to say, so that names which
//! nobody resolves can be dialled: the loopback address itself is never reached through a proxy.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_proxy_identity::tls::ServerTls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What a proxy does and expects.
#[derive(Debug, Default)]
pub struct HttpProxyScript {
    /// Where `host:port` of a CONNECT leads; every other target is answered with 502.
    pub routes: HashMap<String, SocketAddr>,
    /// `user:password` in base64, without which the answer is 407.
    pub credentials: Option<&'static str>,
    /// Bytes to say instead of an answer of its own.
    pub answer: Answer,
    /// To be spoken to in TLS (https://).
    pub tls: Option<ServerTls>,
}

/// What is said to CONNECT.
#[derive(Debug, Clone, Copy, Default)]
pub enum Answer {
    /// What a proxy says.
    #[default]
    Honest,
    /// These bytes; then the connection ends.
    Raw(&'static str),
    /// A head that never ends.
    EndlessHeaders,
    /// Nothing, for ever.
    Silence,
}

/// A running proxy; dropped, it and all its connections are gone.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    script: HttpProxyScript,
    routes: Mutex<HashMap<String, SocketAddr>>,
    heads: Mutex<Vec<String>>,
}

impl HttpProxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(mut script: HttpProxyScript) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            routes: Mutex::new(std::mem::take(&mut script.routes)),
            script,
            heads: Mutex::default(),
        });
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _task: task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads one more target somewhere.
    pub fn lead(&self, target: &str, address: SocketAddr) {
        let routes = &self.shared.routes;
        let mut routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(target.to_owned(), address);
    }

    /// The heads of the requests that came, in order.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        let heads = &self.shared.heads;
        heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(Arc::clone(&shared).connection(socket));
                }
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    async fn connection(self: Arc<Self>, socket: TcpStream) {
        // What a client does wrong is its test's to notice.
        let _ = match &self.script.tls {
            None => self.exchange(socket).await,
            Some(tls) => match TlsAcceptor::from(tls.config()).accept(socket).await {
                Ok(stream) => self.exchange(stream).await,
                Err(error) => Err(error.into()),
            },
        };
    }

    async fn exchange<Io>(&self, mut io: Io) -> Result<()>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let head = read_head(&mut io).await?;
        self.heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(head.clone());
        match self.script.answer {
            Answer::Honest => self.tunnel(io, &head).await,
            Answer::Raw(bytes) => {
                io.write_all(bytes.as_bytes()).await?;
                Ok(io.shutdown().await?)
            }
            Answer::EndlessHeaders => {
                io.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                loop {
                    io.write_all(b"X-More: more and more and more and more and more\r\n")
                        .await?;
                    io.flush().await?;
                }
            }
            Answer::Silence => {
                tokio::time::sleep(FOR_EVER).await;
                Ok(())
            }
        }
    }

    fn route(&self, target: &str) -> Option<SocketAddr> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(target).copied()
    }

    async fn tunnel<Io>(&self, mut io: Io, head: &str) -> Result<()>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let target = head
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.split_once(' '))
            .map(|(target, _)| target)
            .context("not CONNECT")?;
        if let Some(credentials) = self.script.credentials {
            let wanted = format!("\r\nProxy-Authorization: Basic {credentials}\r\n");
            if !head.contains(&wanted) {
                io.write_all(NO_CREDENTIALS.as_bytes()).await?;
                return Ok(io.shutdown().await?);
            }
        }
        let route = self.route(target);
        let Some(route) = route else {
            io.write_all(NO_ROUTE.as_bytes()).await?;
            return Ok(io.shutdown().await?);
        };
        let mut onwards = TcpStream::connect(route).await?;
        io.write_all(ESTABLISHED.as_bytes()).await?;
        io.flush().await?;
        copy_bidirectional(&mut io, &mut onwards).await?;
        Ok(())
    }
}

async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            bail!("a head of more than {MAX_HEAD} bytes");
        }
        head.push(io.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\nVia: 1.1 scripted\r\n\r\n";
const NO_CREDENTIALS: &str = "HTTP/1.1 407 Proxy Authentication Required\r\n\
    Proxy-Authenticate: Basic realm=\"scripted\"\r\nContent-Length: 0\r\n\r\n";
const NO_ROUTE: &str = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Clients send some hundred bytes.
const MAX_HEAD: usize = 8 * 1024;
