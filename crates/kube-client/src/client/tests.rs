use std::convert::Infallible;
use std::path::Path;

use bytes::Bytes;
use cluster_proxy_identity::Token;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, FlagFile, ServerTls};
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::connection::{Connection, ConnectionParts};
use crate::endpoint::Address;
use crate::refreshed::REFRESH_INTERVAL;

const SECRET: &str = "s3cret-bearer-token";

/// What the server saw of a request.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    path: String,
    host: String,
    authorization: Option<String>,
    /// The client certificate of the connection.
    certificate: Option<CertificateDer<'static>>,
    /// The number of the connection.
    connection: usize,
}

/// A small kube-apiserver with TLS, over TCP and over a Unix socket.
struct Server {
    authority: CertificateAuthority,
    seen: Arc<Mutex<Vec<Seen>>>,
    port: u16,
    socket: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Answers {
    tls: ServerTls,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    async fn start() -> Self {
        let authority = CertificateAuthority::generate().unwrap();
        let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
        let leaf = authority
            .issue(&Leaf::server(names.map(str::to_owned).to_vec()))
            .unwrap();
        let ca = authority.cert_pem().as_bytes();
        let tls = ServerTls::from_pem(
            leaf.cert_pem.as_bytes(),
            leaf.key_pem.as_bytes(),
            Some(ca),
            ClientAuth::Optional,
            vec![b"http/1.1".to_vec()],
        )
        .unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let answers = Answers {
            tls,
            seen: Arc::clone(&seen),
            connections: Arc::default(),
        };

        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        let socket = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(socket.path().join("kube.sock")).unwrap();
        let mut tasks = JoinSet::new();
        let unix_answers = answers.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = tcp.accept().await {
                connections.spawn(answers.clone().serve(stream));
            }
        });
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = unix.accept().await {
                connections.spawn(unix_answers.clone().serve(stream));
            }
        });
        Self {
            authority,
            seen,
            port,
            socket,
            _tasks: tasks,
        }
    }

    fn tcp(&self) -> Address {
        Address::Tcp {
            host: "localhost".to_owned(),
            port: self.port,
        }
    }

    fn unix(&self) -> Address {
        Address::Unix(self.socket.path().join("kube.sock"))
    }

    fn parts(&self, address: Address) -> ConnectionParts {
        ConnectionParts {
            address,
            server_name: "kubernetes.default.svc".to_owned(),
            ca: self.authority.cert_pem().as_bytes().to_vec(),
            client_certificate: None,
            token: TokenSource::none(),
        }
    }

    fn last(&self) -> Seen {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("a request")
    }
}

impl Answers {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let Ok(stream) = TlsAcceptor::from(self.tls.config()).accept(stream).await else {
            return;
        };
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate.clone().into_owned());
        let connection = {
            let mut connections = self.connections.lock().unwrap();
            *connections += 1;
            *connections
        };
        let service = service_fn(|request: Request<Incoming>| {
            let header = |name| {
                let value = request.headers().get(name)?;
                Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            self.seen.lock().unwrap().push(Seen {
                path: request.uri().to_string(),
                host: header(http::header::HOST).unwrap_or_default(),
                authorization: header(AUTHORIZATION),
                certificate: certificate.clone(),
                connection,
            });
            let path = request.uri().path().to_owned();
            async move {
                if path == "/hang" {
                    std::future::pending::<()>().await;
                }
                let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
                if path == "/busy" {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        let io = TokioIo::new(stream);
        let _ = builder
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .await;
    }
}

async fn get(client: &kube::Client, path: &str) -> Result<(StatusCode, Bytes), kube::Error> {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = client.send(request).await?;
    let code = response.status();
    Ok((code, response.into_body().collect().await?.to_bytes()))
}

/// An error with everything behind it.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[tokio::test]
async fn requests_go_over_tcp_and_over_a_unix_socket() {
    let server = Server::start().await;
    let token = TokenSource::fixed(Token::parse(SECRET).unwrap());
    let tcp = format!("localhost:{}", server.port);
    for (address, host) in [
        (server.tcp(), tcp.as_str()),
        (server.unix(), "kubernetes.default.svc"),
    ] {
        let parts = ConnectionParts {
            token: token.clone(),
            ..server.parts(address)
        };
        let client = Connection::from_parts(parts).unwrap().client();
        let (code, body) = get(&client, "/api/v1/pods?limit=1").await.unwrap();
        assert_eq!((code, body.as_ref()), (StatusCode::OK, &b"ok"[..]));
        let seen = server.last();
        assert_eq!(seen.path, "/api/v1/pods?limit=1");
        assert_eq!(seen.host, host);
        assert_eq!(seen.authorization, Some(format!("Bearer {SECRET}")));
        assert_eq!(seen.certificate, None);
        // The connection is kept.
        get(&client, "/version").await.unwrap();
        assert_eq!(server.last().connection, seen.connection);
    }
}

#[tokio::test]
async fn certificate_is_shown_only_where_it_is_wanted() {
    let server = Server::start().await;
    let issued = server.authority.issue(&Leaf::proxy_client()).unwrap();
    let parts = ConnectionParts {
        client_certificate: Some((issued.cert_pem.into_bytes(), issued.key_pem.into_bytes())),
        ..server.parts(server.unix())
    };
    let connection = Connection::from_parts(parts).unwrap();
    get(&connection.client(), "/").await.unwrap();
    assert!(server.last().certificate.is_some());
    assert_eq!(server.last().authorization, None);

    // In TLS 1.3 the server reads the client's certificate after the client has finished, so the
    // server's first answer is what tells.
    for (with_identity, shown) in [(true, true), (false, false)] {
        let stream = connection
            .endpoint()
            .connect(with_identity, &[b"http/1.1"])
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = tokio::spawn(driver);
        let request = Request::get("/raw")
            .header("host", "k")
            .body(Full::<Bytes>::default());
        sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(server.last().certificate.is_some(), shown);
        drop(sender);
        driver.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn rotated_certificate_is_shown_on_a_new_connection() {
    let server = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let rotate = || {
        let issued = server.authority.issue(&Leaf::proxy_client()).unwrap();
        write("tls.crt", &issued.cert_pem);
        write("tls.key", &issued.key_pem);
    };
    rotate();
    write("ca.crt", server.authority.cert_pem());
    write(
        "kubeconfig",
        &format!(
            "current-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://localhost:{}/prefix', \
             certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{client-certificate: tls.crt, client-key: tls.key}}}}]\n",
            server.port
        ),
    );
    let file = FlagFile::new("--kubeconfig", directory.path().join("kubeconfig"));
    let connection = Connection::from_kubeconfig(file, None).unwrap();
    let client = connection.client();
    get(&client, "/version").await.unwrap();
    let first = server.last();
    assert_eq!(first.path, "/prefix/version");

    // Half written: the key is not the certificate's yet.
    let issued = server.authority.issue(&Leaf::proxy_client()).unwrap();
    write("tls.crt", &issued.cert_pem);
    tokio::time::pause();
    tokio::time::advance(REFRESH_INTERVAL).await;
    tokio::time::resume();
    get(&client, "/version").await.unwrap();
    assert_eq!(server.last(), first);

    rotate();
    tokio::time::pause();
    tokio::time::advance(REFRESH_INTERVAL).await;
    tokio::time::resume();
    get(&client, "/version").await.unwrap();
    let second = server.last();
    assert_ne!(second.certificate, first.certificate);
    assert_ne!(second.connection, first.connection);
}

#[tokio::test]
async fn error_answers_are_handed_on_once() {
    let server = Server::start().await;
    let client = Connection::from_parts(server.parts(server.tcp()))
        .unwrap()
        .client();
    let (code, _) = get(&client, "/busy").await.unwrap();
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        server.seen.lock().unwrap().len(),
        1,
        "no retry behind the caller's back"
    );
}

#[tokio::test]
async fn server_without_the_right_name_or_authority_is_not_believed() {
    let server = Server::start().await;
    let other = CertificateAuthority::generate().unwrap();
    let wrong_name = ConnectionParts {
        server_name: "hub.example".to_owned(),
        ..server.parts(server.tcp())
    };
    let wrong_authority = ConnectionParts {
        ca: other.cert_pem().as_bytes().to_vec(),
        ..server.parts(server.unix())
    };
    for parts in [wrong_name, wrong_authority] {
        let connection = Connection::from_parts(parts).unwrap();
        let error = connection.endpoint().connect(true, &[]).await.unwrap_err();
        assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
        let error = get(&connection.client(), "/").await.unwrap_err();
        assert!(
            whole(&error).contains("invalid peer certificate"),
            "{}",
            whole(&error)
        );
    }
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unreachable_server_is_named() {
    let server = Server::start().await;
    let nobody = Address::Unix(Path::new("/nonexistent/kube.sock").to_owned());
    let connection = Connection::from_parts(server.parts(nobody)).unwrap();
    let error = get(&connection.client(), "/").await.unwrap_err();
    let text = whole(&error);
    assert!(
        text.contains("the kube-apiserver at unix:///nonexistent/kube.sock"),
        "{text}"
    );
    assert!(text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn silent_server_is_given_up() {
    let server = Server::start().await;
    let client = Connection::from_parts(server.parts(server.tcp()))
        .unwrap()
        .client();
    get(&client, "/").await.unwrap();
    let hanging = tokio::spawn(async move { get(&client, "/hang").await });
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while server.last().path != "/hang" {
        assert!(
            std::time::Instant::now() < deadline,
            "the request did not arrive"
        );
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(SILENCE_TIMEOUT).await;
    tokio::time::resume();
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn no_log_line_holds_the_token() {
    let server = Server::start().await;
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let token = TokenSource::fixed(Token::parse(SECRET).unwrap());
    let parts = ConnectionParts {
        token,
        ..server.parts(server.tcp())
    };
    let connection = Connection::from_parts(parts.clone()).unwrap();
    get(&connection.client(), "/busy").await.unwrap();
    tracing::info!(?parts, ?connection, "done");
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("done"));
    assert!(!log.contains(SECRET), "{log}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
