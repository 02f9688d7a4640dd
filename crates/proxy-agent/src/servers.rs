//! The servers this agent is connected to: as many as the servers say there are, and to each as
//! many lanes as it is to have.
//!
//! Behind one address the agent cannot choose which server answers. A lane that lands on a server
//! which is to have one more counts there; any other costs one attempt and a wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster_proxy_runtime::readiness::Condition;
use cluster_proxy_tunnel::lane::{MAX_LANES, ServerHello};
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::server_leases::ServerCountSource;

/// See the module.
#[derive(Debug)]
pub(crate) struct Servers {
    state: Mutex<State>,
    changed: Notify,
    /// Lanes kept to each server that takes more than one.
    base: usize,
    ready: Condition,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    /// By server id.
    connected: HashMap<String, Server>,
    /// As the server heard last states it.
    count: usize,
    /// By the servers' Leases, where they are counted and could be read.
    leased: Option<usize>,
    source: ServerCountSource,
    /// Whether a server was lost, or said that it ends, since this was asked last.
    upset: bool,
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

#[derive(Debug)]
struct Server {
    lanes: usize,
    /// How many there are to be.
    wanted: usize,
    draining: bool,
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    /// There are lanes to every server, but too few.
    Lanes,
    Servers,
}

impl Servers {
    /// Keeps `base` lanes to each server; with 1 never more.
    pub(crate) fn new(
        base: usize,
        ready: Condition,
        metrics: Metrics,
        source: ServerCountSource,
    ) -> Self {
        let state = State {
            connected: HashMap::new(),
            count: 1,
            leased: None,
            source,
            upset: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            base: base.clamp(1, MAX_LANES),
            ready,
            metrics,
        }
    }

    /// Whether there are to be more lanes to this server. What it says of the number of servers
    /// counts either way.
    pub(crate) fn wants(&self, server: &ServerHello) -> bool {
        let mut state = self.state();
        state.count = usize::try_from(server.server_count).unwrap_or(usize::MAX);
        self.count(&state);
        state
            .connected
            .get(&server.server_id)
            .is_none_or(|known| server.takes_lanes() && known.has_too_few())
    }

    /// There is one more lane to `server`, until the result is dropped.
    pub(crate) fn connect(self: &Arc<Self>, server: &ServerHello) -> ConnectedLane {
        let mut state = self.state();
        let wanted = if server.takes_lanes() { self.base } else { 1 };
        let known = state
            .connected
            .entry(server.server_id.clone())
            .or_insert(Server {
                lanes: 0,
                wanted,
                draining: false,
            });
        known.lanes += 1;
        self.publish(&state);
        ConnectedLane {
            servers: Arc::clone(self),
            server_id: server.server_id.clone(),
            retired: false,
        }
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

    /// What is missing, draining servers not counted.
    pub(crate) fn missing(&self) -> Missing {
        let state = self.state();
        let staying = || state.connected.values().filter(|server| !server.draining);
        if staying().count() < state.wanted() {
            Missing::Servers
        } else if staying().any(Server::has_too_few) {
            Missing::Lanes
        } else {
            Missing::Nothing
        }
    }

    /// How many servers there are lanes to, and how many there should be.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.connected.len(), state.wanted())
    }

    /// Whether a lane was lost, or a server said that it ends, since this was asked last.
    pub(crate) fn take_upset(&self) -> bool {
        std::mem::take(&mut self.state().upset)
    }

    /// Returns when a lane was lost, a server drains or wants more lanes, or there are more or
    /// fewer servers since the last time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn publish(&self, state: &State) {
        self.ready.set(!state.connected.is_empty());
        let lanes = state.connected.values().map(|server| server.lanes).sum();
        self.metrics.lanes(lanes);
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

impl Server {
    fn has_too_few(&self) -> bool {
        !self.draining && self.lanes < self.wanted
    }
}

/// A lane's place among the others.
#[derive(Debug)]
pub(crate) struct ConnectedLane {
    servers: Arc<Servers>,
    server_id: String,
    retired: bool,
}

impl ConnectedLane {
    pub(crate) fn server_id(&self) -> &str {
        &self.server_id
    }

    /// Whether the lane was given up as one too many.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// The server ends soon: another one has to be found.
    pub(crate) fn drains(&self) {
        let mut state = self.servers.state();
        if let Some(server) = state.connected.get_mut(&self.server_id)
            && !server.draining
        {
            server.draining = true;
            state.upset = true;
            self.servers.changed.notify_one();
        }
    }

    /// The server would like to have `count` lanes.
    pub(crate) fn asked_for(&self, count: u32) {
        if self.servers.base == 1 {
            return;
        }
        let count = usize::try_from(count).unwrap_or(MAX_LANES).min(MAX_LANES);
        let mut state = self.servers.state();
        if let Some(server) = state.connected.get_mut(&self.server_id)
            && server.wanted < count
        {
            server.wanted = count;
            self.servers.changed.notify_one();
        }
    }

    /// Gives the lane up if there are more to its server than are always kept.
    pub(crate) fn retire(&mut self) -> bool {
        let mut state = self.servers.state();
        let base = self.servers.base;
        let Some(server) = state.connected.get_mut(&self.server_id) else {
            return false;
        };
        if self.retired || server.lanes <= base {
            return false;
        }
        server.lanes -= 1;
        // What was asked for and never came is not needed any more either.
        server.wanted = server.lanes.max(base);
        self.servers.publish(&state);
        self.retired = true;
        true
    }

    /// The servers that the lane's belongs to.
    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }
}

impl Drop for ConnectedLane {
    fn drop(&mut self) {
        if self.retired {
            return;
        }
        let mut state = self.servers.state();
        if let Some(server) = state.connected.get_mut(&self.server_id) {
            server.lanes -= 1;
            if server.lanes == 0 {
                state.connected.remove(&self.server_id);
            }
        }
        state.upset = true;
        self.servers.publish(&state);
        self.servers.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
