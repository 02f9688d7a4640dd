//! Which connections are one agent's, and which of them a new tunnelled connection goes to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::PeerIdentity;
use cluster_proxy_tunnel::lane::MAX_LANES;
use tokio::time::Instant;

use crate::agents::Agent;

/// Whose a connection is: an agent's own word for itself counts only together with what its
/// certificate proves, so that nobody gets among another agent's connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AgentKey {
    pub(crate) agent_id: String,
    pub(crate) identity: PeerIdentity,
}

/// What the connections of one agent share.
#[derive(Debug)]
pub(crate) struct AgentGroup {
    pub(crate) key: AgentKey,
    /// In the order in which agents came.
    pub(crate) number: u64,
    asked: Mutex<Option<Asked>>,
}

/// The last request for more lanes.
#[derive(Debug, Clone, Copy)]
struct Asked {
    count: usize,
    at: Instant,
}

impl AgentGroup {
    pub(crate) fn new(key: AgentKey, number: u64) -> Self {
        Self {
            key,
            number,
            asked: Mutex::new(None),
        }
    }

    /// Whether to ask for `count` lanes now: not again what was asked a moment ago.
    fn should_ask(&self, count: usize) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|asked| asked.count >= count && asked.at.elapsed() < ASK_AGAIN) {
            return false;
        }
        *asked = Some(Asked {
            count,
            at: Instant::now(),
        });
        true
    }
}

/// How much there is on a connection already.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Its agent ends soon, or may be gone.
    last_resort: bool,
    busy: usize,
    open: usize,
}

/// A connection and its place among those of its agent, 0 for the best.
struct Ranked {
    agent: Arc<Agent>,
    load: Load,
    rank: usize,
    turn: usize,
}

/// The connections in `found`, best first: those of agents that drain, or do not answer, come last; then each agent's
/// best one comes before all second ones, the least busy before the others; equals take turns,
/// which begin with the agent `first`.
///
/// An agent whose lanes all have a busy stream is asked for more. Nobody waits for them: they are
/// for those who come later.
pub(crate) fn best_first(found: Vec<Arc<Agent>>, first: usize) -> Vec<Arc<Agent>> {
    let ranked = ranked(found, first);
    ask_for_lanes(&ranked);
    ranked.into_iter().map(|ranked| ranked.agent).collect()
}

fn ranked(found: Vec<Arc<Agent>>, first: usize) -> Vec<Ranked> {
    let mut all: Vec<_> = found
        .into_iter()
        .map(|agent| {
            let load = Load {
                last_resort: agent.link.agent_drains() || agent.link.is_doubtful(),
                busy: agent.link.busy_streams(),
                open: agent.link.open_streams(),
            };
            Ranked {
                agent,
                load,
                rank: 0,
                turn: 0,
            }
        })
        .collect();
    // Those that are not busy gather on the oldest lanes, so that extra ones become idle and close.
    all.sort_by_key(|one| {
        let Load {
            last_resort,
            busy,
            open,
        } = one.load;
        let Agent { group, key, .. } = &*one.agent;
        (group.number, last_resort, busy, open / GATHER, *key)
    });
    let (mut groups, mut rank) = (0, 0);
    for index in 0..all.len() {
        if index > 0 && all[index - 1].agent.group.number != all[index].agent.group.number {
            groups += 1;
            rank = 0;
        }
        (all[index].turn, all[index].rank) = (groups, rank);
        rank += 1;
    }
    groups += 1;
    for one in &mut all {
        one.turn = (one.turn + first % groups) % groups;
    }
    all.sort_by_key(|one| {
        let Load {
            last_resort,
            busy,
            open,
        } = one.load;
        (last_resort, one.rank, busy, open, one.turn)
    });
    all
}

fn ask_for_lanes(ranked: &[Ranked]) {
    let Some(best) = ranked.first() else { return };
    if best.load.busy == 0 || !best.agent.link.agent().can_have_lanes() {
        return;
    }
    let own = ranked
        .iter()
        .filter(|one| one.agent.group.number == best.agent.group.number);
    let (lanes, busy) = own.fold((0, 0), |(lanes, busy), one| {
        (lanes + 1, busy + one.load.busy)
    });
    // The one that is about to be opened, and a free lane for the next.
    let count = (busy + 2).min(MAX_LANES);
    if count > lanes && best.agent.group.should_ask(count) {
        tracing::debug!(
            agent = best.agent.id(),
            lanes,
            busy,
            count,
            "asking for more lanes"
        );
        best.agent
            .link
            .ask_for_lanes(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// Open streams that are not busy and may share a lane while another one is free.
const GATHER: usize = 64;

/// A dial takes its time; an agent that could not is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
