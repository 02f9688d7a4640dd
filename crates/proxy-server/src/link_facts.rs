//! What is known of an agent's link besides what it is found under, and counted for it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster_proxy_tunnel::relay::Moved;
use jiff::Timestamp;

use crate::metrics::{ByteCounters, Metrics};

/// Of one link, through every change of its names.
#[derive(Debug)]
pub(crate) struct LinkFacts {
    pub(crate) peer: SocketAddr,
    pub(crate) since: Timestamp,
    to_target: AtomicU64,
    to_client: AtomicU64,
}

impl LinkFacts {
    pub(crate) fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            since: Timestamp::now(),
            to_target: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        }
    }

    /// Bytes moved so far, to targets and to clients.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (
            self.to_target.load(Ordering::Relaxed),
            self.to_client.load(Ordering::Relaxed),
        )
    }
}

/// Counts the bytes of one tunnelled connection as they move.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    facts: &'a LinkFacts,
    counters: ByteCounters,
    counted: Moved,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(facts: &'a LinkFacts, metrics: &'a Metrics) -> Self {
        Self {
            facts,
            counters: metrics.byte_counters(),
            counted: Moved::default(),
        }
    }

    /// The connection has moved so much in all.
    pub(crate) fn note(&mut self, moved: Moved) {
        if moved == self.counted {
            return;
        }
        let more = Moved {
            to_far: moved.to_far - self.counted.to_far,
            to_near: moved.to_near - self.counted.to_near,
        };
        self.counted = moved;
        self.facts
            .to_target
            .fetch_add(more.to_far, Ordering::Relaxed);
        self.facts
            .to_client
            .fetch_add(more.to_near, Ordering::Relaxed);
        self.counters.to_target.inc_by(more.to_far);
        self.counters.to_client.inc_by(more.to_near);
    }
}
