//! The way to Services: `<service>.<namespace>.svc`, as the cluster's DNS knows it.
//!
//! Which of them may be reached was decided on the hub; through the tunnel they could be dialled
//! without us, too. They get the client's headers and nothing of ours.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cluster_proxy_forward::headers::wants_event_stream;
use cluster_proxy_forward::{
    Body, Class, ClientUpgrade, Connect, Dialled, HandOn, HandedOn, Offer, Origin, Pool,
    PoolMetrics, PoolSettings, Pools, Protocol, target, tls,
};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_identity::{Scheme, ServiceTarget};
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_runtime::error::with_sources;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{Request, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::Config;
use crate::ports::{PortError, Ports};
use crate::reply::{Refused, explain};

/// Kept connections to Services.
#[derive(Debug)]
pub(crate) struct Services {
    tls: ClientTls,
    addresses: HashMap<String, SocketAddr>,
    pools: Pools<Destination, ServiceConnector>,
    ports: Ports,
    settings: PoolSettings,
    metrics: PoolMetrics,
    head_timeout: Duration,
}

/// One port of a Service, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Destination {
    scheme: Scheme,
    host: String,
    port: u16,
    /// HTTP/2 without TLS that would negotiate it: gRPC.
    prior_knowledge: bool,
}

impl Services {
    pub(crate) fn new(config: &Config, metrics: &PoolMetrics) -> Self {
        Self {
            tls: config.services_tls.clone(),
            addresses: config.service_addresses.clone(),
            pools: Pools::new(MAX_POOLS),
            ports: Ports::default(),
            settings: config.pool.clone(),
            metrics: metrics.clone(),
            head_timeout: config.head_timeout,
        }
    }

    /// Lets go of pools that nobody uses, for ever.
    pub(crate) async fn keep_tidy(&self) {
        self.pools.keep_tidy().await;
    }

    /// Hands `request` on to a Service.
    pub(crate) async fn hand_on(
        &self,
        service: &ServiceTarget,
        mut request: Request<Body>,
        upgrade: Option<ClientUpgrade>,
    ) -> Result<HandedOn, Refused> {
        let port = self.ports.number(service).await.map_err(|error| {
            tracing::info!(%service, cause = %error, "a Service's port");
            no_port(&error)
        })?;
        let destination = Destination {
            scheme: service.scheme(),
            host: service.host(),
            port,
            prior_knowledge: service.scheme() == Scheme::Http
                && upgrade.is_none()
                && is_grpc(&request),
        };
        let host = target::client_authority(&request);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() =
            target::with_authority(path.unwrap_or(PathAndQuery::from_static("/")), host);
        let class = if wants_event_stream(request.headers()) {
            Class::Long
        } else {
            Class::Short
        };
        let how = HandOn {
            class,
            head_timeout: (class == Class::Short).then_some(self.head_timeout),
            upgrade,
        };
        let pool = self
            .pools
            .get(&destination, || self.make(&destination))
            .map_err(|error| {
                StatusReply::service_unavailable(error.to_string(), Some(RETRY_AFTER_SECONDS))
            })?;
        pool.hand_on(request, how).await.map_err(|error| {
            tracing::info!(%service, reason = error.reason(), cause = %with_sources(&error), "Service");
            let name = format!("Service {service}");
            explain(&error, &name, |error| unreachable(error, &name)).into()
        })
    }

    fn make(&self, destination: &Destination) -> Pool<ServiceConnector> {
        let authority = format!("{}:{}", destination.host, destination.port);
        let origin = match destination.scheme {
            Scheme::Http => Origin::http(&authority),
            Scheme::Https => Origin::https(&authority),
        };
        let connector = ServiceConnector {
            destination: destination.clone(),
            address: self.addresses.get(&destination.host).copied(),
            tls: self.tls.clone(),
        };
        Pool::new(
            connector,
            origin.expect("labels and a port are an authority"),
            self.settings.clone(),
            self.metrics.clone(),
        )
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Dials one port of a Service.
#[derive(Debug)]
struct ServiceConnector {
    destination: Destination,
    /// Known without the DNS.
    address: Option<SocketAddr>,
    tls: ClientTls,
}

/// Why there is no connection to a Service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceConnectError {
    #[error("the name cannot be resolved")]
    Unresolvable(#[source] io::Error),
    #[error("cannot connect")]
    Unreachable(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

impl Connect for ServiceConnector {
    type Io = Box<dyn Connection>;
    type Error = ServiceConnectError;

    async fn connect(&self, offer: Offer) -> Result<Dialled<Self::Io>, ServiceConnectError> {
        let Destination {
            scheme,
            host,
            port,
            prior_knowledge,
        } = &self.destination;
        let addresses: Vec<_> = match self.address {
            Some(address) => vec![address],
            None => tokio::net::lookup_host((host.as_str(), *port))
                .await
                .map_err(ServiceConnectError::Unresolvable)?
                .collect(),
        };
        let socket = TcpStream::connect(addresses.as_slice())
            .await
            .map_err(ServiceConnectError::Unreachable)?;
        socket
            .set_nodelay(true)
            .map_err(ServiceConnectError::Unreachable)?;
        if *scheme == Scheme::Http {
            let protocol = match (prior_knowledge, offer) {
                (true, Offer::Http2OrHttp1) => Protocol::Http2,
                (false, _) | (true, Offer::Http1) => Protocol::Http1,
            };
            return Ok(Dialled {
                io: Box::new(socket),
                protocol,
            });
        }
        let name = ServerName::try_from(host.clone()).expect("labels and dots are a DNS name");
        let config = self.tls.with_alpn(offer.alpn()).config();
        let Dialled { io, protocol } = tls::connect(config, name, socket)
            .await
            .map_err(ServiceConnectError::Tls)?;
        Ok(Dialled {
            io: Box::new(io),
            protocol,
        })
    }
}

/// With TLS or without.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin> Connection for Io {}

fn no_port(error: &PortError) -> StatusReply {
    match error {
        PortError::Unknown { .. } => StatusReply::not_found(error.to_string()),
        PortError::Several { .. } => StatusReply::bad_request(error.to_string()),
        PortError::Failed { .. } => {
            StatusReply::service_unavailable(error.to_string(), Some(RETRY_AFTER_SECONDS))
        }
    }
}

fn unreachable(error: &ServiceConnectError, name: &str) -> StatusReply {
    match error {
        ServiceConnectError::Unresolvable(_) => StatusReply::not_found(format!(
            "{name} is not there: the managed cluster's DNS does not know it"
        )),
        ServiceConnectError::Unreachable(source) => StatusReply::service_unavailable(
            format!(
                "{name} cannot be reached from the managed cluster's service-proxy: {source}; look \
                 at its endpoints and network policies"
            ),
            None,
        ),
        ServiceConnectError::Tls(source) if speaks_no_tls(source) => StatusReply::bad_gateway(
            format!("{name} speaks no TLS: ask for http:<service>, if that is what it speaks"),
        ),
        ServiceConnectError::Tls(source) => StatusReply::bad_gateway(format!(
            "the TLS handshake between the service-proxy and {name} failed: {source}; it must have \
             a certificate for this name by the cluster's CA or that of --additional-service-ca"
        )),
    }
}

fn speaks_no_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}

/// Clusters have some thousand Services; an unused pool is about a kilobyte.
const MAX_POOLS: usize = 1_000;

/// Overload passes in moments.
const RETRY_AFTER_SECONDS: u32 = 1;
