//! Requests for Services: the client's, and nothing of ours.

use std::convert::Infallible;

use cluster_proxy_forward::headers::set_upgrade;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use super::*;
use crate::testing::SERVICE_NAME;

/// A Service in plain HTTP/1.1, and HTTP/2 for who knows: it says what it was asked.
async fn plain_service() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service_fn(describe))
                    .await;
            });
        }
    });
    address
}

async fn describe(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let host = parts.uri.authority().map_or_else(
        || String::from_utf8_lossy(parts.headers["host"].as_bytes()).into_owned(),
        ToString::to_string,
    );
    let mut headers: Vec<_> = parts
        .headers
        .iter()
        .filter(|(name, _)| !["host", "audit-id"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
        .collect();
    headers.sort();
    let told = json!({
        "method": parts.method.as_str(), "version": format!("{:?}", parts.version), "host": host,
        "target": parts.uri.path_and_query().expect("a path").as_str(), "headers": headers,
        "bytes": body.collect().await.expect("a whole body").to_bytes().len(),
    });
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::from(told.to_string()).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(
        "www-authenticate",
        HeaderValue::from_static("Basic realm=its-own"),
    );
    headers.insert("trailer", HeaderValue::from_static("grpc-status"));
    Ok(response)
}

async fn rig_with(address: std::net::SocketAddr) -> Rig {
    Rig::start(|config, _| {
        config
            .service_addresses
            .insert(SERVICE_NAME.to_owned(), address);
    })
    .await
}

/// A request for the Service, with these headers besides.
fn to_service(scheme: &'static str, target: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = request(target, fields);
    for (name, value) in [
        ("cluster-proxy-proto", scheme),
        ("cluster-proxy-namespace", "shop"),
        ("cluster-proxy-service", "web"),
        ("cluster-proxy-port", "8080"),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    request
}

#[tokio::test]
async fn hard_case_23_a_service_gets_the_clients_request_and_nothing_of_ours() {
    let rig = rig_with(plain_service().await).await;
    let fields = [
        ("cookie", "its=own"),
        ("x-remote-user", "system:admin"),
        ("x-remote-group", "system:masters"),
        ("cluster-proxy-new", "1"),
        ("x-many", "1"),
        ("x-many", "2"),
    ];
    for peer in [
        rig.user_server(),
        rig.peer(None),
        rig.peer(Some(&Leaf::proxy_client())),
    ] {
        let mut request = to_service("http", "/a%2Fb//../c?x=%zz&&y", &fields);
        *request.method_mut() = Method::PUT;
        *request.body_mut() = Body::full(vec![7; 100_000]);
        let (status, told) = ask(&peer, request).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "its own answer");
        assert_eq!(told["method"], "PUT");
        assert_eq!(told["version"], "HTTP/1.1");
        assert_eq!(told["target"], "/a%2Fb//../c?x=%zz&&y");
        assert_eq!(told["bytes"], 100_000);
        let headers = told["headers"].as_array().expect("a list");
        let headers: Vec<_> = headers
            .iter()
            .map(|line| line.as_str().expect("text"))
            .collect();
        let ours: Vec<_> = headers
            .iter()
            .filter(|line| !line.starts_with("content-length") && !line.starts_with("transfer-"))
            .copied()
            .collect();
        assert_eq!(ours, ["cookie: its=own", "x-many: 1", "x-many: 2"]);
    }
    assert!(rig.managed.recorded().is_empty());
    assert!(
        rig.managed.reviewed().is_empty(),
        "nobody is asked who comes"
    );
}

#[tokio::test]
async fn the_host_is_the_one_that_the_user_asked_for() {
    let rig = rig_with(plain_service().await).await;
    let mut request = to_service("http", "/", &[]);
    *request.uri_mut() = "https://hub.example:9092/page".parse().expect("a URL");
    let (_, told) = ask(&rig.user_server(), request).await;
    assert_eq!(told["host"], "hub.example:9092");
    assert_eq!(told["target"], "/page");
}

#[tokio::test]
async fn grpc_without_tls_is_http2_with_its_trailers() {
    let rig = rig_with(plain_service().await).await;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let request = to_service("http", "/Service/Method", &fields);
    let after = Some(Duration::from_secs(10));
    let answer = rig.user_server().send(request, Class::Short, after).await;
    let content = answer
        .expect("answered")
        .into_body()
        .collect()
        .await
        .expect("whole");
    assert_eq!(content.trailers().expect("trailers")["grpc-status"], "0");
    let told: Value = serde_json::from_slice(&content.to_bytes()).expect("JSON");
    assert_eq!(told["version"], "HTTP/2.0");
    assert_eq!(
        told["headers"],
        json!(["content-type: application/grpc", "te: trailers"])
    );
}

#[tokio::test]
async fn a_services_certificate_is_checked_by_its_name_and_ca() {
    let service = FakeCluster::start().await;
    let trusting = Rig::start(|config, _| {
        config.services_tls = service.client_tls();
        for host in [SERVICE_NAME, "other.shop.svc"] {
            config
                .service_addresses
                .insert(host.to_owned(), service.address());
        }
    })
    .await;
    let (status, _) = ask(&trusting.user_server(), to_service("https", "/x?y", &[])).await;
    assert_eq!(status, StatusCode::OK);
    let seen = service.take_one();
    assert_eq!(seen.target, "/x?y");
    assert_eq!(seen.certificate, "", "no certificate of ours");
    assert_eq!(seen.protocol, Protocol::Http2);

    let mut another = to_service("https", "/", &[]);
    another
        .headers_mut()
        .insert("cluster-proxy-service", HeaderValue::from_static("other"));
    let distrusting = rig_with(service.address()).await;
    for (rig, request, name) in [
        (&trusting, another, "https://other.shop.svc:8080"),
        (
            &distrusting,
            to_service("https", "/", &[]),
            "https://web.shop.svc:8080",
        ),
    ] {
        let (status, body) = ask(&rig.user_server(), request).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        let message = body["message"].as_str().expect("text");
        assert!(message.contains(name), "{message}");
        assert!(message.contains("--additional-service-ca"), "{message}");
    }
    assert!(service.recorded().is_empty());
}

#[tokio::test]
async fn a_service_may_change_the_protocol() {
    let service = FakeCluster::start().await;
    let rig = Rig::start(|config, _| {
        config.services_tls = service.client_tls();
        config
            .service_addresses
            .insert(SERVICE_NAME.to_owned(), service.address());
    })
    .await;
    let request = to_service("https", "/socket", &[("origin", "https://hub.example")]);
    let switched = rig
        .user_server()
        .upgrade(
            request,
            HeaderValue::from_static("websocket"),
            Duration::from_secs(10),
        )
        .await
        .expect("answered");
    let cluster_proxy_forward::Upgrade::Switched(switched) = switched else {
        panic!("no switch: {switched:?}");
    };
    let mut expected = HeaderMap::new();
    set_upgrade(&mut expected, HeaderValue::from_static("websocket"));
    assert_eq!(switched.head.headers()["upgrade"], expected["upgrade"]);
    assert_eq!(service.take_one().protocol, Protocol::Http1);
}

#[tokio::test]
async fn what_is_wrong_with_a_service_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let closed = listener.local_addr().expect("bound");
    drop(listener);
    let rig = rig_with(closed).await;
    let (status, body) = ask(&rig.user_server(), to_service("http", "/", &[])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let message = body["message"].as_str().expect("text");
    assert!(message.contains("http://web.shop.svc:8080"), "{message}");

    let plain = rig_with(plain_service().await).await;
    let (status, body) = ask(&plain.user_server(), to_service("https", "/", &[])).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    let message = body["message"].as_str().expect("text");
    assert!(message.contains("http:<service>"), "{message}");

    let mut nowhere = to_service("http", "/", &[]);
    nowhere
        .headers_mut()
        .insert("cluster-proxy-service", HeaderValue::from_static("nowhere"));
    let (status, body) = ask(&rig.user_server(), nowhere).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
}
