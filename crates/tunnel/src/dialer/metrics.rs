//! What a [`super::ProxyServerDialer`] counts: that nothing is dialled per request can be read
//! off these.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::dial_error::DialError;

/// Counters of a dialer; clones count together.
#[derive(Debug, Clone, Default)]
pub struct DialerMetrics {
    connections: Counter,
    tunnels: Family<ResultLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl DialerMetrics {
    /// Adds the counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cluster_proxy_dialer_server_connections",
            "Connections dialled to the proxy-server",
            self.connections.clone(),
        );
        registry.register(
            "cluster_proxy_dialer_tunnels",
            "Tunnelled connections asked of the proxy-server, by result",
            self.tunnels.clone(),
        );
    }

    /// Connections dialled to the proxy-server so far, failed ones included.
    #[must_use]
    pub fn connections_dialled(&self) -> u64 {
        self.connections.get()
    }

    /// Tunnelled connections opened so far.
    #[must_use]
    pub fn tunnels_opened(&self) -> u64 {
        self.tunnels
            .get_or_create_owned(&ResultLabel { result: OPENED })
            .get()
    }

    pub(super) fn connection_dialled(&self) {
        self.connections.inc();
    }

    pub(super) fn count(&self, error: Option<&DialError>) {
        let result = error.map_or(OPENED, DialError::reason);
        self.tunnels
            .get_or_create_owned(&ResultLabel { result })
            .inc();
    }
}

const OPENED: &str = "opened";
