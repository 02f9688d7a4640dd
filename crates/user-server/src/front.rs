//! One request, from its head to its answer's.

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_authentication::AccessReviewer;
use cluster_proxy_forward::server::{Client, Front};
use cluster_proxy_forward::{Body, Class, ClientUpgrade, HandOn, HandedOn, Metered, target};
use cluster_proxy_identity::tls::ServerTls;
use cluster_proxy_kube_api::headers::AUDIT_ID;
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_runtime::drain::Drain;
use http::{Method, Request, Response, StatusCode, Uri};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use crate::access::Access;
use crate::address::Address;
use crate::caller::{Caller, Gate};
use crate::clusters::{Clusters, Towards};
use crate::limits::Limiter;
use crate::metrics::Metrics;
use crate::outgoing::{Departure, OutgoingError};
use crate::services::{Reached, Services};
use crate::{authorization, cookies, failure, outgoing};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct HubFront {
    pub(crate) tls: ServerTls,
    pub(crate) gate: Gate,
    /// Who says whether a user may use a cluster; absent where nobody is asked.
    pub(crate) access: Option<AccessReviewer>,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) services: Services,
    pub(crate) confine_cookies: bool,
    pub(crate) limiter: Limiter,
    pub(crate) head_timeout: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
}

impl Front for HubFront {
    /// Users show tokens, not certificates.
    type Peer = ();
    type Content = Metered<Access>;

    fn tls_config(&self) -> Arc<ServerConfig> {
        self.tls.config()
    }

    fn identify(&self, _: Option<&[CertificateDer<'_>]>) {}

    async fn answer(
        &self,
        request: Request<Body>,
        client: &Arc<Client<()>>,
    ) -> Response<Metered<Access>> {
        let mut access = Access::new(&request, client.address, &self.metrics);
        let is_head = request.method() == Method::HEAD;
        match self.hand_on(request, client, &mut access).await {
            Ok(handed_on) => self.deliver(handed_on, access),
            Err(reply) => refuse(reply, is_head, access),
        }
    }
}

impl HubFront {
    /// The order of these steps is the order in which a caller may learn things.
    async fn hand_on(
        &self,
        mut request: Request<Body>,
        client: &Client<()>,
        access: &mut Access,
    ) -> Result<HandedOn, StatusReply> {
        let parsed = Address::parse(request.uri());
        let caller = match &parsed {
            Ok(address) if self.services.is_anonymous(address) => Caller::Stranger,
            _ => self.identify_caller(&request, access).await?,
        };
        let address = parsed.map_err(|error| {
            access.failed(&error);
            error.reply()
        })?;
        access.addressed(&address.cluster);
        let ip = client.address.ip();
        let counted = self
            .limiter
            .admit(&caller, ip, &address.cluster)
            .map_err(|over| {
                self.metrics.limited(over.reason());
                access.failed(&over);
                over.reply()
            })?;
        access.counted(counted);
        if let Some(hub) = &self.access {
            let verb = authorization::verb(request.method(), request.headers());
            Box::pin(authorization::authorize(
                hub,
                &caller,
                &address.cluster,
                verb,
            ))
            .await
            .map_err(|error| {
                self.metrics.refused(error.reason());
                access.failed(&error);
                error.reply()
            })?;
        }
        let Reached {
            target,
            passes_authorization,
        } = self.services.reach(&address, &caller).map_err(|error| {
            self.metrics.service_refused(error.reason());
            access.failed(&*error);
            error.reply()
        })?;
        let departure = Departure {
            caller: &caller,
            target: &target,
            passes_authorization,
            client: ip,
            request_id: &access.id(),
        };
        let host = target::client_authority(&request);
        let asked = outgoing::rewrite(request.headers_mut(), departure).map_err(|error| {
            access.failed(&error);
            match error {
                OutgoingError::HiddenImpersonation => StatusReply::bad_request(error.to_string()),
                OutgoingError::Unspeakable(_) => StatusReply::internal_error(error.to_string()),
            }
        })?;
        let upgrade = ClientUpgrade::of(&mut request, &asked);
        let class = address.class(request.headers());
        let towards = if target.is_kube_apiserver() {
            *request.uri_mut() = Uri::from(address.target);
            Towards::KubeApiserver
        } else {
            // A page's WebSocket is checked against the host that the page came from.
            *request.uri_mut() = target::with_authority(address.target, host);
            Towards::Services
        };
        let how = HandOn {
            class,
            // A watch may have nothing to say for long; its connection's keepalive finds out when
            // nobody is there any more.
            head_timeout: (class == Class::Short).then_some(self.head_timeout),
            upgrade,
        };
        let pool = self
            .clusters
            .pool(&address.cluster, towards)
            .map_err(|error| {
                access.failed(&error);
                StatusReply::service_unavailable(error.to_string(), Some(RETRY_AFTER_SECONDS))
            })?;
        let mut handed_on = Box::pin(pool.hand_on(request, how))
            .await
            .map_err(|error| {
                access.failed(&error);
                failure::reply_to(&error, &address.cluster, &caller)
            })?;
        if target.is_kube_apiserver() && handed_on.response.status() == StatusCode::UNAUTHORIZED {
            return Err(failure::not_accepted_there(&address.cluster, &caller));
        }
        if self.confine_cookies {
            cookies::confine(handed_on.response.headers_mut(), &address.prefix);
        }
        Ok(handed_on)
    }

    async fn identify_caller(
        &self,
        request: &Request<Body>,
        access: &mut Access,
    ) -> Result<Caller, StatusReply> {
        match Box::pin(self.gate.identify(request.headers())).await {
            Ok(caller) => {
                self.metrics.authenticated(caller.kind());
                access.identified(&caller);
                Ok(caller)
            }
            Err(error) => {
                self.metrics.authenticated(error.reason());
                access.failed(&error);
                Err(error.reply())
            }
        }
    }

    fn deliver(&self, handed_on: HandedOn, mut access: Access) -> Response<Metered<Access>> {
        let HandedOn {
            mut response,
            relay,
        } = handed_on;
        access.answered(response.status());
        response.headers_mut().insert(AUDIT_ID, access.id());
        match relay {
            None => response.map(|body| Metered::new(body, access)),
            Some(relay) => {
                let drain = self.drain.clone();
                self.drain.spawn(async move {
                    let moved = relay.run(&drain).await;
                    access.relayed(moved);
                });
                response.map(Metered::unreported)
            }
        }
    }
}

fn refuse(reply: StatusReply, is_head: bool, mut access: Access) -> Response<Metered<Access>> {
    let response: Response<Vec<u8>> = reply.into_response();
    access.answered(response.status());
    let mut response = response.map(Body::full);
    response.headers_mut().insert(AUDIT_ID, access.id());
    if is_head {
        // Its content is never read, which is not the client's going away.
        access.over();
        return response.map(Metered::unreported);
    }
    response.map(|body| Metered::new(body, access))
}

/// Until some of very many requests are over.
const RETRY_AFTER_SECONDS: u32 = 1;
