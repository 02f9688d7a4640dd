//! The PortForward entrypoint: what the proxy-agent dials on the loopback address is carried to a
//! proxy-server's pod through the hub's kube-apiserver.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_proxy_kube_client::{Connection, FollowedKubeconfig};
use cluster_proxy_runtime::drain::Drain;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::config::PortForwardConfig;
use crate::metrics::Metrics;
use crate::pod_socket::{self, OpenError, PodSocket};
use crate::pods::{Entered, Load, POD_SELECTOR, ready_names};
use crate::relay::{self, Carried, RelayError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Entrypoint {
    listener: TcpListener,
    hub: FollowedKubeconfig,
    namespace: String,
    port: u16,
    load: Load,
    metrics: Metrics,
    /// What was logged last, so that a hub that is away is one line and not one a second.
    trouble: Mutex<Option<String>>,
}

impl Entrypoint {
    pub(crate) fn new(config: PortForwardConfig, metrics: Metrics) -> Self {
        let PortForwardConfig {
            listener,
            hub,
            namespace,
            port,
        } = config;
        Self {
            listener,
            hub,
            namespace,
            port,
            load: Load::default(),
            metrics,
            trouble: Mutex::default(),
        }
    }

    /// Takes connections until `drain` closes; each has a task of its own.
    pub(crate) async fn run(self: Arc<Self>, drain: Drain) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = drain.closing() => return,
                accepted = self.accept(&places) => accepted,
            };
            let (local, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.note_trouble(format!("cannot accept connections: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (this, ended) = (Arc::clone(&self), drain.clone());
            drain.spawn(async move {
                tokio::select! {
                    () = Box::pin(this.serve(local)) => {}
                    () = ended.ended() => {}
                }
                drop(place);
            });
        }
    }

    /// The next connection, once there is a place for it; until then it waits in the backlog.
    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = Arc::clone(places)
            .acquire_owned()
            .await
            .map_err(std::io::Error::other)?;
        let (local, _) = self.listener.accept().await?;
        Ok((local, place))
    }

    async fn serve(&self, local: TcpStream) {
        // Whatever drops this connection before its clean end must not look like one.
        relay::reset_when_dropped(&local);
        let _ = local.set_nodelay(true);
        let (pod, socket, _entered) = match self.open().await {
            Ok(opened) => opened,
            Err(error) => {
                self.metrics.forward(error.reason());
                self.note_trouble(format!("no connection to a proxy-server: {error}"));
                return;
            }
        };
        let carried = Carried {
            to_pod: self.metrics.bytes_to_pod(),
            from_pod: self.metrics.bytes_from_pod(),
        };
        let _active = self.metrics.active();
        tracing::info!(
            pod,
            "connected to a proxy-server through the hub's kube-apiserver"
        );
        match Box::pin(relay::run(local, socket, self.port, &carried)).await {
            Ok(()) => {
                self.metrics.forward("closed");
                self.forget_trouble();
                tracing::info!(pod, "the connection to a proxy-server ended");
            }
            Err(error @ RelayError::Local { .. }) => {
                self.metrics.forward(error.reason());
                tracing::info!(pod, "{error}");
            }
            Err(error) => {
                self.metrics.forward(error.reason());
                self.note_trouble(format!("the connection to {pod} ended: {error}"));
            }
        }
    }

    /// Tries the pods one after the other until one answers.
    async fn open(&self) -> Result<(String, PodSocket, Entered), ForwardError> {
        let hub = self.hub.connection();
        let pods = self.pods(&hub).await?;
        let mut last = None;
        for pod in self.load.order(pods).into_iter().take(MAX_PODS_TRIED) {
            // Counted before it is open, so that connections that open together spread too.
            let entered = self.load.enter(&pod);
            match pod_socket::open(&hub, &self.namespace, &pod, self.port).await {
                Ok(socket) => return Ok((pod, socket, entered)),
                Err(cause) => last = Some(ForwardError::Open { pod, cause }),
            }
        }
        Err(last.unwrap_or_else(|| ForwardError::NoPod {
            namespace: self.namespace.clone(),
        }))
    }

    async fn pods(&self, hub: &Connection) -> Result<Vec<String>, ForwardError> {
        let api = Api::<Pod>::namespaced(hub.client(), &self.namespace);
        let parameters = ListParams::default().labels(POD_SELECTOR).limit(MAX_PODS);
        let list = within(api.list(&parameters)).await?;
        Ok(ready_names(list.items))
    }

    fn note_trouble(&self, text: String) {
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&text) {
            tracing::warn!(namespace = self.namespace, "{text}");
            *last = Some(text);
        }
    }

    fn forget_trouble(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ForwardError> {
    match timeout(LIST_LIMIT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(cause)) => Err(ForwardError::List {
            cause: Box::new(cause),
        }),
        Err(_) => Err(ForwardError::ListTimedOut),
    }
}

/// Why a connection was not carried anywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// The pods cannot be listed.
    #[error("the proxy-servers' pods cannot be listed on the hub: {cause}")]
    List {
        /// What came of it.
        cause: Box<kube::Error>,
    },
    /// The kube-apiserver did not answer.
    #[error(
        "the proxy-servers' pods cannot be listed: the hub's kube-apiserver did not answer within \
         {} s",
        LIST_LIMIT.as_secs()
    )]
    ListTimedOut,
    /// There is nobody to connect to.
    #[error("no pod with the label {POD_SELECTOR} is ready in the hub's namespace {namespace}")]
    NoPod {
        /// Where was looked.
        namespace: String,
    },
    /// No pod could be reached; the last one that was tried.
    #[error("pod {pod}: {cause}")]
    Open {
        /// The pod.
        pod: String,
        /// Why not.
        cause: OpenError,
    },
}

impl ForwardError {
    /// A label for metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::List { .. } | Self::ListTimedOut => "list_failed",
            Self::NoPod { .. } => "no_pod",
            Self::Open { .. } => "open_failed",
        }
    }
}

/// A proxy-agent keeps at most sixteen lanes to a server, and there are rarely more than a few
/// servers; whoever else finds this port gets no further.
const MAX_CONNECTIONS: usize = 64;

/// Out of descriptors, accepting again at once would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// More pods that cannot be reached at the same time mean that it is not the pods.
const MAX_PODS_TRIED: usize = 3;

/// More proxy-servers than any hub runs, in one page.
const MAX_PODS: u32 = 100;

/// Bounds one list of at most [`MAX_PODS`] objects.
const LIST_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
