//! What every controller of a leading manager is given.

use std::fmt;

use cluster_proxy_runtime::drain::Drain;

use crate::certificate_authority::CaHandle;
use crate::config::ManagerConfig;
use crate::events::Events;
use crate::metrics::Metrics;

/// What every controller of a leading manager is given. A controller is
/// `pub async fn run(context: Arc<Context>)` and returns once [`Self::drain`] is started.
#[derive(Clone)]
pub struct Context {
    /// For requests and answers: gives up on a server that is silent for 30 s.
    pub client: kube::Client,
    /// For watches, which are silent for as long as nothing changes.
    pub watch_client: kube::Client,
    /// What the flags say.
    pub config: ManagerConfig,
    /// The addon's CA, once it is there.
    pub ca: CaHandle,
    /// What a person should act on.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// Starts when the process is asked to end, and ends at once when leadership is lost: from
    /// then on nothing may be written.
    pub drain: Drain,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("config", &self.config)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
