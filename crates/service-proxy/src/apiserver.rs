//! This cluster's kube-apiserver, over two pools that never mix.
//!
//! A real kube-apiserver takes the identity of a connection's client certificate before that of a
//! bearer token. So requests that carry somebody's token go over connections that show no
//! certificate, and connections with our own credentials carry impersonated requests only.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_forward::{
    Body, Class, ClientUpgrade, Connect, Dialled, HandOn, HandedOn, Offer, Origin, Pool,
    PoolMetrics, PoolSettings, Protocol, target,
};
use cluster_proxy_identity::Token;
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_kube_client::{ApiEndpoint, ApiSocket, ConnectError, Connection, TokenSource};
use cluster_proxy_runtime::error::with_sources;
use http::uri::PathAndQuery;
use http::{Request, Uri};
use tokio_rustls::client::TlsStream;

use crate::reply::{Refused, reply_to};

/// The way to the kube-apiserver.
#[derive(Debug)]
pub(crate) struct ApiServer {
    own: Pool<Connector>,
    passthrough: Pool<Connector>,
    token: TokenSource,
    path_prefix: String,
    head_timeout: Duration,
}

/// Whose credentials a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Ours: the request impersonates somebody.
    Own,
    /// The client's.
    Clients,
}

impl ApiServer {
    pub(crate) fn new(
        connection: &Connection,
        settings: &PoolSettings,
        metrics: &PoolMetrics,
        head_timeout: Duration,
    ) -> Result<Self, http::Error> {
        let endpoint = connection.endpoint();
        let origin = Origin::https(endpoint.authority())?;
        let pool = |with_identity: bool| {
            let connector = Connector {
                endpoint: Arc::clone(endpoint),
                with_identity,
            };
            let mut settings = settings.clone();
            // A client certificate is checked at each request; a kept connection shows the one it
            // was made with.
            settings.max_age =
                (with_identity && endpoint.has_client_certificate()).then_some(CERTIFICATE_REFRESH);
            Pool::new(connector, origin.clone(), settings, metrics.clone())
        };
        Ok(Self {
            own: pool(true),
            passthrough: pool(false),
            token: connection.token().clone(),
            path_prefix: endpoint.path_prefix().to_owned(),
            head_timeout,
        })
    }

    /// Our own token, if we have one; a client certificate may stand in its place.
    pub(crate) fn own_token(&self) -> Option<Token> {
        self.token.current()
    }

    /// Hands `request` on. Its identity headers are final.
    pub(crate) async fn hand_on(
        &self,
        mut request: Request<Body>,
        credentials: Credentials,
        upgrade: Option<ClientUpgrade>,
    ) -> Result<HandedOn, Refused> {
        let target = self.target(request.uri())?;
        let class = class_of(&target);
        *request.uri_mut() = Uri::from(target);
        let how = HandOn {
            class,
            head_timeout: (class == Class::Short).then_some(self.head_timeout),
            upgrade,
        };
        let pool = match credentials {
            Credentials::Own => &self.own,
            Credentials::Clients => &self.passthrough,
        };
        pool.hand_on(request, how).await.map_err(|error| {
            tracing::info!(reason = error.reason(), cause = %with_sources(&error), "kube-apiserver");
            reply_to(&error).into()
        })
    }

    /// The bytes that came, behind the prefix that the kube-apiserver's own URL has, if any.
    fn target(&self, uri: &Uri) -> Result<PathAndQuery, Refused> {
        let Some(target) = uri.path_and_query() else {
            return Err(StatusReply::bad_request("the request has no path").into());
        };
        if self.path_prefix.is_empty() {
            return Ok(target.clone());
        }
        target::from_rest(&format!("{}{target}", self.path_prefix))
            .map_err(|_| StatusReply::bad_request("the path cannot be handed on").into())
    }
}

/// Watches and followed logs stay open; everything else is answered and over.
pub(crate) fn class_of(target: &PathAndQuery) -> Class {
    let long = target::query_flag(target, "watch") || target::query_flag(target, "follow");
    if long { Class::Long } else { Class::Short }
}

/// Dials the kube-apiserver, with our client certificate or without.
#[derive(Debug)]
struct Connector {
    endpoint: Arc<ApiEndpoint>,
    with_identity: bool,
}

impl Connect for Connector {
    type Io = TlsStream<ApiSocket>;
    type Error = ConnectError;

    async fn connect(&self, offer: Offer) -> Result<Dialled<Self::Io>, ConnectError> {
        let io = self
            .endpoint
            .connect(self.with_identity, offer.alpn())
            .await?;
        let protocol = Protocol::negotiated(io.get_ref().1.alpn_protocol());
        Ok(Dialled { io, protocol })
    }
}

/// How long a connection may show the client certificate that it was made with.
const CERTIFICATE_REFRESH: Duration = Duration::from_secs(600);
