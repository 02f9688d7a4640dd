//! One request, from the tunnel to the kube-apiserver or a Service.

use std::sync::Arc;

use cluster_proxy_forward::headers::{
    HopRequest, remove_hop_by_hop, remove_tokens, set_te_trailers,
};
use cluster_proxy_forward::server::{Client, Front, ServerSettings, serve};
use cluster_proxy_forward::{Body, ClientUpgrade, End, HandedOn, Metered, Report};
use cluster_proxy_identity::tls::ServerTls;
use cluster_proxy_identity::{PeerIdentity, User, strip_remote_headers};
use cluster_proxy_kube_api::headers::{AUDIT_ID, is_impersonate_header, is_websocket_bearer};
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_runtime::drain::Drain;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::access::Access;
use crate::apiserver::{ApiServer, Credentials};
use crate::config::Config;
use crate::decision::{Authenticator, Identity, refused};
use crate::metrics::ServiceProxyMetrics;
use crate::reply::Refused;
use crate::services::Services;
use crate::target;

/// The managed cluster's front: give it a listener and it answers.
#[derive(Debug)]
pub struct ServiceProxy {
    handler: Arc<Handler>,
    server: ServerSettings,
}

impl ServiceProxy {
    /// A service-proxy that works as `config` says and ends with `drain`.
    ///
    /// # Errors
    /// When the kube-apiserver's address cannot stand in a request.
    pub fn new(
        config: &Config,
        metrics: ServiceProxyMetrics,
        drain: Drain,
    ) -> Result<Self, http::Error> {
        let apiserver = ApiServer::new(
            &config.managed,
            &config.pool,
            &metrics.apiserver,
            config.head_timeout,
        )?;
        let handler = Arc::new(Handler {
            tls: config.tls.clone(),
            authenticator: Authenticator::new(config, metrics.clone(), &drain),
            apiserver,
            services: Services::new(config, &metrics.services),
            metrics,
            drain,
        });
        let upkeep = Arc::clone(&handler);
        let drain = handler.drain.clone();
        drain.spawn_until_ended(async move { upkeep.services.keep_tidy().await });
        Ok(Self {
            handler,
            server: config.server.clone(),
        })
    }

    /// Answers connections of `listener` until the drain closes.
    pub async fn run(self, listener: TcpListener) {
        let (metrics, drain) = (
            self.handler.metrics.server.clone(),
            self.handler.drain.clone(),
        );
        serve(listener, self.handler, self.server, metrics, drain).await;
    }
}

#[derive(Debug)]
struct Handler {
    tls: ServerTls,
    authenticator: Authenticator,
    apiserver: ApiServer,
    services: Services,
    metrics: ServiceProxyMetrics,
    drain: Drain,
}

impl Handler {
    async fn handle(
        &self,
        mut request: Request<Body>,
        peer: &PeerIdentity,
        access: &mut Access,
    ) -> Result<HandedOn, Refused> {
        let headers = request.headers_mut();
        let asked = take_hop_by_hop(headers)?;
        let stated = stated_user(headers, peer)?;
        let target =
            target::take(headers).map_err(|error| StatusReply::bad_request(error.to_string()))?;
        if !target.is_kube_apiserver() {
            let upgrade = ClientUpgrade::of(&mut request, &asked);
            if asked.trailers {
                set_te_trailers(request.headers_mut());
            }
            access.sent_to_service(&target);
            return self.services.hand_on(&target, request, upgrade).await;
        }
        let impersonates = headers.keys().any(is_impersonate_header);
        let identity = match &stated {
            Some(user) if impersonates => {
                let headers = request.headers();
                Box::pin(self.authenticator.of_acting_user(user, headers)).await?
            }
            Some(user) => self.authenticator.of_stated_user(user)?,
            None => self.authenticator.of_token(headers, impersonates).await?,
        };
        let upgrade = ClientUpgrade::of(&mut request, &asked);
        let headers = request.headers_mut();
        if asked.trailers {
            set_te_trailers(headers);
        }
        match identity {
            Identity::Token => {
                access.sent_as(None);
                self.apiserver
                    .hand_on(request, Credentials::Clients, upgrade)
                    .await
            }
            Identity::Impersonated(user) => {
                remove_tokens(headers, &SEC_WEBSOCKET_PROTOCOL, is_websocket_bearer);
                // Last, so that nothing of the client can follow it.
                user.set(self.apiserver.own_token().as_ref(), headers)
                    .map_err(|refusal| refused(&refusal))?;
                access.sent_as(Some(user.user()));
                let answer = self
                    .apiserver
                    .hand_on(request, Credentials::Own, upgrade)
                    .await?;
                if answer.response.status() == StatusCode::UNAUTHORIZED {
                    // Not the client's fault, and no client should throw its token away for it.
                    tracing::error!("the kube-apiserver refuses our own credentials");
                    return Err(StatusReply::bad_gateway(
                        "the managed cluster's kube-apiserver does not accept the service-proxy's \
                         own credentials",
                    )
                    .into());
                }
                Ok(answer)
            }
        }
    }
}

impl Front for Handler {
    type Peer = PeerIdentity;
    type Content = Metered<Access>;

    fn tls_config(&self) -> Arc<ServerConfig> {
        self.tls.config()
    }

    fn identify(&self, certificates: Option<&[CertificateDer<'_>]>) -> PeerIdentity {
        PeerIdentity::of(certificates)
    }

    async fn answer(
        &self,
        mut request: Request<Body>,
        client: &Arc<Client<PeerIdentity>>,
    ) -> Response<Metered<Access>> {
        let id = request_id(request.headers_mut(), &client.peer);
        let mut access = Access::new(id, request.method(), request.uri(), &self.metrics);
        match self.handle(request, &client.peer, &mut access).await {
            Ok(HandedOn {
                response,
                relay: None,
            }) => {
                access.answered(response.status());
                response.map(|body| Metered::new(body, access))
            }
            Ok(HandedOn {
                response,
                relay: Some(relay),
            }) => {
                access.answered(response.status());
                let drain = self.drain.clone();
                self.drain.spawn(async move {
                    match relay.run(&drain).await {
                        Ok((_, to_client)) => access.finished(to_client, End::Whole),
                        Err(error) => {
                            tracing::debug!(%error, "an upgraded connection broke off");
                            access.finished(0, End::Cut);
                        }
                    }
                });
                response.map(Metered::unreported)
            }
            Err(reply) => {
                access.answered(reply.code());
                reply
                    .into_response::<Vec<u8>>()
                    .map(|text| Metered::new(Body::full(text), access))
            }
        }
    }
}

/// Removes the hop-by-hop fields. A `Connection` header that names an `Impersonate-*` one would turn
/// a request meant for somebody else into one of the caller's own.
fn take_hop_by_hop(headers: &mut HeaderMap) -> Result<HopRequest, Refused> {
    let impersonating = |headers: &HeaderMap| {
        headers
            .keys()
            .filter(|name| is_impersonate_header(name))
            .count()
    };
    let before = impersonating(headers);
    let asked = remove_hop_by_hop(headers);
    if impersonating(headers) != before {
        return Err(
            StatusReply::bad_request("a Connection header names an Impersonate-* header").into(),
        );
    }
    Ok(asked)
}

/// The user that the hub's user-server states; from everybody else such a statement is nothing.
fn stated_user(headers: &mut HeaderMap, peer: &PeerIdentity) -> Result<Option<User>, Refused> {
    let stated = match peer {
        PeerIdentity::UserServer => User::from_remote_headers(headers),
        PeerIdentity::Anonymous | PeerIdentity::Agent(_) | PeerIdentity::Client { .. } => Ok(None),
    };
    strip_remote_headers(headers);
    stated.map_err(|error| StatusReply::bad_request(error.to_string()).into())
}

/// The user-server's request id, or one of our own for who comes without it; the kube-apiserver's
/// audit log names the request by it.
fn request_id(headers: &mut HeaderMap, peer: &PeerIdentity) -> String {
    let given = match peer {
        PeerIdentity::UserServer => headers.get(AUDIT_ID).and_then(|value| value.to_str().ok()),
        PeerIdentity::Anonymous | PeerIdentity::Agent(_) | PeerIdentity::Client { .. } => None,
    };
    if let Some(id) = given {
        return id.to_owned();
    }
    let id = Uuid::new_v4().to_string();
    headers.insert(
        AUDIT_ID,
        HeaderValue::from_str(&id).expect("a UUID is plain ASCII"),
    );
    id
}

#[cfg(test)]
mod tests;
