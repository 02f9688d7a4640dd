//! The servers this agent is connected to: one lane to each, as many as the servers say there
//! are.
//!
//! Behind one address the agent cannot choose which server answers, so it tries until it has all:
//! a server that it has a lane to already costs one attempt and a wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cluster_proxy_runtime::readiness::Condition;
use cluster_proxy_tunnel::lane::ServerHello;
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::server_leases::ServerCountSource;

/// See the module.
#[derive(Debug)]
pub(crate) struct Servers {
    state: Mutex<State>,
    changed: Notify,
    ready: Condition,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    /// By server id; whether the server is draining.
    connected: HashMap<String, bool>,
    /// As the server heard last states it.
    count: usize,
    /// By the servers' Leases, where they are counted and could be read.
    leased: Option<usize>,
    source: ServerCountSource,
}

impl State {
    /// How many servers there should be connections to.
    fn wanted(&self) -> usize {
        match (self.leased, self.source) {
            (None, _) => self.count,
            (Some(leased), ServerCountSource::Default) => leased,
            (Some(leased), ServerCountSource::Max) => leased.max(self.count),
        }
    }
}

impl Servers {
    pub(crate) fn new(ready: Condition, metrics: Metrics, source: ServerCountSource) -> Self {
        let state = State {
            connected: HashMap::new(),
            count: 1,
            leased: None,
            source,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            ready,
            metrics,
        }
    }

    /// Whether there is no lane to this server yet. What it says of the number of servers counts
    /// either way.
    pub(crate) fn wants(&self, server: &ServerHello) -> bool {
        let mut state = self.state();
        state.count = usize::try_from(server.server_count).unwrap_or(usize::MAX);
        self.count(&state);
        !state.connected.contains_key(&server.server_id)
    }

    /// There is a lane to `server_id` now.
    pub(crate) fn connect(&self, server_id: &str) {
        let mut state = self.state();
        state.connected.insert(server_id.to_owned(), false);
        self.publish(&state);
    }

    /// The lane to `server_id` has ended.
    pub(crate) fn disconnect(&self, server_id: &str) {
        let mut state = self.state();
        state.connected.remove(server_id);
        self.publish(&state);
        self.changed.notify_one();
    }

    /// The server ends soon: another one has to be found.
    pub(crate) fn drains(&self, server_id: &str) {
        if let Some(draining) = self.state().connected.get_mut(server_id) {
            *draining = true;
        }
        self.changed.notify_one();
    }

    /// There are `count` servers now.
    pub(crate) fn set_count(&self, count: u32) {
        let mut state = self.state();
        state.count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        self.count(&state);
        drop(state);
        self.changed.notify_one();
    }

    /// There are `count` servers by their Leases.
    pub(crate) fn set_leased(&self, count: usize) {
        let mut state = self.state();
        if state.leased.replace(count) == Some(count) {
            return;
        }
        self.count(&state);
        drop(state);
        self.changed.notify_one();
    }

    /// Whether there are lanes to as many servers as there should be, draining ones not counted.
    pub(crate) fn are_all_connected(&self) -> bool {
        let state = self.state();
        state
            .connected
            .values()
            .filter(|draining| !**draining)
            .count()
            >= state.wanted()
    }

    /// How many servers there are lanes to, and how many there should be.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.connected.len(), state.wanted())
    }

    /// Returns when a server was lost, drains, or there are more or fewer since the last time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn publish(&self, state: &State) {
        self.ready.set(!state.connected.is_empty());
        self.metrics.lanes(state.connected.len());
        self.count(state);
    }

    fn count(&self, state: &State) {
        self.metrics
            .konnectivity
            .servers(state.connected.len(), state.wanted());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cluster_proxy_runtime::readiness::Readiness;

    use super::*;

    fn server(server_id: &str, server_count: u32) -> ServerHello {
        ServerHello {
            server_id: server_id.to_owned(),
            server_count,
            capabilities: Vec::new(),
        }
    }

    #[tokio::test]
    async fn one_lane_to_each_server_until_the_count_is_reached() {
        let readiness = Readiness::new();
        let servers = Servers::new(
            readiness.condition("connected"),
            Metrics::default(),
            ServerCountSource::Default,
        );
        assert!(!servers.are_all_connected());
        assert!(servers.wants(&server("a", 2)));
        servers.connect("a");
        assert!(readiness.waiting_for().is_empty());
        assert!(!servers.wants(&server("a", 2)));
        assert!(!servers.are_all_connected());
        assert!(servers.wants(&server("b", 2)));
        servers.connect("b");
        assert!(servers.are_all_connected());
        servers.drains("a");
        assert!(!servers.are_all_connected());
        servers.set_count(1);
        assert!(servers.are_all_connected());
        servers.disconnect("a");
        servers.disconnect("b");
        assert_eq!(readiness.waiting_for(), ["connected"]);
        servers.changed().await;
    }

    #[tokio::test]
    async fn leases_count_before_what_servers_say() {
        let readiness = Readiness::new();
        for (source, both) in [(ServerCountSource::Default, 2), (ServerCountSource::Max, 3)] {
            let ready = readiness.condition("connected");
            let servers = Servers::new(ready, Metrics::default(), source);
            assert!(servers.wants(&server("a", 3)));
            assert_eq!(servers.counts(), (0, 3), "no Leases were read yet");
            servers.set_leased(2);
            servers.changed().await;
            assert_eq!(servers.counts(), (0, both));
            servers.set_leased(4);
            assert_eq!(servers.counts(), (0, 4));
        }
    }
}
