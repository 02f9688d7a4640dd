//! From a request to its answer: who is it, as whom, may it, and then the handler of its path.

mod body;
mod logs;
mod objects;
mod paths;
mod tokens;
mod watch;

use std::sync::Arc;

use cluster_proxy_identity::User;
use cluster_proxy_kube_api::headers::AUDIT_ID;
use http::header::HeaderValue;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use tokio_rustls::rustls::pki_types::CertificateDer;
use uuid::Uuid;

pub(crate) use tokens::issue as issue_token;

use body::RequestBody;

use crate::answer::{self, Body, Style};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::impersonation;
use crate::query::Query;
use crate::rbac::{self, Attributes, Target};
use crate::request::RequestInfo;

/// A request that may go on, with what everybody after needs of it.
pub(crate) struct Admitted<'a> {
    pub(crate) cluster: &'a Arc<Cluster>,
    pub(crate) head: &'a Parts,
    pub(crate) query: &'a Query,
    pub(crate) info: &'a RequestInfo,
    pub(crate) user: User,
    pub(crate) style: Style,
}

/// Answers one request.
pub(crate) async fn handle(
    cluster: Arc<Cluster>,
    certificate: Option<Arc<CertificateDer<'static>>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let style = Style::of(&query, &head.headers);
    let mut body = RequestBody::new(body);
    let answered = route(
        &cluster,
        certificate.as_deref(),
        &head,
        &query,
        style,
        &mut body,
    )
    .await;
    body.drain(&head.headers).await;
    let mut response = answered.unwrap_or_else(|refused| answer::failure(&refused, style));
    let audit_id = head.headers.get(AUDIT_ID).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a uuid is plain text")
    });
    response.headers_mut().insert(AUDIT_ID, audit_id);
    if head.method == Method::HEAD {
        *response.body_mut() = Empty::new().boxed_unsync();
    }
    response
}

async fn route(
    cluster: &Arc<Cluster>,
    certificate: Option<&CertificateDer<'static>>,
    head: &Parts,
    query: &Query,
    style: Style,
    body: &mut RequestBody,
) -> Result<Response<Body>, Failure> {
    let info = RequestInfo::parse(&head.method, head.uri.path(), query)?;
    let user = admit(cluster, certificate, head, &info)?;
    let request = Admitted {
        cluster,
        head,
        query,
        info: &info,
        user,
        style,
    };
    match &info.resource {
        None => paths::answer(&request),
        Some(path) => objects::answer(&request, path, body).await,
    }
}

/// Who a request acts as, if it may do what it asks for.
fn admit(
    cluster: &Cluster,
    certificate: Option<&CertificateDer<'static>>,
    head: &Parts,
    info: &RequestInfo,
) -> Result<User, Failure> {
    cluster.store.read(|view| {
        let sender = cluster
            .authenticator
            .request(view, certificate, &head.headers)?;
        let user = impersonation::acting(view, sender, &head.headers)?;
        let target = info
            .resource
            .as_ref()
            .map_or(Target::Path(&info.path), |it| Target::Resource {
                group: &it.group,
                resource: &it.resource,
                subresource: &it.subresource,
                namespace: &it.namespace,
                name: &it.name,
            });
        let attributes = Attributes {
            user: &user,
            verb: &info.verb,
            target,
        };
        let decision = rbac::authorize(view, &attributes);
        if decision.allowed {
            Ok(user)
        } else {
            Err(rbac::denial(&attributes, &decision))
        }
    })
}
