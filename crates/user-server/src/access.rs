//! The access event: one for each request, at its end, target `access`.
//!
//! It holds nothing that a client could have meant as a secret: no token, no header, no query, no
//! content.

use std::net::SocketAddr;
use std::sync::Arc;

use cluster_proxy_forward::{End, Report};
use cluster_proxy_identity::{ClusterName, User};
use cluster_proxy_runtime::error::with_sources;
use http::{HeaderValue, Method, Request, StatusCode};
use tokio::time::Instant;
use uuid::Uuid;

use crate::caller::Caller;
use crate::limits::Counted;
use crate::metrics::{Active, Metrics};

/// What the access event of one request will say. It is written when this is dropped, wherever the
/// request has ended.
#[derive(Debug)]
pub(crate) struct Access {
    id: Uuid,
    client: SocketAddr,
    user: Option<Arc<User>>,
    cluster: Option<ClusterName>,
    method: Method,
    path: String,
    code: Option<StatusCode>,
    bytes: u64,
    end: End,
    cause: Option<String>,
    begun: Instant,
    metrics: Metrics,
    _active: Active,
    /// Kept for what its end means.
    counted: Counted,
}

impl Access {
    pub(crate) fn new<B>(request: &Request<B>, client: SocketAddr, metrics: &Metrics) -> Self {
        Self {
            id: Uuid::new_v4(),
            client,
            user: None,
            cluster: None,
            method: request.method().clone(),
            path: request.uri().path().chars().take(MAX_PATH_CHARS).collect(),
            code: None,
            bytes: 0,
            end: End::Abandoned,
            cause: None,
            begun: Instant::now(),
            metrics: metrics.clone(),
            _active: metrics.active(),
            counted: Counted::default(),
        }
    }

    /// The request's id, as a header carries it.
    pub(crate) fn id(&self) -> HeaderValue {
        HeaderValue::from_str(&self.id.to_string()).expect("hex digits and dashes")
    }

    pub(crate) fn identified(&mut self, caller: &Caller) {
        if let Caller::HubUser(user) = caller {
            self.user = Some(Arc::clone(user));
        }
    }

    pub(crate) fn addressed(&mut self, cluster: &ClusterName) {
        self.cluster = Some(cluster.clone());
    }

    /// The request counts against limits for as long as this is kept.
    pub(crate) fn counted(&mut self, counted: Counted) {
        self.counted = counted;
    }

    /// Why the answer is one of ours.
    pub(crate) fn failed(&mut self, error: &dyn std::error::Error) {
        self.cause = Some(with_sources(error));
    }

    /// The client is about to be told this.
    pub(crate) fn answered(&mut self, code: StatusCode) {
        self.code = Some(code);
        self.metrics.answered(self.code);
    }

    /// An upgraded connection has ended; `moved` has the bytes to the server and to the client.
    pub(crate) fn relayed(mut self, moved: std::io::Result<(u64, u64)>) {
        match moved {
            Ok((_, to_client)) => {
                self.bytes = to_client;
                self.end = End::Whole;
            }
            Err(error) => {
                self.end = End::Cut;
                self.failed(&error);
            }
        }
    }

    /// The answer has no content to wait for.
    pub(crate) fn over(mut self) {
        self.end = End::Whole;
    }
}

impl Report for Access {
    fn finished(mut self, bytes: u64, end: End) {
        self.bytes = bytes;
        self.end = end;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if self.code.is_none() {
            self.metrics.answered(None);
        }
        tracing::info!(
            target: "access",
            request_id = %self.id,
            client = %self.client,
            user = self.user.as_deref().map_or("-", |user| user.name.as_str()),
            cluster = self.cluster.as_ref().map_or("-", ClusterName::as_str),
            method = self.method.as_str(),
            path = self.path,
            code = self.code.map(|code| code.as_u16()),
            bytes_to_client = self.bytes,
            milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            end = self.end.as_str(),
            cause = self.cause,
            "request"
        );
    }
}

/// What a line of a log takes; paths of Kubernetes are far shorter, the HTTP parser's limit is not.
const MAX_PATH_CHARS: usize = 1024;
