//! The server against real TLS clients on loopback.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls};
use h2::Reason;
use http::StatusCode;
use http_body_util::BodyExt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::*;

/// Answers by path, and remembers what became of request bodies.
struct Echo {
    tls: ServerTls,
    uploads: Mutex<Vec<Result<usize, String>>>,
    started: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

/// Counts a handler that was dropped before its answer.
struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Front for Echo {
    type Peer = usize;
    type Content = Body;

    fn tls_config(&self) -> Arc<ServerConfig> {
        self.tls.config()
    }

    fn identify(&self, certificates: Option<&[CertificateDer<'_>]>) -> usize {
        certificates.map_or(0, <[_]>::len)
    }

    async fn answer(&self, request: Request<Body>, client: &Arc<Client<usize>>) -> Response<Body> {
        let text = match request.uri().path() {
            "/client" => format!("{:?} {}", client.protocol, client.peer),
            "/upload" => {
                let read = request.into_body().collect().await;
                let read = read
                    .map(|all| all.to_bytes().len())
                    .map_err(|e| e.to_string());
                let text = format!("{read:?}");
                self.uploads.lock().expect("not poisoned").push(read);
                text
            }
            "/slow" => {
                sleep(Duration::from_millis(150)).await;
                "slow".to_owned()
            }
            "/never" => {
                self.started.fetch_add(1, Ordering::SeqCst);
                let _guard = OnDrop(Arc::clone(&self.dropped));
                std::future::pending().await
            }
            other => other.to_owned(),
        };
        Response::new(Body::full(text))
    }
}

struct Running {
    address: SocketAddr,
    front: Arc<Echo>,
    ca: CertificateAuthority,
    drain: Drain,
    metrics: ServerMetrics,
}

impl Running {
    async fn start(settings: ServerSettings) -> Self {
        let ca = CertificateAuthority::generate().expect("a CA");
        let issued = ca
            .issue(&Leaf::server(vec!["front.test".to_owned()]))
            .expect("a leaf");
        let tls = ServerTls::from_pem(
            issued.cert_pem.as_bytes(),
            issued.key_pem.as_bytes(),
            Some(ca.cert_pem().as_bytes()),
            ClientAuth::Optional,
            vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        )
        .expect("a server configuration");
        let front = Arc::new(Echo {
            tls,
            uploads: Mutex::default(),
            started: AtomicUsize::new(0),
            dropped: Arc::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let drain = Drain::new();
        let metrics = ServerMetrics::default();
        drain.spawn(serve(
            listener,
            Arc::clone(&front),
            settings,
            metrics.clone(),
            drain.clone(),
        ));
        Self {
            address,
            front,
            ca,
            drain,
            metrics,
        }
    }

    async fn connect(&self, alpn: &[u8], leaf: Option<&Leaf>) -> io::Result<TlsStream<TcpStream>> {
        let issued = leaf.map(|leaf| self.ca.issue(leaf).expect("a leaf"));
        let pair = issued
            .as_ref()
            .map(|i| (i.cert_pem.as_bytes(), i.key_pem.as_bytes()));
        let tls = ClientTls::from_pem(self.ca.cert_pem().as_bytes(), pair, vec![alpn.to_vec()])
            .expect("a client configuration");
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("front.test").expect("a name");
        Ok(tls::connect(tls.config(), name, tcp).await?.io)
    }

    async fn http2(&self) -> h2::client::SendRequest<Bytes> {
        let io = self.connect(b"h2", None).await.expect("connected");
        let (sender, connection) = h2::client::handshake(io).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }

    /// Waits until so many requests for `/never` are being handled or have been.
    async fn never_started(&self, count: usize) {
        let started = &self.front.started;
        eventually("request arrived", || {
            started.load(Ordering::SeqCst) == count
        })
        .await;
    }

    /// Sends raw HTTP/1.1 and reads until the server closes.
    async fn http1(&self, request: &str) -> String {
        let mut io = self.connect(b"http/1.1", None).await.expect("connected");
        io.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let _ = io.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://front.test{path}"))
        .body(())
        .expect("test request")
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn read(response: Response<h2::RecvStream>) -> (StatusCode, String) {
    let (parts, mut body) = response.into_parts();
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        all.extend_from_slice(&chunk.expect("whole"));
    }
    (parts.status, String::from_utf8(all).expect("text"))
}

#[tokio::test]
async fn the_handler_knows_protocol_and_certificate() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    let (answer, _) = sender.send_request(get("/client"), true).expect("open");
    assert_eq!(read(answer.await.expect("answered")).await.1, "Http2 0");

    let leaf = Leaf::proxy_client();
    let mut io = server
        .connect(b"http/1.1", Some(&leaf))
        .await
        .expect("connected");
    io.write_all(b"GET /client HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.expect("text");
    assert!(answer.ends_with("\r\n\r\nHttp1 1"), "{answer}");
}

#[tokio::test]
async fn garbage_and_silence_keep_nobody_waiting() {
    let settings = ServerSettings {
        handshake_timeout: Duration::from_millis(100),
        ..Default::default()
    };
    let server = Running::start(settings).await;
    let mut garbage = TcpStream::connect(server.address).await.expect("connected");
    garbage
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    let silent = TcpStream::connect(server.address).await.expect("connected");
    let mut sender = server.http2().await;
    let (answer, _) = sender.send_request(get("/x"), true).expect("open");
    assert_eq!(read(answer.await.expect("answered")).await.1, "/x");
    eventually("both given up", || {
        server.metrics.handshake_failures.get() == 2
    })
    .await;
    drop((garbage, silent));
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let settings = ServerSettings {
        max_connections: 1,
        ..Default::default()
    };
    let server = Running::start(settings).await;
    let first = server.http2().await;
    let second = server.http2();
    let early = timeout(Duration::from_millis(100), second).await;
    assert!(early.is_err(), "no place yet");
    drop(first);
    timeout(Duration::from_secs(5), server.http2())
        .await
        .expect("a place");
}

#[tokio::test]
async fn hard_case_45_a_cut_upload_never_looks_whole_on_http2() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let (_answer, mut stream) = sender.send_request(get("/upload"), false).expect("open");
        stream
            .send_data(Bytes::from_static(b"half"), false)
            .expect("open");
        stream.send_reset(reason);
    }
    // The handler may also be dropped before it sees its body's end.
    let (answer, mut stream) = sender.send_request(get("/upload"), false).expect("open");
    stream
        .send_data(Bytes::from_static(b"whole"), true)
        .expect("open");
    assert_eq!(read(answer.await.expect("answered")).await.1, "Ok(5)");
    let uploads = server.front.uploads.lock().expect("not poisoned");
    let whole: Vec<_> = uploads
        .iter()
        .filter_map(|upload| upload.as_ref().ok())
        .collect();
    assert_eq!(whole, [&5]);
}

#[tokio::test]
async fn hard_case_45_a_cut_upload_never_looks_whole_on_http1() {
    let server = Running::start(ServerSettings::default()).await;
    for request in [
        "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf",
        "POST /upload HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut io = server.connect(b"http/1.1", None).await.expect("connected");
        io.write_all(request.as_bytes()).await.expect("sent");
        io.shutdown().await.expect("closed");
        let mut rest = Vec::new();
        let _ = io.read_to_end(&mut rest).await;
    }
    let uploads = server.front.uploads.lock().expect("not poisoned");
    assert!(uploads.iter().all(Result::is_err), "{uploads:?}");
}

#[tokio::test]
async fn large_heads_are_taken_and_larger_ones_refused_clearly() {
    let server = Running::start(ServerSettings::default()).await;
    let group = "x".repeat(200);
    let many: String = (0..50)
        .map(|_| format!("x-group: {group}{group}{group}\r\n"))
        .collect();
    let request = format!("GET /y HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{many}\r\n");
    assert!(server.http1(&request).await.ends_with("\r\n\r\n/y"));
    let huge = "x".repeat(300 << 10);
    let request = format!("GET /y HTTP/1.1\r\nhost: x\r\nx-huge: {huge}\r\n\r\n");
    let answer = server.http1(&request).await;
    assert!(
        answer.starts_with("HTTP/1.1 431 "),
        "{:?}",
        answer.get(..40)
    );

    // Five hundred groups on HTTP/2, as a user-server states them.
    let mut sender = server.http2().await;
    let mut request = get("/z");
    for number in 0..500 {
        let value = format!("{number}-{group}").parse().expect("a value");
        request.headers_mut().append("x-remote-group", value);
    }
    let (answer, _) = sender.send_request(request, true).expect("open");
    assert_eq!(
        read(answer.await.expect("answered")).await,
        (StatusCode::OK, "/z".to_owned())
    );
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let settings = ServerSettings {
        header_read_timeout: Duration::from_millis(100),
        ..Default::default()
    };
    let server = Running::start(settings).await;
    let begun = Instant::now();
    server.http1("GET / HTTP/1.1\r\nhost: x\r\n").await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    let (answer, mut stream) = sender.send_request(get("/never"), false).expect("open");
    server.never_started(1).await;
    stream.send_reset(Reason::CANCEL);
    drop(answer);
    eventually("dropped with its stream", || {
        server.front.dropped.load(Ordering::SeqCst) == 1
    })
    .await;

    let mut io = server.connect(b"http/1.1", None).await.expect("connected");
    io.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    server.never_started(2).await;
    drop(io);
    eventually("dropped with its connection", || {
        server.front.dropped.load(Ordering::SeqCst) == 2
    })
    .await;
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_then_ends() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    let (answer, _) = sender.send_request(get("/slow"), true).expect("open");
    let slow = server.http1("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    let (slow, answer, ()) = tokio::join!(slow, answer, async {
        sleep(Duration::from_millis(50)).await;
        server.drain.close();
    });
    assert_eq!(read(answer.expect("answered")).await.1, "slow");
    assert!(slow.ends_with("slow"), "{slow}");
    assert!(
        slow.to_ascii_lowercase().contains("connection: close"),
        "{slow}"
    );
    TcpStream::connect(server.address)
        .await
        .expect_err("nobody accepts any more");
    eventually("all tasks over", || server.drain.tasks() == 0).await;
}

#[tokio::test]
async fn the_end_of_a_drain_cuts_what_is_left() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    let (answer, _) = sender.send_request(get("/never"), true).expect("open");
    server.never_started(1).await;
    server.drain.end();
    answer.await.expect_err("cut");
    eventually("all tasks over", || server.drain.tasks() == 0).await;
    assert_eq!(server.metrics.open.get(), 0);
}

#[tokio::test]
async fn many_small_unread_frames_do_not_end_the_connection() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    let (_held, mut stream) = sender.send_request(get("/never"), false).expect("open");
    for _ in 0..5_000 {
        stream
            .send_data(Bytes::from_static(b"key"), false)
            .expect("open");
    }
    let (answer, _) = sender.send_request(get("/after"), true).expect("open");
    assert_eq!(read(answer.await.expect("answered")).await.1, "/after");
}

#[tokio::test]
async fn hard_case_7_an_early_answer_waits_for_the_rest_of_a_short_body() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    let request = Request::post("https://front.test/early")
        .body(())
        .expect("test request");
    let (answer, mut body) = sender.send_request(request, false).expect("open");
    sleep(Duration::from_millis(50)).await;
    body.send_data(Bytes::from_static(b"short"), true)
        .expect("the stream is still open");
    let answer = read(answer.await.expect("answered")).await;
    assert_eq!(answer, (StatusCode::OK, "/early".to_owned()));
    let reset = timeout(
        Duration::from_millis(100),
        std::future::poll_fn(|context| body.poll_reset(context)),
    );
    assert!(reset.await.is_err(), "the stream was reset");
}

#[tokio::test]
async fn hard_case_7_an_early_answer_comes_though_the_body_never_ends() {
    let server = Running::start(ServerSettings::default()).await;
    let mut sender = server.http2().await;
    for bytes in [1, 128 * 1024] {
        let request = Request::post("https://front.test/early")
            .body(())
            .expect("test request");
        let (answer, mut body) = sender.send_request(request, false).expect("open");
        body.send_data(Bytes::from(vec![0; bytes]), false)
            .expect("sent");
        let answer = timeout(Duration::from_secs(5), answer)
            .await
            .expect("in time")
            .expect("answered");
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_not_asked_for() {
    let server = Running::start(ServerSettings::default()).await;
    let answer = server
        .http1(
            "POST /early HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
