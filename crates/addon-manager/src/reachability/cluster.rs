//! What is known of one cluster, and what is to be done about it next.

use std::time::Duration;

use cluster_proxy_kube_api::addon::{AVAILABLE, MANIFEST_APPLIED};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::request::{Asked, RequestError};
use super::verdict::{Told, Verdict};
use crate::addon::{self, State};

/// How often clusters are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two requests to a cluster that answers. A thousand clusters are 17 a second.
    pub(super) interval: Duration,
    /// After a change of the addon, so that a change which brings others is looked at once.
    pub(super) soon: Duration,
    /// Between a failure that is not told yet and the next request.
    pub(super) confirm: Duration,
    /// For how long a cluster that answered has to fail before it is told: a proxy-server or an
    /// agent that is replaced is back before.
    pub(super) grace: Duration,
    /// The same for one that has never answered: images are pulled, certificates asked for.
    pub(super) first_grace: Duration,
    /// Between requests to a cluster that is told to fail, at first.
    pub(super) min_backoff: Duration,
    /// And at last: what a person has mended is seen after this.
    pub(super) max_backoff: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_mins(1),
            soon: Duration::from_secs(2),
            confirm: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            first_grace: Duration::from_mins(1),
            min_backoff: Duration::from_secs(10),
            max_backoff: Duration::from_mins(2),
        }
    }
}

/// What an addon's object says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    namespace: String,
    /// Which configurations are in force, in which generation.
    pub(super) references: Value,
    is_deployed: bool,
    available: Value,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) facts: Facts,
    /// Who is asked; `None` until it is found out for these references.
    pub(super) asked: Option<Option<Asked>>,
    pub(super) told: Option<Told>,
    pub(super) next: Option<Instant>,
    pub(super) is_busy: bool,
    failing: Option<Failing>,
    /// Of the last answers, the newest last.
    round_trips: Vec<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    times: u32,
    /// Since it is told.
    waits: u32,
}

/// What is to be done about a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Find out who answers there, then ask.
    FindOut { references: Value },
    /// Ask.
    Ask(Asked),
    /// Write what cannot be asked.
    Tell(Verdict),
    /// Nothing: what there is to say is said.
    Nothing,
}

impl Facts {
    pub(super) fn of(status: &Map<String, Value>) -> Self {
        let state = |kind: &str| addon::find_condition(status, kind).map(|it| it["status"].clone());
        Self {
            namespace: status
                .get("namespace")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            references: status.get("configReferences").cloned().unwrap_or_default(),
            is_deployed: addon::condition_is_true(status, MANIFEST_APPLIED),
            available: state(AVAILABLE).unwrap_or_default(),
        }
    }
}

impl Cluster {
    pub(super) fn new(facts: Facts, told: Option<Told>) -> Self {
        Self {
            facts,
            asked: None,
            told,
            next: None,
            is_busy: false,
            failing: None,
            round_trips: Vec::new(),
        }
    }

    pub(super) fn step(&self) -> Step {
        // A deployed agent stays while its next version cannot be applied.
        if !self.facts.is_deployed && !self.was_asked() {
            return self.tell(Verdict::not_deployed());
        }
        match self.asked {
            None => Step::FindOut {
                references: self.facts.references.clone(),
            },
            Some(Some(asked)) => Step::Ask(asked),
            Some(None) => self.tell(Verdict::nobody_to_ask()),
        }
    }

    fn tell(&self, verdict: Verdict) -> Step {
        if Told::is_news(self.told.as_ref(), &verdict) {
            Step::Tell(verdict)
        } else {
            Step::Nothing
        }
    }

    fn was_asked(&self) -> bool {
        self.told
            .as_ref()
            .is_some_and(|told| told.state != State::Unknown)
    }

    /// What is to be told, and how long to wait before the next request.
    pub(super) fn judge(
        &mut self,
        asked: Asked,
        answer: Result<Duration, &RequestError>,
        now: Instant,
        pace: &Pace,
    ) -> (Option<Verdict>, Duration) {
        let error = match answer {
            Ok(round_trip) => {
                self.failing = None;
                self.round_trips.push(round_trip);
                if self.round_trips.len() > SAMPLES {
                    self.round_trips.remove(0);
                }
                let verdict = Verdict::answered(asked, self.median());
                return (Some(verdict), pace.interval);
            }
            Err(error) => error,
        };
        self.round_trips.clear();
        let known_to_fail = self
            .told
            .as_ref()
            .is_some_and(|told| told.state == State::False);
        let grace = if self.was_asked() {
            pace.grace
        } else {
            pace.first_grace
        };
        let failing = self.failing.get_or_insert(Failing {
            since: now,
            times: 0,
            waits: 0,
        });
        failing.times = failing.times.saturating_add(1);
        let is_sure = failing.times > 1 && now.duration_since(failing.since) >= grace;
        if !is_sure && !known_to_fail {
            return (None, pace.confirm);
        }
        let doubled = 1_u32.checked_shl(failing.waits).unwrap_or(u32::MAX);
        failing.waits = failing.waits.saturating_add(1);
        let wait = pace
            .min_backoff
            .saturating_mul(doubled)
            .min(pace.max_backoff);
        let verdict = Verdict::failed(asked, &self.facts.namespace, error);
        (Some(verdict), wait)
    }

    /// Of the last answers, so that one slow answer is no news.
    fn median(&self) -> Duration {
        let mut sorted = self.round_trips.clone();
        sorted.sort_unstable();
        let middle = sorted.len().saturating_sub(1) / 2;
        sorted.get(middle).copied().unwrap_or_default()
    }
}

/// Answers of which the middle one counts.
const SAMPLES: usize = 3;
