//! What several fuzz targets need: a runtime whose clock does not wait, and a kube-apiserver that
//! answers whatever it is told.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO");
}

/// Runs the future to its end with a paused clock: time passes when nothing else can happen. A
/// future that takes more than an hour of it is a finding.
pub fn run<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let limit = Duration::from_secs(3600);
            tokio::time::timeout(limit, future)
                .await
                .expect("everything has a deadline")
        })
    })
}

/// A client whose server gives this answer to every request.
pub fn apiserver(code: StatusCode, body: Vec<u8>) -> kube::Client {
    let body = Bytes::from(body);
    let service = tower::service_fn(move |_| {
        let mut response = Response::new(Full::new(body.clone()));
        *response.status_mut() = code;
        async move { Ok::<_, Infallible>(response) }
    });
    kube::Client::new(service, "default")
}

/// Headers from bytes, without those that HTTP itself does not allow.
pub fn headers(fields: &[(Vec<u8>, Vec<u8>)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
