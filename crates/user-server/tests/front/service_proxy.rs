//! A service-proxy as the user-server sees it: it remembers each request's head, and answers by
//! path.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cluster_proxy_identity::PeerIdentity;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::world::server_tls;

/// What a service-proxy says of a token it does not accept: other words than ours.
pub(crate) const ITS_OWN_401: &str = r#"{"kind":"Status","code":401,"message":"Unauthorized"}"#;

/// A token that no service-proxy here accepts.
pub(crate) const REFUSED_THERE: &str = "refused-by-the-managed-cluster";

type Content = BoxBody<Bytes, std::io::Error>;

/// A running double. Clones are the same one.
#[derive(Clone)]
pub(crate) struct ServiceProxy(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    accepted: AtomicUsize,
    requests: Mutex<Vec<Seen>>,
    open_drips: AtomicUsize,
    cuts: Mutex<Vec<oneshot::Sender<()>>>,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: PeerIdentity,
    /// The number of its connection, from 1.
    pub(crate) connection: usize,
}

impl Seen {
    /// Every value of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }
}

impl ServiceProxy {
    /// Starts one that shows the certificate of `leaf` and speaks these protocols.
    pub(crate) async fn start(ca: &CertificateAuthority, leaf: &Leaf, alpn: &[&[u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            accepted: AtomicUsize::new(0),
            requests: Mutex::default(),
            open_drips: AtomicUsize::new(0),
            cuts: Mutex::default(),
        }));
        let tls = server_tls(ca, leaf, alpn);
        let server = this.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = server.0.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let (server, acceptor) = (server.clone(), TlsAcceptor::from(tls.config()));
                tokio::spawn(async move { server.serve(socket, acceptor, number).await });
            }
        });
        this
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.0.accepted.load(Ordering::SeqCst)
    }

    /// Requests so far, in the order of their heads.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.into_iter().next().unwrap()
    }

    /// Endless answers that are being read.
    pub(crate) fn open_drips(&self) -> usize {
        self.0.open_drips.load(Ordering::SeqCst)
    }

    /// Breaks the answers off that wait for it.
    pub(crate) fn break_off(&self) {
        self.0.cuts.lock().unwrap().clear();
    }

    async fn serve(self, socket: TcpStream, acceptor: TlsAcceptor, connection: usize) {
        let Ok(stream) = acceptor.accept(socket).await else {
            return;
        };
        let peer = PeerIdentity::of(stream.get_ref().1.peer_certificates());
        let service = service_fn(move |request| {
            let (this, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, Infallible>(this.answer(request, peer, connection).await) }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        // As much as a real one; hyper's own limit is 16 KiB.
        server.http2().max_header_list_size(256 << 10);
        let _ = server
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: PeerIdentity,
        connection: usize,
    ) -> Response<Content> {
        let (parts, body) = request.into_parts();
        self.0.requests.lock().unwrap().push(Seen {
            method: parts.method.to_string(),
            target: parts.uri.path_and_query().unwrap().to_string(),
            headers: parts.headers.clone(),
            peer,
            connection,
        });
        let refused = format!("Bearer {REFUSED_THERE}");
        if parts
            .headers
            .get(header::AUTHORIZATION)
            .is_some_and(|value| value == refused.as_str())
        {
            let mut response = Response::new(full(ITS_OWN_401));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return response;
        }
        match parts.uri.path() {
            "/exec" => exec(parts, body),
            "/redirect" => Response::builder()
                .status(307)
                .header(header::LOCATION, "https://elsewhere.example/steal")
                .body(full(""))
                .unwrap(),
            "/cookie" => Response::builder()
                .header(
                    header::SET_COOKIE,
                    "session=1; Domain=hub.test; Path=/; Secure",
                )
                .body(full(""))
                .unwrap(),
            "/unauthorized" => {
                let mut response = Response::new(full(ITS_OWN_401));
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response
            }
            "/trailers" => {
                let trailers = HeaderMap::from_iter([(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                let content =
                    unsized_content("content").with_trailers(async { Some(Ok(trailers)) });
                Response::builder()
                    .header(header::TRAILER, "grpc-status")
                    .body(content.boxed())
                    .unwrap()
            }
            "/upload" => {
                let content = body.collect().await.unwrap().to_bytes();
                Response::new(Full::from(content).map_err(|never| match never {}).boxed())
            }
            "/watch" => Response::new(self.drip()),
            "/cut" => {
                let (tell, told) = oneshot::channel();
                self.0.cuts.lock().unwrap().push(tell);
                Response::new(Cut { sent: false, told }.boxed())
            }
            _ => Response::new(body.map_err(std::io::Error::other).boxed()),
        }
    }

    /// One line, and then nothing for ever.
    fn drip(&self) -> Content {
        self.0.open_drips.fetch_add(1, Ordering::SeqCst);
        Drip {
            sent: false,
            owner: self.clone(),
        }
        .boxed()
    }
}

struct Drip {
    sent: bool,
    owner: ServiceProxy,
}

impl Body for Drip {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.sent {
            return Poll::Pending;
        }
        self.sent = true;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"one line\n")))))
    }
}

impl Drop for Drip {
    fn drop(&mut self) {
        self.owner.0.open_drips.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Some content, and then a break once the test says so.
struct Cut {
    sent: bool,
    told: oneshot::Receiver<()>,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if !self.sent {
            self.sent = true;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"half")))));
        }
        let _ = ready!(Pin::new(&mut self.told).poll(context));
        Poll::Ready(Some(Err(std::io::Error::other("broken"))))
    }
}

/// Changes to whatever protocol is asked for, and echoes.
fn exec(mut parts: Parts, body: Incoming) -> Response<Content> {
    let Some(protocol) = parts.headers.remove(header::UPGRADE) else {
        return Response::builder()
            .status(400)
            .body(full("upgrade needed"))
            .unwrap();
    };
    let upgrade = hyper::upgrade::on(Request::from_parts(parts, body));
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        stream.write_all(b"hello ").await.unwrap();
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..read]).await.unwrap();
        }
        stream.write_all(b" bye").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, protocol)
        .header("X-Stream-Protocol-Version", "v4.channel.k8s.io")
        .header("X-Stream-Protocol-Version", "v3.channel.k8s.io")
        .body(Empty::new().map_err(|never| match never {}).boxed())
        .unwrap()
}

/// Content of a length that is not told: HTTP/1.1 has trailers only after chunks.
fn unsized_content(text: &'static str) -> Content {
    full(text).map_frame(|frame| frame).boxed()
}

fn full(text: &'static str) -> Content {
    Full::from(text).map_err(|never| match never {}).boxed()
}
