//! Connections through a real proxy over loopback, and proxies that give none.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cluster_proxy_http_proxy::{Outbound, Proxies, Proxy, ProxyError, ProxyUrl};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ServerTls};
use cluster_proxy_testkit::http_proxy::{Answer, HttpProxy, HttpProxyScript};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(10);

/// `user:p@ss`
const CREDENTIALS: &str = "dXNlcjpwQHNz";

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn start(script: HttpProxyScript) -> HttpProxy {
    HttpProxy::start(script).await.unwrap()
}

async fn answering(answer: Answer) -> HttpProxy {
    start(HttpProxyScript {
        answer,
        ..HttpProxyScript::default()
    })
    .await
}

async fn to_echo() -> HttpProxyScript {
    HttpProxyScript {
        routes: HashMap::from([("hub.test:443".to_owned(), echo().await)]),
        ..HttpProxyScript::default()
    }
}

async fn open_within(
    proxy: &HttpProxy,
    url: &str,
    more_ca: &[u8],
    limit: Duration,
) -> Result<Outbound, ProxyError> {
    let url = url.replace("PORT", &proxy.address().port().to_string());
    let socket = TcpStream::connect(proxy.address()).await.unwrap();
    Proxy::new(ProxyUrl::parse(&url).unwrap())
        .open(socket, ("hub.test", 443), more_ca, limit)
        .await
}

async fn open(proxy: &HttpProxy, url: &str) -> Result<Outbound, ProxyError> {
    open_within(proxy, url, b"", LIMIT).await
}

/// What the error says, and its advice, neither of which may have a credential in it.
#[track_caller]
fn said(result: Result<Outbound, ProxyError>) -> (String, &'static str) {
    let error = result.expect_err("there was a connection");
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    assert!(
        !text.contains("p@ss") && !text.contains(CREDENTIALS),
        "{text}"
    );
    assert!(
        !debug.contains("p@ss") && !debug.contains(CREDENTIALS),
        "{debug}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    (text, error.advice())
}

async fn echoes(mut stream: Outbound) {
    let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut back = vec![0; sent.len()];
    let (written, all) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.flush().await
        },
        read.read_exact(&mut back)
    );
    written.unwrap();
    all.unwrap();
    assert!(back == sent);
}

#[tokio::test]
async fn bytes_pass_through_a_plain_proxy() {
    let proxy = start(to_echo().await).await;
    echoes(open(&proxy, "http://127.0.0.1:PORT").await.unwrap()).await;
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1);
    assert!(
        heads[0].starts_with("CONNECT hub.test:443 HTTP/1.1\r\nHost: hub.test:443\r\n"),
        "{heads:?}"
    );
    assert!(!heads[0].contains("Proxy-Authorization"));
}

#[tokio::test]
async fn credentials_are_shown_to_the_proxy_and_nobody_else() {
    let proxy = start(HttpProxyScript {
        credentials: Some(CREDENTIALS),
        ..to_echo().await
    })
    .await;
    echoes(
        open(&proxy, "http://user:p%40ss@127.0.0.1:PORT")
            .await
            .unwrap(),
    )
    .await;

    let (text, advice) = said(open(&proxy, "http://127.0.0.1:PORT").await);
    let port = proxy.address().port();
    assert_eq!(
        text,
        format!(
            "the HTTP proxy http://127.0.0.1:{port} answered 407 Proxy Authentication Required to \
             CONNECT hub.test:443 (it asks for Basic)"
        )
    );
    assert!(
        advice.contains("put user:password@ into its URL"),
        "{advice}"
    );
    let (_, advice) = said(open(&proxy, "http://user:p%40sz@127.0.0.1:PORT").await);
    assert!(
        advice.contains("does not accept user and password"),
        "{advice}"
    );
}

#[tokio::test]
async fn an_encrypted_proxy_proves_its_name() {
    let ca = CertificateAuthority::generate().unwrap();
    let leaf = ca
        .issue(&Leaf::server(vec!["127.0.0.1".to_owned()]))
        .unwrap();
    let tls = ServerTls::from_pem(
        leaf.cert_pem.as_bytes(),
        leaf.key_pem.as_bytes(),
        None,
        ClientAuth::Off,
        vec![],
    );
    let proxy = start(HttpProxyScript {
        credentials: Some(CREDENTIALS),
        tls: Some(tls.unwrap()),
        ..to_echo().await
    })
    .await;
    let url = "https://user:p%40ss@127.0.0.1:PORT";
    let pem = ca.cert_pem().as_bytes();
    echoes(open_within(&proxy, url, pem, LIMIT).await.unwrap()).await;

    // The same CA from the file that the environment names.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, pem).unwrap();
    let proxies = Proxies::from_variables(|name| match name {
        "HTTPS_PROXY" => Some(url.replace("PORT", &proxy.address().port().to_string())),
        "ROOT_CA_CERT" => Some(file.display().to_string()),
        _ => None,
    })
    .unwrap();
    let chosen = proxies.towards("hub.test", 443).unwrap();
    let socket = TcpStream::connect(proxy.address()).await.unwrap();
    let stream = chosen.open(socket, ("hub.test", 443), b"", LIMIT).await;
    echoes(stream.unwrap()).await;
    assert_eq!(proxy.heads().len(), 2);

    // A file that is not there is no reason to trust anybody.
    std::fs::remove_file(&file).unwrap();
    let socket = TcpStream::connect(proxy.address()).await.unwrap();
    let (text, _) = said(chosen.open(socket, ("hub.test", 443), b"", LIMIT).await);
    assert!(text.contains("ca.crt: no such file"), "{text}");

    let (text, advice) = said(open(&proxy, url).await);
    assert!(
        text.contains("TLS with the HTTP proxy https://127.0.0.1:"),
        "{text}"
    );
    assert!(advice.contains("proxyConfig.caBundle"), "{advice}");
    assert_eq!(proxy.heads().len(), 2, "credentials went to a stranger");

    // The two schemes mixed up.
    let (_, advice) = said(open(&proxy, "http://user:p%40ss@127.0.0.1:PORT").await);
    assert!(advice.contains("https://"), "{advice}");
    let plain = start(to_echo().await).await;
    let (text, advice) = said(open_within(&plain, url, pem, Duration::from_millis(300)).await);
    assert!(advice.contains("http://"), "{text}: {advice}");
}

#[tokio::test]
async fn refusals_say_who_and_what_to_do() {
    let proxy = start(HttpProxyScript::default()).await;
    let (text, advice) = said(open(&proxy, "http://127.0.0.1:PORT").await);
    assert!(
        text.ends_with("answered 502 Bad Gateway to CONNECT hub.test:443"),
        "{text}"
    );
    assert!(advice.contains("cannot reach the hub"), "{advice}");

    for (answer, reads, advises) in [
        (
            "HTTP/1.1 403 Forbidden by policy\r\n\r\n",
            "403 Forbidden by policy",
            "NO_PROXY",
        ),
        ("HTTP/1.0 405\r\n\r\n", "answered 405", "rules do not allow"),
        (
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n",
            "407 No to CONNECT hub.test:443 (it asks for Negotiate)",
            "has Basic only",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n",
            "302 Found",
            "takes CONNECT",
        ),
        (
            "HTTP/1.1 503 Busy\r\n\r\n",
            "503 Busy",
            "cannot reach the hub",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "bytes of its own after its answer",
            "between this pod",
        ),
        ("SSH-2.0-OpenSSH\r\n", "is no HTTP proxy", "port"),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            "ended the connection without an answer",
            "port",
        ),
        ("", "ended the connection without an answer", "https://"),
    ] {
        let proxy = answering(Answer::Raw(answer)).await;
        let (text, advice) = said(open(&proxy, "http://user:p%40ss@127.0.0.1:PORT").await);
        assert!(text.contains(reads), "{answer:?}: {text}");
        assert!(advice.contains(advises), "{answer:?}: {advice}");
    }
}

#[tokio::test]
async fn what_never_ends_is_bounded() {
    let proxy = answering(Answer::EndlessHeaders).await;
    let (text, _) = said(open(&proxy, "http://127.0.0.1:PORT").await);
    assert!(
        text.contains("longer than 16 KiB or has more than 64 headers"),
        "{text}"
    );

    let proxy = answering(Answer::Silence).await;
    let began = Instant::now();
    let limit = Duration::from_millis(300);
    let (text, advice) = said(open_within(&proxy, "http://127.0.0.1:PORT", b"", limit).await);
    assert!(began.elapsed() >= limit && began.elapsed() < LIMIT);
    assert!(
        text.contains("was silent for") && text.contains("CONNECT"),
        "{text}"
    );
    assert!(advice.contains("overloaded"), "{advice}");
}

#[tokio::test]
async fn a_host_cannot_write_headers() {
    let proxy = answering(Answer::Silence).await;
    let socket = TcpStream::connect(proxy.address()).await.unwrap();
    let chosen = Proxy::new(ProxyUrl::parse("127.0.0.1").unwrap());
    let host = "hub.test:443 HTTP/1.1\r\nX: y";
    let (text, _) = said(chosen.open(socket, (host, 443), b"", LIMIT).await);
    assert!(text.contains("is no host name"), "{text}");
    assert!(proxy.heads().is_empty());
}
