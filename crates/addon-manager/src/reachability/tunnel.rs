//! The manager as a client of the tunnel: where the proxy-server is, and with which certificate it
//! comes.
//!
//! The certificate is a `proxy-client` one that the manager issues itself, in memory: it has the
//! CA's key anyway, and so needs to read no Secret for it. It opens tunnels and states no user.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_identity::ca::{CaError, CertificateAuthority, Leaf};
use cluster_proxy_identity::tls::{ClientTls, TlsError};
use cluster_proxy_tunnel::{DialerConfig, DialerMetrics, ProxyServerDialer, Target, TargetError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::request::{Asked, RequestError, Requests};
use crate::certificate_authority::CaHandle;
use crate::deployment_config::configuration;
use crate::render::SERVICE_PROXY_PORT;

/// Asks clusters. The seam for tests.
pub(super) trait Ask: Send + Sync {
    /// Asks one cluster, and gives the round-trip time of its answer.
    fn ask<'a>(
        &'a self,
        cluster: &'a ClusterName,
        asked: Asked,
    ) -> BoxFuture<'a, Result<Duration, AskError>>;
}

/// Why nobody was reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// There is no CA or no configuration yet: nobody was asked, and nothing is known.
    #[error("{0}")]
    NotReady(String),
    /// There was no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// The way through the proxy-server of the configuration.
pub(super) struct Tunnel {
    client: kube::Client,
    ca: CaHandle,
    metrics: DialerMetrics,
    server: tokio::sync::Mutex<Known>,
    made: Mutex<Option<Made>>,
}

/// Where the proxy-server is, and until when that need not be read again.
#[derive(Default)]
struct Known {
    server: Option<Target>,
    /// Why it is not known, where it is not.
    cause: String,
    until: Option<Instant>,
}

struct Made {
    server: Target,
    ca: Arc<CertificateAuthority>,
    renew_at: Instant,
    requests: Requests,
}

impl Tunnel {
    pub(super) fn new(client: kube::Client, ca: CaHandle, metrics: DialerMetrics) -> Self {
        Self {
            client,
            ca,
            metrics,
            server: tokio::sync::Mutex::default(),
            made: Mutex::default(),
        }
    }

    /// A way to a proxy-server that no configuration has to name.
    #[cfg(test)]
    pub(super) fn to(client: kube::Client, ca: CaHandle, server: Target) -> Self {
        let tunnel = Self::new(client, ca, DialerMetrics::default());
        let never = Instant::now() + Duration::from_hours(24);
        Self {
            server: tokio::sync::Mutex::new(Known {
                server: Some(server),
                until: Some(never),
                ..Known::default()
            }),
            ..tunnel
        }
    }

    /// The proxy-server's Service, as the configuration has it; read anew from time to time.
    async fn server(&self) -> Result<Target, AskError> {
        // Who waits here waits for the one read that all share.
        let mut known = self.server.lock().await;
        let now = Instant::now();
        if known.until.is_none_or(|until| until <= now) {
            match self.read_server().await {
                Ok(server) => {
                    known.server = Some(server);
                    known.until = Some(now + REREAD);
                }
                Err(failure) => {
                    // What was known stays as good as it was, unless it is known to be gone.
                    if !failure.may_pass {
                        known.server = None;
                    }
                    known.cause = failure.cause;
                    known.until = Some(now + RETRY);
                }
            }
        }
        let server = known.server.clone();
        server.ok_or_else(|| AskError::NotReady(known.cause.clone()))
    }

    async fn read_server(&self) -> Result<Target, ReadFailure> {
        let read = timeout(READ_LIMIT, configuration(&self.client)).await;
        let failure = |may_pass, cause: String| ReadFailure { may_pass, cause };
        let configuration = match read {
            Ok(Ok(Some(configuration))) => configuration,
            Ok(Ok(None)) => return Err(failure(false, "there is no configuration".to_owned())),
            Ok(Err(problem)) => return Err(failure(true, problem.to_string())),
            Err(_) => return Err(failure(true, "the hub does not answer in time".to_owned())),
        };
        let server = &configuration.spec.proxy_server;
        let host = format!("{}.{}", server.in_cluster_service_name, server.namespace);
        Target::new(&host, SERVICE_PROXY_PORT)
            .map_err(|error| failure(false, format!("proxy-server {host:?}: {error}")))
    }

    async fn requests(&self) -> Result<Requests, AskError> {
        let ca = self.ca.current();
        let ca = ca.ok_or_else(|| AskError::NotReady("there is no CA yet".to_owned()))?;
        let server = self.server().await?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made
            && made.server == server
            && made.ca.cert_pem() == ca.cert_pem()
            && Instant::now() < made.renew_at
        {
            return Ok(made.requests.clone());
        }
        let requests = self
            .make(&server, &ca)
            .map_err(|error| AskError::NotReady(error.to_string()))?;
        *made = Some(Made {
            server,
            ca,
            renew_at: Instant::now() + VALIDITY / 2,
            requests: requests.clone(),
        });
        Ok(requests)
    }

    fn make(&self, server: &Target, ca: &CertificateAuthority) -> Result<Requests, MakeError> {
        let issued = ca.issue(&Leaf::proxy_client().valid_for(VALIDITY))?;
        let pair = (issued.cert_pem.as_bytes(), issued.key_pem.as_bytes());
        let tls = ClientTls::from_pem(ca.cert_pem().as_bytes(), Some(pair), Vec::new())?;
        let config = DialerConfig {
            deadline: DIAL_LIMIT,
            ..DialerConfig::new(server.clone(), tls)
        };
        let dialer = ProxyServerDialer::new(config, self.metrics.clone())?;
        Ok(Requests::new(Arc::new(dialer), ca.cert_pem())?)
    }
}

impl Ask for Tunnel {
    fn ask<'a>(
        &'a self,
        cluster: &'a ClusterName,
        asked: Asked,
    ) -> BoxFuture<'a, Result<Duration, AskError>> {
        let answer = async move {
            let requests = self.requests().await?;
            Ok(requests.ask(cluster, asked).await?)
        };
        answer.boxed()
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Issue(#[from] CaError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the proxy-server's address: {0}")]
    Address(#[from] TargetError),
}

struct ReadFailure {
    /// Whether the next read may well tell what the one before did.
    may_pass: bool,
    cause: String,
}

/// Of the certificate; it is made anew at half of it.
const VALIDITY: Duration = Duration::from_hours(24);

/// A proxy-server whose Service was renamed is found under its new name after this.
const REREAD: Duration = Duration::from_mins(1);

/// Between two reads that failed.
const RETRY: Duration = Duration::from_secs(5);

/// One read of one object.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Less than a request has in all, so that the tunnel's own account of what it waited for is told.
const DIAL_LIMIT: Duration = Duration::from_secs(8);
