//! What every role does around its work: the operations listener, TLS files looked at again and
//! again, and an end that drains.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::tls::{ClientTls, ServerTls};
use cluster_proxy_runtime::admin::{Admin, Page};
use cluster_proxy_runtime::drain::{Drain, DrainLimits, drain_on_signal};
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::HostPort;
use cluster_proxy_runtime::listen::listen;
use cluster_proxy_runtime::operations::Operations;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_runtime::tasks;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

/// How often certificate files are looked at. A kubelet takes about a minute to bring a changed
/// Secret, and reading a few files costs nothing.
const TLS_REFRESH: Duration = Duration::from_secs(10);

/// The parts of a process around its role.
#[derive(Debug, Default)]
pub(crate) struct Role {
    pub(crate) drain: Drain,
    pub(crate) readiness: Readiness,
    pub(crate) registry: Registry,
    background: JoinSet<()>,
    admin: Option<AdminPort>,
}

/// Where the admin listener is, and what it tells beside health and metrics.
#[derive(Debug)]
pub(crate) struct AdminPort {
    /// The flag that names its port.
    pub(crate) flag: &'static str,
    pub(crate) address: HostPort,
    /// Whether somebody asked for this address. Otherwise the program runs without the listener
    /// where the address is taken, as konnectivity does.
    pub(crate) required: bool,
    pub(crate) pages: Vec<Page>,
}

impl Role {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Uses changed files of `tls` from now on.
    pub(crate) fn refresh_server(&mut self, tls: &ServerTls) {
        self.background.spawn(tls.clone().keep_fresh(TLS_REFRESH));
    }

    /// Uses changed files of `tls` from now on.
    pub(crate) fn refresh_client(&mut self, tls: &ClientTls) {
        self.background.spawn(tls.clone().keep_fresh(TLS_REFRESH));
    }

    /// Runs `work` until the very end, then drops it.
    pub(crate) fn background(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(work);
    }

    /// Serves `port` too.
    pub(crate) fn admin(&mut self, port: AdminPort) {
        self.admin = Some(port);
    }

    /// Serves health and metrics at `address`, runs `work` until SIGTERM or SIGINT, and drains.
    pub(crate) async fn run(
        self,
        address: (&str, &HostPort),
        limits: DrainLimits,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<ExitCode, StartError> {
        self.run_at(&[address], limits, work).await
    }

    /// The same, with health and metrics at each of `addresses` (each with its flag).
    pub(crate) async fn run_at(
        self,
        addresses: &[(&str, &HostPort)],
        limits: DrainLimits,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<ExitCode, StartError> {
        let Self {
            drain,
            readiness,
            mut registry,
            mut background,
            admin,
        } = self;
        tasks::register(&mut registry);
        let operations = Operations {
            readiness,
            drain: drain.clone(),
            registry: Arc::new(registry),
        };
        for (flag, address) in addresses {
            let listener = listen(flag, address).await?;
            // Not a task of the drain: it answers until the very end.
            background.spawn(operations.clone().serve(listener));
        }
        if let Some(AdminPort {
            flag,
            address,
            required,
            pages,
        }) = admin
        {
            match listen(flag, &address).await {
                Ok(listener) => {
                    let admin = Admin { operations, pages };
                    background.spawn(admin.serve(listener));
                }
                Err(error) if required => return Err(error),
                Err(error) => tracing::warn!("there is no admin listener: {error}"),
            }
        }
        drain.spawn(work);
        drain_on_signal(&drain, limits)
            .await
            .map_err(|error| StartError::failed(format_args!("signals: {error}")))?;
        background.shutdown().await;
        Ok(ExitCode::SUCCESS)
    }
}
