//! Whether clusters can be reached: the condition `TunnelReachable` of every addon.
//!
//! It is true only when a request of the manager really went through the tunnel to that cluster
//! and was answered. Requests are spread over time, bounded in number, and end with the addon; the
//! status is written only when there is news (`verdict.rs`), and with each change of it an Event.

mod advice;
mod cluster;
mod fleet;
mod hub;
mod request;
mod tunnel;
mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use futures_util::{Stream, StreamExt};
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::addon::{self, State};
use crate::context::Context;
use crate::failure::{RequestFailure, describe_watch};
use cluster::{Pace, Step};
use fleet::Fleet;
use hub::{Written, tell_until_told, whom_to_ask};
use request::Asked;
use tunnel::{Ask, AskError, Tunnel};
use verdict::Verdict;

/// Asks every cluster until the context's drain.
pub async fn run(context: Arc<Context>) {
    let tunnel = Tunnel::new(
        context.client.clone(),
        context.ca.clone(),
        context.metrics.dialer(),
    );
    run_with(context, Arc::new(tunnel), Pace::default()).await;
}

async fn run_with(context: Arc<Context>, ask: Arc<dyn Ask>, pace: Pace) {
    let addons = watcher(
        addon::addons(&context.watch_client),
        watcher::Config::default().fields(addon::SELECTOR),
    );
    let mut addons = Box::pin(addons.default_backoff());
    let mut rounds = Rounds {
        context: Arc::clone(&context),
        ask,
        fleet: Fleet::new(pace),
        listed: None,
        tasks: JoinSet::new(),
        running: HashMap::new(),
    };
    tokio::select! {
        () = rounds.go(&mut addons) => {}
        () = context.drain.started() => {}
    }
    // Only a leader knows: what is not asked any more is not known any more.
    context.metrics.forget_reachable();
}

struct Rounds {
    context: Arc<Context>,
    ask: Arc<dyn Ask>,
    fleet: Fleet,
    /// While the clusters are listed: those that were in the list so far.
    listed: Option<BTreeSet<ClusterName>>,
    /// At most [`CONCURRENCY`] requests and writes; they end with this.
    tasks: JoinSet<(ClusterName, Done)>,
    running: HashMap<ClusterName, AbortHandle>,
}

/// What a task came to.
enum Done {
    FoundOut {
        references: Value,
        asked: Result<Option<Asked>, RequestFailure>,
    },
    Asked {
        asked: Asked,
        answer: Result<Duration, AskError>,
    },
    Wrote {
        verdict: Verdict,
        written: Result<Written, RequestFailure>,
        /// Whether there is nothing more to do until the addon changes.
        rests: bool,
    },
}

impl Rounds {
    async fn go(
        &mut self,
        addons: &mut (impl Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Unpin),
    ) {
        loop {
            let next = self.fleet.next().filter(|_| self.tasks.len() < CONCURRENCY);
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = addons.next() => match event {
                    Some(event) => self.take_in(event),
                    None => return,
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok((cluster, done)) => {
                        self.running.remove(&cluster);
                        self.finish(&cluster, done);
                    }
                    Err(error) => self.broke_off(&error),
                },
                () = due => self.begin(),
            }
        }
    }

    /// A task that was cut off belongs to an addon that is gone; one that panicked is a bug of
    /// ours, after which the cluster is asked again.
    fn broke_off(&mut self, error: &JoinError) {
        let mut running = self.running.iter();
        let found = running.find(|(_, task)| task.id() == error.id());
        if let Some(cluster) = found.map(|(cluster, _)| cluster.clone()) {
            self.running.remove(&cluster);
            self.fleet.again(&cluster);
        }
    }

    fn take_in(&mut self, event: Result<Event<DynamicObject>, watcher::Error>) {
        let now = Instant::now();
        match event {
            Ok(Event::Init) => self.listed = Some(BTreeSet::new()),
            Ok(Event::InitApply(object)) => {
                if let (Some(listed), Some(name)) = (&mut self.listed, addon::cluster_of(&object)) {
                    listed.insert(name);
                }
                self.see(&object, now, true);
            }
            Ok(Event::InitDone) => {
                let listed = self.listed.take().unwrap_or_default();
                let gone = self.fleet.names().filter(|name| !listed.contains(name));
                for name in gone.cloned().collect::<Vec<_>>() {
                    self.forget(&name);
                }
            }
            Ok(Event::Apply(object)) => self.see(&object, now, false),
            Ok(Event::Delete(object)) => {
                if let Some(name) = addon::cluster_of(&object) {
                    self.forget(&name);
                }
            }
            Err(error) => {
                self.context.metrics.watch_failed(NAME);
                let cause = describe_watch(&error);
                tracing::warn!(controller = NAME, "watch broke off, trying again: {cause}");
            }
        }
    }

    fn see(&mut self, object: &DynamicObject, now: Instant, spread: bool) {
        self.fleet.see(object, now, spread);
        if let Some(name) = addon::cluster_of(object)
            && !self.fleet.knows(&name)
        {
            self.forget(&name);
        }
    }

    /// Ends whatever is under way for a cluster whose addon is gone.
    fn forget(&mut self, name: &ClusterName) {
        self.fleet.forget(name);
        if let Some(task) = self.running.remove(name) {
            task.abort();
        }
        self.context.metrics.no_longer_reachable(name.as_str());
    }

    /// Begins what is due.
    fn begin(&mut self) {
        let Some((cluster, step)) = self.fleet.take_due(Instant::now()) else {
            return;
        };
        match step {
            Step::FindOut { references } => {
                let context = Arc::clone(&self.context);
                self.spawn(cluster, async move {
                    let asked = whom_to_ask(&context, &references).await;
                    Done::FoundOut { references, asked }
                });
            }
            Step::Ask(asked) => {
                let ask = Arc::clone(&self.ask);
                let name = cluster.clone();
                self.spawn(cluster, async move {
                    let answer = ask.ask(&name, asked).await;
                    Done::Asked { asked, answer }
                });
            }
            Step::Tell(verdict) => self.write(cluster, verdict, true),
            Step::Nothing => self.fleet.rest(&cluster),
        }
    }

    fn finish(&mut self, cluster: &ClusterName, done: Done) {
        match done {
            Done::FoundOut {
                references,
                asked: Ok(asked),
            } => self.fleet.found_out(cluster, &references, asked),
            Done::FoundOut {
                asked: Err(failure),
                ..
            } => {
                tracing::warn!(%cluster, "it is not known whom to ask: {failure}");
                self.fleet.again(cluster);
            }
            Done::Asked { asked, answer } => self.answered(cluster, asked, &answer),
            Done::Wrote {
                verdict,
                written,
                rests,
            } => {
                match written {
                    Ok(Written::Told) => self.fleet.wrote(cluster, &verdict),
                    Ok(Written::Not) => {}
                    Err(failure) => tracing::warn!(%cluster, "{failure}"),
                }
                let told = self.fleet.state(cluster) == Some(verdict.state);
                match (rests, told) {
                    (true, true) => self.fleet.rest(cluster),
                    (true, false) => self.fleet.again(cluster),
                    (false, false) => self.fleet.not_written(cluster, Instant::now()),
                    (false, true) => {}
                }
            }
        }
    }

    fn answered(
        &mut self,
        cluster: &ClusterName,
        asked: Asked,
        answer: &Result<Duration, AskError>,
    ) {
        let answer = match answer {
            Ok(round_trip) => Ok(*round_trip),
            Err(AskError::Request(error)) => Err(error),
            Err(AskError::NotReady(cause)) => {
                tracing::debug!(%cluster, "not asked: {cause}");
                self.fleet.again(cluster);
                return;
            }
        };
        let metrics = &self.context.metrics;
        match &answer {
            Ok(round_trip) => metrics.probed("answered", Some(*round_trip)),
            Err(error) => {
                metrics.probed(verdict::label(error), None);
                tracing::debug!(%cluster, "not reached: {error}");
            }
        }
        let news = self.fleet.asked(cluster, asked, answer, Instant::now());
        match news {
            Some(verdict) => self.write(cluster.clone(), verdict, false),
            None => self.count(cluster),
        }
    }

    /// Keeps the metric as the status is.
    fn count(&self, cluster: &ClusterName) {
        match self.fleet.state(cluster) {
            Some(State::Unknown) | None => {}
            Some(state) => {
                let metrics = &self.context.metrics;
                metrics.set_reachable(cluster.as_str(), state == State::True);
            }
        }
    }

    fn write(&mut self, cluster: ClusterName, verdict: Verdict, rests: bool) {
        if verdict.state != State::Unknown {
            let reached = verdict.state == State::True;
            self.context
                .metrics
                .set_reachable(cluster.as_str(), reached);
        }
        let context = Arc::clone(&self.context);
        let name = cluster.clone();
        self.spawn(cluster, async move {
            let written = timeout(WRITE_LIMIT, tell_until_told(&context, &name, &verdict)).await;
            let written = written.unwrap_or(Ok(Written::Not));
            Done::Wrote {
                verdict,
                written,
                rests,
            }
        });
    }

    fn spawn(&mut self, cluster: ClusterName, work: impl Future<Output = Done> + Send + 'static) {
        let name = cluster.clone();
        let task = self.tasks.spawn(async move { (name, work.await) });
        // What was under way for this cluster is done, or it would not be due.
        self.running.insert(cluster, task);
    }
}

/// In metrics and logs.
const NAME: &str = "reachability";

/// Requests and writes at once: with every cluster of a thousand silent until its deadline, a
/// round takes a quarter of an hour and costs next to nothing; with all of them answering, this is
/// far more than the 17 a second need.
const CONCURRENCY: usize = 16;

/// A few reads and writes, and an Event.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
