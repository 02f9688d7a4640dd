//! What is known of each cluster and when it is asked next; knows neither network nor hub.
//!
//! A cluster that answers is asked once a minute. A failure counts once it has been seen twice and
//! for a while (longer for one that has never answered: its agent may just be starting); from then
//! on the cluster is asked ever less often, and at once when something changes about its addon.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::TUNNEL_REACHABLE;
use kube::api::DynamicObject;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Cluster, Facts, Pace, Step};
use super::request::{Asked, RequestError};
use super::verdict::{Told, Verdict};
use crate::addon::{self, State};

/// All clusters that have the addon.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pace: Pace,
    clusters: HashMap<ClusterName, Cluster>,
    due: BTreeSet<(Instant, ClusterName)>,
}

impl Fleet {
    /// A fleet of which nothing is known yet.
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    /// Takes in an addon's object. With `spread`, a cluster that was not known is asked later than
    /// those before it, so that a new leader does not ask all at once.
    pub(super) fn see(&mut self, object: &DynamicObject, now: Instant, spread: bool) {
        let Some(name) = addon::cluster_of(object) else {
            return;
        };
        if addon::is_leaving(object) {
            self.forget(&name);
            return;
        }
        let status = addon::status(object);
        let facts = Facts::of(&status);
        let told = addon::find_condition(&status, TUNNEL_REACHABLE).map(Told::of);
        let place = u32::try_from(self.clusters.len()).unwrap_or(u32::MAX);
        let later = SPREAD_STEP.saturating_mul(place).min(self.pace.interval);
        let Some(cluster) = self.clusters.get_mut(&name) else {
            let due = if spread { now + later } else { now };
            self.clusters
                .insert(name.clone(), Cluster::new(facts, told));
            self.set(&name, Some(due));
            return;
        };
        cluster.told = told;
        if cluster.facts == facts {
            return;
        }
        if cluster.facts.references != facts.references {
            cluster.asked = None;
        }
        cluster.facts = facts;
        // Something happened there: what was said may be wrong by now.
        self.hasten(&name, now + self.pace.soon);
    }

    /// What should have been told could not be written: the cluster is asked again soon.
    pub(super) fn not_written(&mut self, name: &ClusterName, now: Instant) {
        self.hasten(name, now + self.pace.confirm);
    }

    fn hasten(&mut self, name: &ClusterName, at: Instant) {
        let next = self.clusters.get(name).and_then(|cluster| cluster.next);
        if next.is_none_or(|next| next > at) {
            self.set(name, Some(at));
        }
    }

    /// Forgets a cluster that has the addon no more.
    pub(super) fn forget(&mut self, name: &ClusterName) {
        self.set(name, None);
        self.clusters.remove(name);
    }

    /// The clusters that are known.
    pub(super) fn names(&self) -> impl Iterator<Item = &ClusterName> {
        self.clusters.keys()
    }

    pub(super) fn knows(&self, name: &ClusterName) -> bool {
        self.clusters.contains_key(name)
    }

    /// When the next cluster is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A cluster that is due and what is to be done about it. It comes again once the step is
    /// reported.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(ClusterName, Step)> {
        let (at, name) = self.due.first()?.clone();
        if at > now {
            return None;
        }
        self.set(&name, None);
        let cluster = self.clusters.get_mut(&name)?;
        cluster.is_busy = true;
        let step = cluster.step();
        Some((name, step))
    }

    /// Who answers there is found out.
    pub(super) fn found_out(
        &mut self,
        name: &ClusterName,
        references: &Value,
        asked: Option<Asked>,
    ) {
        if let Some(cluster) = self.clusters.get_mut(name)
            && cluster.facts.references == *references
        {
            cluster.asked = Some(asked);
        }
        self.idle(name, Some(Duration::ZERO));
    }

    /// Takes in what became of a request, and gives what is news about the cluster.
    pub(super) fn asked(
        &mut self,
        name: &ClusterName,
        asked: Asked,
        answer: Result<Duration, &RequestError>,
        now: Instant,
    ) -> Option<Verdict> {
        let cluster = self.clusters.get_mut(name)?;
        let (verdict, wait) = cluster.judge(asked, answer, now, &self.pace);
        self.idle(name, Some(wait));
        let told = self.clusters.get(name)?.told.as_ref();
        verdict.filter(|verdict| Told::is_news(told, verdict))
    }

    /// A step came to nothing that says anything about the cluster: it is done again.
    pub(super) fn again(&mut self, name: &ClusterName) {
        self.idle(name, Some(self.pace.confirm));
    }

    /// There is nothing to do until the addon changes.
    pub(super) fn rest(&mut self, name: &ClusterName) {
        self.idle(name, None);
    }

    /// A verdict stands in the addon's status.
    pub(super) fn wrote(&mut self, name: &ClusterName, verdict: &Verdict) {
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.told = Some(Told::by(verdict));
        }
    }

    /// What the addon's status says.
    pub(super) fn state(&self, name: &ClusterName) -> Option<State> {
        Some(self.clusters.get(name)?.told.as_ref()?.state)
    }

    fn idle(&mut self, name: &ClusterName, wait: Option<Duration>) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        cluster.is_busy = false;
        // A change that came meanwhile may have made it due earlier.
        let waited = wait.map(|wait| Instant::now() + wait);
        let next = [waited, cluster.next].into_iter().flatten().min();
        self.set(name, next);
    }

    fn set(&mut self, name: &ClusterName, at: Option<Instant>) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        if let Some(old) = cluster.next {
            self.due.remove(&(old, name.clone()));
        }
        cluster.next = at;
        // What is busy becomes due once it is idle.
        if let Some(at) = at
            && !cluster.is_busy
        {
            self.due.insert((at, name.clone()));
        }
    }
}

/// By which the first requests of a new leader are apart.
const SPREAD_STEP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
