//! The pool against real sockets on loopback.

mod bodies;
mod http1;
mod keeping;
mod peer;
mod retrying;
mod upgrading;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;

use super::*;
use peer::Plain;

fn get(path: &str) -> Request<Body> {
    Request::builder()
        .uri(path)
        .body(Body::empty())
        .expect("test request")
}

fn post(path: &str, content: &'static [u8]) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .body(Body::full(Bytes::from_static(content)))
        .expect("test request")
}

fn pool(connector: Plain, settings: PoolSettings) -> Pool<Plain> {
    let origin = Origin::http("peer.test:8080").expect("test origin");
    Pool::new(connector, origin, settings, PoolMetrics::default())
}

/// Sends a short request and reads its answer whole.
async fn ask(
    pool: &Pool<Plain>,
    request: Request<Body>,
) -> Result<Response<Bytes>, SendError<std::io::Error>> {
    let response = pool
        .send(request, Class::Short, Some(Duration::from_secs(5)))
        .await?;
    let (parts, body) = response.into_parts();
    let content = body
        .collect()
        .await
        .expect("the answer is whole")
        .to_bytes();
    Ok(Response::from_parts(parts, content))
}

/// Waits until `condition` holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
