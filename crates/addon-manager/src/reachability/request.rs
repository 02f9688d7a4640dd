//! One request through the tunnel to one cluster, without credentials.
//!
//! The way is a user's: a CONNECT stream of the proxy-server, the agent's lane, TLS to the far
//! end. A service-proxy answers 401 and a kube-apiserver whatever its settings say: that there is
//! an answer is what counts.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_identity::tls::{ClientTls, TlsError};
use cluster_proxy_identity::{ClusterName, TunnelHost};
use cluster_proxy_tunnel::dialer::Connection;
use cluster_proxy_tunnel::{DialError, Dialer, Target, TargetError, tls};
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Who is asked in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    /// Its service-proxy, which proves to be that cluster's.
    ServiceProxy,
    /// Its kube-apiserver, where no service-proxy runs. Its CA is not known on the hub: that it is
    /// this cluster's, the agent's certificate says.
    KubeApiserver,
}

/// Why no answer came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The tunnel does not lead there.
    #[error("{0}")]
    Tunnel(#[from] DialError),
    /// Somebody is there who did not prove to be that cluster's service-proxy.
    #[error("{}: {source}", tls::explain(source))]
    Certificate {
        /// What the handshake said.
        source: io::Error,
    },
    /// The handshake did not come to an end.
    #[error("the TLS handshake failed: {source}")]
    Handshake {
        /// What befell it.
        source: io::Error,
    },
    /// The request was not answered.
    #[error("the connection ended before the answer: {0}")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("{step}: nothing within {} s", DEADLINE.as_secs())]
    TimedOut {
        /// What was waited for.
        step: &'static str,
    },
    /// A cluster's name that no host can have.
    #[error("{0}")]
    Name(#[from] TargetError),
}

/// Asks clusters through one dialer.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    dialer: Arc<dyn Dialer>,
    service_proxy: ClientTls,
    kube_apiserver: ClientTls,
}

impl Requests {
    /// `ca` (PEM) is what service-proxies prove themselves by.
    ///
    /// # Errors
    /// When `ca` holds no certificate.
    pub(crate) fn new(dialer: Arc<dyn Dialer>, ca: &str) -> Result<Self, TlsError> {
        let alpn = vec![b"http/1.1".to_vec()];
        Ok(Self {
            dialer,
            // Without a certificate: the manager has no say about users.
            service_proxy: ClientTls::from_pem(ca.as_bytes(), None, alpn.clone())?,
            kube_apiserver: ClientTls::without_verification(alpn),
        })
    }

    /// Asks, and gives how long the answer took once there was a connection.
    ///
    /// # Errors
    /// Why there was no answer, after [`DEADLINE`] at the latest.
    pub(crate) async fn ask(
        &self,
        cluster: &ClusterName,
        asked: Asked,
    ) -> Result<Duration, RequestError> {
        let deadline = Instant::now() + DEADLINE;
        let (target, name, tls) = match asked {
            Asked::ServiceProxy => {
                let host = TunnelHost::of(cluster);
                let target = Target::service_proxy(&host);
                (target, host.as_str().to_owned(), &self.service_proxy)
            }
            Asked::KubeApiserver => {
                let target = Target::new(cluster.as_str(), KUBE_APISERVER_PORT)?;
                let name = KUBE_APISERVER_NAME.to_owned();
                (target, name, &self.kube_apiserver)
            }
        };
        let late = |step| move |_| RequestError::TimedOut { step };
        let tunnel = self.dialer.dial(&target);
        let io = timeout_at(deadline, tunnel)
            .await
            .map_err(late("the tunnel"))??;
        let secured = timeout_at(deadline, shake_hands(tls, &name, io));
        let io = secured.await.map_err(late("the TLS handshake"))??;
        let exchanged = timeout_at(deadline, exchange(io, &name));
        exchanged.await.map_err(late("the answer"))?
    }
}

async fn shake_hands(
    tls: &ClientTls,
    name: &str,
    io: Box<dyn Connection>,
) -> Result<TlsStream<Box<dyn Connection>>, RequestError> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| TargetError::Host)?;
    let shaken = TlsConnector::from(tls.config()).connect(name, io).await;
    shaken.map_err(|source| {
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => RequestError::Certificate { source },
            _ => RequestError::Handshake { source },
        }
    })
}

async fn exchange(
    io: TlsStream<Box<dyn Connection>>,
    host: &str,
) -> Result<Duration, RequestError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await?;
    let request = Request::get(PATH)
        .header(HOST, host)
        .header(USER_AGENT, "cluster-proxy-manager")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a host name can stand in a header");
    let begun = Instant::now();
    let mut answer = pin!(sender.send_request(request));
    let connection = pin!(connection);
    let answered: Result<Response<Incoming>, _> = tokio::select! {
        biased;
        answered = &mut answer => answered,
        // Whatever ended it, the answer says so.
        _ = connection => answer.await,
    };
    answered?;
    Ok(begun.elapsed())
}

/// For one request, everything included: the tunnel's own limits are below it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(12);

/// What everybody may ask a kube-apiserver.
const PATH: &str = "/livez";

/// Of an answer's head: what it says is of no interest.
const MAX_HEAD: usize = 16 * 1024;

/// Where the Service of the cluster's name, an alias of its kube-apiserver's, listens.
const KUBE_APISERVER_PORT: u16 = 443;

/// What a kube-apiserver's certificate is always valid for; some tell by it what is asked for.
const KUBE_APISERVER_NAME: &str = "kubernetes.default.svc";

#[cfg(test)]
mod tests;
