//! Bodies of requests: bounded in size and time; JSON, YAML or protobuf.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::negotiation::content_type;
use crate::protobuf;

/// The body of a request.
pub(super) struct RequestBody {
    incoming: Incoming,
    /// The client was told to go on, where it asked (`Expect: 100-continue`).
    begun: bool,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
            begun: false,
        }
    }

    /// The bytes.
    ///
    /// # Errors
    /// 413 beyond [`MAX_BODY`], 408 when it does not arrive in time, 400 when it breaks off.
    pub(super) async fn bytes(&mut self) -> Result<Bytes, Failure> {
        self.begun = true;
        let limited = Limited::new(&mut self.incoming, MAX_BODY);
        match timeout(BODY_TIME, limited.collect()).await {
            Err(_) => Err(Failure::request_timeout()),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(MAX_BODY)),
            Ok(Err(_)) => Err(Failure::bad_request("the body broke off")),
        }
    }

    /// The object in it.
    ///
    /// # Errors
    /// As [`Self::bytes`], and 415 for another content type, 400 for what cannot be parsed.
    pub(super) async fn object(&mut self, headers: &HeaderMap) -> Result<Value, Failure> {
        let content_type = content_type(headers);
        if !OBJECT_TYPES.contains(&&*content_type) {
            return Err(Failure::unsupported_media_type(&OBJECT_TYPES.join(", ")));
        }
        parse(&content_type, &self.bytes().await?)
    }

    /// The options of a deletion, which most requests leave out.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub(super) async fn options(&mut self, headers: &HeaderMap) -> Result<Value, Failure> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(json!({}));
        }
        parse(&content_type(headers), &bytes)
    }

    /// Takes what a request that was refused still sends: an answer in the middle of an upload
    /// is lost on clients that write before they read (curl over HTTP/2 among them). A client
    /// that waits for `100 Continue` sends nothing more.
    pub(super) async fn drain(&mut self, headers: &HeaderMap) {
        let waits = headers.contains_key(EXPECT) && !self.begun;
        if waits || self.incoming.is_end_stream() {
            return;
        }
        let mut taken = 0;
        let rest = async {
            while let Some(Ok(frame)) = self.incoming.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len);
                if taken > MAX_DRAINED {
                    return;
                }
            }
        };
        // In time or not, the answer goes out.
        let _ = timeout(DRAIN_TIME, rest).await;
    }
}

/// # Errors
/// 400 for what cannot be parsed.
pub(super) fn parse(content_type: &str, bytes: &[u8]) -> Result<Value, Failure> {
    if content_type == protobuf::CONTENT_TYPE {
        return protobuf::decode(bytes);
    }
    let parsed = if content_type.ends_with("yaml") {
        std::str::from_utf8(bytes)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_saphyr::from_str(text).map_err(|error| error.to_string()))
    } else {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    };
    parsed.map_err(|error| {
        Failure::bad_request(format!("error decoding the body of the request: {error}"))
    })
}

const OBJECT_TYPES: [&str; 3] = [
    "application/json",
    "application/yaml",
    protobuf::CONTENT_TYPE,
];

/// As the kube-apiserver's own limit (`MaxRequestBodyBytes`).
const MAX_BODY: usize = 3 * 1024 * 1024;

/// Bytes of a refused body that are taken; beyond, the client may miss the answer.
const MAX_DRAINED: usize = 16 * 1024 * 1024;

const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A body of 3 MiB comes in time at 1 Mbit/s.
const BODY_TIME: Duration = Duration::from_secs(30);
