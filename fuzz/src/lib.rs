//! What several fuzz targets need: a runtime whose clock does not wait, an agent's introduction,
//! and a kube-apiserver that answers whatever it is told.

mod agent_hello;
mod fields;
mod paused;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

pub use agent_hello::agent_hello;
pub use fields::headers;
pub use paused::run;

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
