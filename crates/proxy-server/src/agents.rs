//! The table of connected agents: who is found under which name.
//!
//! Keyed by link, not by agent: an agent has several lanes, one that reconnects is there with an old
//! link for a moment, and the end of one must not take the others with it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use cluster_proxy_identity::{ClusterName, PeerIdentity};
use cluster_proxy_tunnel::Target;

use crate::agent_group::{AgentGroup, AgentKey, best_first};
use crate::agent_link::{AgentLink, AgentProtocol};
use crate::config::{ProxyStrategies, ProxyStrategy};
use crate::link_facts::LinkFacts;
use crate::metrics::Metrics;
use crate::ownership::{Claims, is_tunnel_host};

/// The agents connected to this server.
#[derive(Debug)]
pub(crate) struct Agents {
    strategies: ProxyStrategies,
    metrics: Metrics,
    table: RwLock<Table>,
    /// Where the choice among equals begins, so that they take turns.
    turn: AtomicUsize,
}

/// One link of an agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) key: u64,
    pub(crate) group: Arc<AgentGroup>,
    pub(crate) link: AgentLink,
    pub(crate) facts: Arc<LinkFacts>,
    claims: Claims,
}

#[derive(Debug, Default)]
struct Table {
    next_key: u64,
    all: BTreeMap<u64, Arc<Agent>>,
    /// How many of them are lanes.
    lanes: usize,
    /// How many of them take what nobody is announced for.
    default_routes: usize,
    by_host: HashMap<String, Vec<Arc<Agent>>>,
    by_ip: HashMap<IpAddr, Vec<Arc<Agent>>>,
    /// Each agent with the number of its links.
    groups: HashMap<AgentKey, (Arc<AgentGroup>, usize)>,
}

impl Agent {
    /// The cluster that the agent proved to be of.
    pub(crate) fn cluster(&self) -> Option<&ClusterName> {
        self.claims.cluster.as_ref()
    }

    fn is_lane(&self) -> bool {
        self.link.protocol() == AgentProtocol::Lane
    }

    /// The id that the agent says it has.
    pub(crate) fn id(&self) -> &str {
        &self.link.agent().agent_id
    }
}

impl Agents {
    pub(crate) fn new(strategies: ProxyStrategies, metrics: Metrics) -> Self {
        let table = Table::default();
        // There from the start, as konnectivity has them.
        table.count(&metrics, &strategies);
        Self {
            strategies,
            metrics,
            table: RwLock::new(table),
            turn: AtomicUsize::new(0),
        }
    }

    /// Adds a link of the agent whose certificate proves `identity`, until the result is dropped.
    pub(crate) fn connect(
        self: &Arc<Self>,
        link: AgentLink,
        identity: &PeerIdentity,
        facts: Arc<LinkFacts>,
        claims: Claims,
    ) -> ConnectedAgent {
        let mut table = self.write();
        let agent = table.add(link, identity, facts, claims);
        table.count(&self.metrics, &self.strategies);
        ConnectedAgent {
            agents: Arc::clone(self),
            agent,
        }
    }

    /// The links of agents that may serve `target`, best first: those of the first strategy that
    /// finds any.
    pub(crate) fn find(&self, target: &Target) -> Vec<Arc<Agent>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let host = target.host().to_ascii_lowercase();
        // Such a name is its cluster's or nobody's, whatever the strategies are.
        if is_tunnel_host(&host) {
            return self.ordered(table.owners(target, &host));
        }
        for strategy in self.strategies.as_slice() {
            let found = match strategy {
                ProxyStrategy::DestHost => table.owners(target, &host),
                ProxyStrategy::DefaultRoute => table
                    .usable()
                    .filter(|agent| agent.claims.default_route)
                    .collect(),
                ProxyStrategy::Default => table.usable().collect(),
            };
            if !found.is_empty() {
                return self.ordered(found);
            }
        }
        Vec::new()
    }

    /// All links, the oldest first.
    pub(crate) fn links(&self) -> Vec<Arc<Agent>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.all.values().cloned().collect()
    }

    /// Tells every agent that this server ends soon.
    pub(crate) fn drain(&self) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for agent in table.all.values() {
            agent.link.drain();
        }
    }

    fn ordered(&self, agents: Vec<Arc<Agent>>) -> Vec<Arc<Agent>> {
        best_first(agents, self.turn.fetch_add(1, Ordering::Relaxed))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(
        &mut self,
        link: AgentLink,
        identity: &PeerIdentity,
        facts: Arc<LinkFacts>,
        claims: Claims,
    ) -> Arc<Agent> {
        let key = AgentKey {
            agent_id: link.agent().agent_id.clone(),
            identity: identity.clone(),
        };
        let (group, links) = self.groups.entry(key.clone()).or_insert_with(|| {
            let group = AgentGroup::new(key, self.next_key);
            (Arc::new(group), 0)
        });
        *links += 1;
        let agent = Arc::new(Agent {
            key: self.next_key,
            group: Arc::clone(group),
            link,
            facts,
            claims,
        });
        self.next_key += 1;
        self.all.insert(agent.key, Arc::clone(&agent));
        self.lanes += usize::from(agent.is_lane());
        self.default_routes += usize::from(agent.claims.default_route);
        for host in &agent.claims.hosts {
            self.by_host
                .entry(host.clone())
                .or_default()
                .push(Arc::clone(&agent));
        }
        for ip in &agent.claims.ips {
            self.by_ip.entry(*ip).or_default().push(Arc::clone(&agent));
        }
        agent
    }

    fn remove(&mut self, agent: &Agent) {
        self.all.remove(&agent.key);
        self.lanes -= usize::from(agent.is_lane());
        self.default_routes -= usize::from(agent.claims.default_route);
        for host in &agent.claims.hosts {
            forget(&mut self.by_host, host, agent.key);
        }
        for ip in &agent.claims.ips {
            forget(&mut self.by_ip, ip, agent.key);
        }
        if let Some((_, links)) = self.groups.get_mut(&agent.group.key) {
            *links -= 1;
            if *links == 0 {
                self.groups.remove(&agent.group.key);
            }
        }
    }

    fn count(&self, metrics: &Metrics, strategies: &ProxyStrategies) {
        for strategy in strategies.as_slice() {
            let backends = match strategy {
                ProxyStrategy::DestHost => self.by_host.len() + self.by_ip.len(),
                ProxyStrategy::DefaultRoute => self.default_routes,
                ProxyStrategy::Default => self.groups.len(),
            };
            metrics.konnectivity.backends(*strategy, backends);
        }
        metrics.connected(self.groups.len(), self.lanes, self.all.len() - self.lanes);
    }

    fn usable(&self) -> impl Iterator<Item = Arc<Agent>> {
        self.all
            .values()
            .filter(|agent| agent.link.is_usable())
            .cloned()
    }

    /// Those found under the target's address or name. Who proved its right to the name comes
    /// before who did not: the others count only while there is none of these.
    fn owners(&self, target: &Target, host: &str) -> Vec<Arc<Agent>> {
        let found = match target.ip() {
            Some(ip) => self.by_ip.get(&ip),
            None => self.by_host.get(host),
        };
        let usable = found
            .into_iter()
            .flatten()
            .filter(|agent| agent.link.is_usable())
            .cloned();
        let (proven, unproven): (Vec<_>, Vec<_>) =
            usable.partition(|agent| agent.cluster().is_some());
        if proven.is_empty() { unproven } else { proven }
    }
}

/// An agent's place in the table.
#[derive(Debug)]
pub(crate) struct ConnectedAgent {
    agents: Arc<Agents>,
    agent: Arc<Agent>,
}

impl ConnectedAgent {
    pub(crate) fn link(&self) -> &AgentLink {
        &self.agent.link
    }

    pub(crate) fn facts(&self) -> Arc<LinkFacts> {
        Arc::clone(&self.agent.facts)
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.agent.claims
    }
}

impl Drop for ConnectedAgent {
    fn drop(&mut self) {
        let mut table = self.agents.write();
        table.remove(&self.agent);
        table.count(&self.agents.metrics, &self.agents.strategies);
        drop(table);
        self.agents.metrics.stalled(self.agent.link.take_stalled());
    }
}

fn forget<K: Eq + Hash>(index: &mut HashMap<K, Vec<Arc<Agent>>>, name: &K, key: u64) {
    if let Some(agents) = index.get_mut(name) {
        agents.retain(|agent| agent.key != key);
        if agents.is_empty() {
            index.remove(name);
        }
    }
}
