use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use cluster_proxy_http_proxy::{Proxies, Proxy, ProxyUrl};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ServerTls};
use cluster_proxy_testkit::http_proxy::{Answer, HttpProxy, HttpProxyScript};
use cluster_proxy_tunnel::Target;
use tokio::net::TcpListener;

use super::*;

const HUB: &str = "hub.test";
const LIMIT: Duration = Duration::from_secs(5);

fn agent(ca: &CertificateAuthority, proxy: Proxy, limit: Duration) -> Connector {
    let leaf = Leaf::proxy_agent(&"managed".parse().unwrap());
    let own = ca.issue(&leaf).unwrap();
    let pair = (own.cert_pem.as_bytes(), own.key_pem.as_bytes());
    let tls = ClientTls::from_pem(ca.cert_pem().as_bytes(), Some(pair), vec![]).unwrap();
    let server = Target::new(HUB, 8091).unwrap();
    Connector::new(Config {
        http_proxy: Some(proxy),
        connect_timeout: limit,
        ..Config::new(server, tls, "a".to_owned())
    })
    .unwrap()
}

fn at(address: SocketAddr) -> Proxy {
    let url = format!("http://agent:s3cret@{address}");
    let proxies = Proxies::from_variables(|name| (name == "HTTPS_PROXY").then(|| url.clone()));
    proxies.unwrap().towards(HUB, 8091).unwrap().clone()
}

/// What the agent logs of one attempt.
async fn trouble(connector: &Connector) -> String {
    let error = connector.connect(|_| true).await.unwrap_err();
    let line = format!("{error} ({})", error.advice());
    assert!(!line.contains("s3cret"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// A TLS server that takes one connection after the other, with a certificate of `ca` for the hub.
async fn tls_server(ca: &CertificateAuthority) -> SocketAddr {
    let leaf = ca.issue(&Leaf::server(vec![HUB.to_owned()])).unwrap();
    let tls = ServerTls::from_pem(
        leaf.cert_pem.as_bytes(),
        leaf.key_pem.as_bytes(),
        None,
        ClientAuth::Off,
        vec![],
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = tls::accept(socket, tls.config(), LIMIT).await;
        }
    });
    address
}

#[tokio::test]
async fn the_line_says_which_proxy_and_what_to_do() {
    let ca = CertificateAuthority::generate().unwrap();
    for (answer, limit, said, advice) in [
        (
            Answer::Raw("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            LIMIT,
            "answered 407 Proxy Authentication Required to CONNECT hub.test:8091",
            "does not accept user and password",
        ),
        (
            Answer::Honest,
            LIMIT,
            "answered 502 Bad Gateway to CONNECT hub.test:8091",
            "cannot reach the hub",
        ),
        (
            Answer::EndlessHeaders,
            LIMIT,
            "longer than 16 KiB",
            "is the port the proxy's",
        ),
        (
            Answer::Silence,
            Duration::from_millis(200),
            "no answer to CONNECT",
            "overloaded",
        ),
    ] {
        let script = HttpProxyScript {
            answer,
            ..HttpProxyScript::default()
        };
        let proxy = HttpProxy::start(script).await.unwrap();
        let line = trouble(&agent(&ca, at(proxy.address()), limit)).await;
        let named = line.contains(&format!("http://{}", proxy.address()));
        assert!(
            named && line.contains(said) && line.contains(advice),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_not_the_hubs_fault() {
    let ca = CertificateAuthority::generate().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let line = trouble(&agent(&ca, at(address), LIMIT)).await;
    let said = format!("cannot connect to the HTTP proxy http://{address}: {address}: connection");
    assert!(
        line.starts_with(&said) && line.contains("HTTPS_PROXY"),
        "{line}"
    );
    let nowhere = Proxy::new(ProxyUrl::parse("http://agent:s3cret@nowhere.invalid").unwrap());
    let line = trouble(&agent(&ca, nowhere, LIMIT)).await;
    assert!(
        line.contains("the HTTP proxy http://nowhere.invalid:80"),
        "{line}"
    );
    assert!(line.contains("DNS"), "{line}");
}

#[tokio::test]
async fn a_proxy_that_inspects_tls_is_told_from_a_wrong_ca() {
    let ca = CertificateAuthority::generate().unwrap();
    let inspector = CertificateAuthority::generate().unwrap();
    for (presented_by, said) in [
        (
            &inspector,
            "a certificate of an unknown CA came in place of the proxy-server's",
        ),
        // Trusted as it is, it still cannot be what lanes need.
        (&ca, "speaks neither lanes nor konnectivity"),
    ] {
        let server = tls_server(presented_by).await;
        let proxy = HttpProxy::start(HttpProxyScript {
            routes: HashMap::from([(format!("{HUB}:8091"), server)]),
            ..HttpProxyScript::default()
        });
        let proxy = proxy.await.unwrap();
        let line = trouble(&agent(&ca, at(proxy.address()), LIMIT)).await;
        assert!(line.contains(said), "{line}");
        let via = format!("through the HTTP proxy http://{}", proxy.address());
        assert!(
            line.contains(&via) && line.contains("inspect TLS"),
            "{line}"
        );
    }
}
