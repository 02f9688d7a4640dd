use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ServerTls, install_crypto_provider};
use cluster_proxy_tunnel::dialer::Dialling;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// What is at the far end of the tunnel.
#[derive(Debug, Clone)]
enum FarEnd {
    /// A server with this certificate, and what it answers.
    Server(ServerTls, &'static str),
    /// Something that is no TLS server.
    Text(&'static str),
    /// Something that says nothing.
    Silence,
    Nothing(DialError),
}

#[derive(Debug)]
struct FakeDialer {
    far_end: FarEnd,
    expected: String,
}

impl Dialer for FakeDialer {
    fn dial<'a>(&'a self, target: &'a Target) -> Dialling<'a> {
        Box::pin(async move {
            assert_eq!(target.to_string(), self.expected);
            let (near, far) = tokio::io::duplex(64 * 1024);
            match self.far_end.clone() {
                FarEnd::Nothing(error) => return Err(error),
                FarEnd::Server(tls, answer) => drop(tokio::spawn(serve(tls, answer, far))),
                FarEnd::Text(text) => drop(tokio::spawn(async move {
                    let mut far = far;
                    let _ = far.write_all(text.as_bytes()).await;
                })),
                FarEnd::Silence => drop(tokio::spawn(async move {
                    let _far = far;
                    std::future::pending::<()>().await;
                })),
            }
            Ok(Box::new(near) as Box<dyn Connection>)
        })
    }
}

async fn serve(tls: ServerTls, answer: &'static str, far: DuplexStream) {
    let Ok(mut io) = TlsAcceptor::from(tls.config()).accept(far).await else {
        return;
    };
    assert!(
        io.get_ref().1.peer_certificates().is_none(),
        "it says who it is"
    );
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = io.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /livez http/1.1\r\n"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    let _ = io.write_all(answer.as_bytes()).await;
    let _ = io.shutdown().await;
}

fn server(ca: &CertificateAuthority, leaf: Leaf, answer: &'static str) -> FarEnd {
    let issued = ca.issue(&leaf).unwrap();
    let tls = ServerTls::from_pem(
        issued.cert_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        Some(ca.cert_pem().as_bytes()),
        ClientAuth::Optional,
        vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    );
    FarEnd::Server(tls.unwrap(), answer)
}

async fn ask(
    ca: &CertificateAuthority,
    asked: Asked,
    far_end: FarEnd,
) -> Result<Duration, RequestError> {
    let cluster: ClusterName = "managed".parse().unwrap();
    let expected = match asked {
        Asked::ServiceProxy => Target::service_proxy(&TunnelHost::of(&cluster)).to_string(),
        Asked::KubeApiserver => "managed:443".to_owned(),
    };
    let dialer = FakeDialer { far_end, expected };
    let requests = Requests::new(Arc::new(dialer), ca.cert_pem()).unwrap();
    requests.ask(&cluster, asked).await
}

const REFUSAL: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test(start_paused = true)]
async fn any_answer_of_the_right_service_proxy_counts() {
    drop(install_crypto_provider());
    let ca = CertificateAuthority::generate().unwrap();
    let own = Leaf::service_proxy(&"managed".parse().unwrap());
    let far_end = server(&ca, own.clone(), REFUSAL);
    ask(&ca, Asked::ServiceProxy, far_end).await.unwrap();

    let cut = ask(
        &ca,
        Asked::ServiceProxy,
        server(&ca, own.clone(), "HTTP/1.1"),
    )
    .await;
    assert!(matches!(cut, Err(RequestError::Http(_))), "{cut:?}");
    let other = Leaf::service_proxy(&"other".parse().unwrap());
    let other = ask(&ca, Asked::ServiceProxy, server(&ca, other, REFUSAL)).await;
    assert!(
        matches!(other, Err(RequestError::Certificate { .. })),
        "{other:?}"
    );
    let foreign = CertificateAuthority::generate().unwrap();
    let foreign = ask(&ca, Asked::ServiceProxy, server(&foreign, own, REFUSAL)).await;
    assert!(
        matches!(foreign, Err(RequestError::Certificate { .. })),
        "{foreign:?}"
    );
    let text = ask(&ca, Asked::ServiceProxy, FarEnd::Text("220 mail ready\r\n")).await;
    assert!(
        matches!(text, Err(RequestError::Handshake { .. })),
        "{text:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_beyond_the_deadline() {
    drop(install_crypto_provider());
    let ca = CertificateAuthority::generate().unwrap();
    let begun = Instant::now();
    let silent = ask(&ca, Asked::ServiceProxy, FarEnd::Silence).await;
    assert_eq!(begun.elapsed(), DEADLINE);
    assert_eq!(
        silent.unwrap_err().to_string(),
        "the TLS handshake: nothing within 12 s"
    );
    let details = "no lane".to_owned();
    let nothing = FarEnd::Nothing(DialError::NoAgent { details });
    let nothing = ask(&ca, Asked::ServiceProxy, nothing).await.unwrap_err();
    assert!(nothing.to_string().contains("no lane"), "{nothing}");
}

/// Its certificate is of its cluster's CA, which the hub does not know.
#[tokio::test(start_paused = true)]
async fn a_kube_apiserver_is_asked_where_no_service_proxy_runs() {
    drop(install_crypto_provider());
    let ca = CertificateAuthority::generate().unwrap();
    let foreign = CertificateAuthority::generate().unwrap();
    let leaf = Leaf::server(vec!["kubernetes".to_owned()]);
    let far_end = server(
        &foreign,
        leaf,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    ask(&ca, Asked::KubeApiserver, far_end).await.unwrap();
}
