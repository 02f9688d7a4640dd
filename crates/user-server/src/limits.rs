//! How much one user, and one cluster, may have under way at once, and how fast a user may ask.
//!
//! Who is over a limit is told which, and to come back: nobody waits in a queue that others fill.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::status::StatusReply;
use tokio::time::Instant;

use crate::caller::Caller;

/// The limits; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one user under way at once: watches, logs and upgraded connections included.
    pub requests_per_user: Option<u32>,
    /// The same for one cluster, of all users together.
    pub requests_per_cluster: Option<u32>,
    /// Requests of one user in a second, over ten seconds.
    pub rate_per_user: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_user: Some(2_000),
            requests_per_cluster: Some(4_000),
            rate_per_user: None,
        }
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// A user of the hub.
    User(String),
    /// Somebody whom the hub does not know, by the address.
    Address(IpAddr),
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OverLimit {
    #[error(
        "{who} has {limit} requests under way, which is the limit of one user (--max-requests-per-user)"
    )]
    User { who: String, limit: u32 },
    #[error(
        "{limit} requests for cluster \"{cluster}\" are under way, which is the limit (--max-requests-per-cluster)"
    )]
    Cluster { cluster: ClusterName, limit: u32 },
    #[error(
        "{who} sends more than {limit} requests a second, which is the limit of one user (--max-requests-per-second-per-user)"
    )]
    Rate { who: String, limit: u32 },
}

/// Counts what is under way.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    users: Counts<Who>,
    clusters: Counts<ClusterName>,
    rates: Mutex<HashMap<Who, Bucket>>,
}

/// One request that is counted, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    _user: Option<One<Who>>,
    _cluster: Option<One<ClusterName>>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            users: Counts::default(),
            clusters: Counts::default(),
            rates: Mutex::default(),
        }
    }

    /// Counts a request of `caller`, who comes from `address`, for `cluster`.
    ///
    /// # Errors
    /// Which limit it would exceed.
    pub(crate) fn admit(
        &self,
        caller: &Caller,
        address: IpAddr,
        cluster: &ClusterName,
    ) -> Result<Counted, OverLimit> {
        let who = match caller {
            Caller::HubUser(user) => Who::User(user.name.clone()),
            Caller::Stranger => Who::Address(address),
        };
        if let Some(limit) = self.limits.rate_per_user
            && !self.is_in_time(&who, limit)
        {
            let who = who.to_string();
            return Err(OverLimit::Rate { who, limit });
        }
        let user = match self.limits.requests_per_user {
            None => None,
            Some(limit) => Some(self.users.one_more(&who, limit).ok_or_else(|| {
                let who = who.to_string();
                OverLimit::User { who, limit }
            })?),
        };
        let cluster = match self.limits.requests_per_cluster {
            None => None,
            Some(limit) => Some(self.clusters.one_more(cluster, limit).ok_or_else(|| {
                let cluster = cluster.clone();
                OverLimit::Cluster { cluster, limit }
            })?),
        };
        Ok(Counted {
            _user: user,
            _cluster: cluster,
        })
    }

    /// Takes one request out of the user's bucket.
    fn is_in_time(&self, who: &Who, per_second: u32) -> bool {
        let mut rates = lock(&self.rates);
        let now = Instant::now();
        let burst = f64::from(per_second) * BURST.as_secs_f64();
        if rates.len() >= MAX_BUCKETS && !rates.contains_key(who) {
            // Who has not asked for so long has a full bucket: the same as none.
            rates.retain(|_, bucket| now.duration_since(bucket.at) < BURST);
            if rates.len() >= MAX_BUCKETS {
                return true;
            }
        }
        let bucket = rates.entry(who.clone()).or_insert(Bucket {
            left: burst,
            at: now,
        });
        let refilled = now.duration_since(bucket.at).as_secs_f64() * f64::from(per_second);
        bucket.left = (bucket.left + refilled).min(burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

impl OverLimit {
    pub(crate) fn reply(&self) -> StatusReply {
        match self {
            Self::User { .. } | Self::Rate { .. } => {
                StatusReply::too_many_requests(self.to_string(), RETRY_AFTER_SECONDS)
            }
            // Not the fault of who asks.
            Self::Cluster { .. } => {
                StatusReply::service_unavailable(self.to_string(), Some(RETRY_AFTER_SECONDS))
            }
        }
    }

    /// A short fixed word for metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::User { .. } => "requests_per_user",
            Self::Cluster { .. } => "requests_per_cluster",
            Self::Rate { .. } => "rate_per_user",
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name:?}"),
            Self::Address(address) => write!(f, "the client at {address}"),
        }
    }
}

/// How many there are of each; those of which there is none take no memory.
#[derive(Debug)]
struct Counts<K>(Arc<Mutex<HashMap<K, u32>>>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    fn one_more(&self, key: &K, limit: u32) -> Option<One<K>> {
        let mut counts = lock(&self.0);
        match counts.get_mut(key) {
            Some(count) if *count >= limit => return None,
            Some(count) => *count += 1,
            None if limit == 0 => return None,
            None => {
                counts.insert(key.clone(), 1);
            }
        }
        Some(One {
            key: key.clone(),
            counts: Arc::clone(&self.0),
        })
    }
}

/// One of a count.
#[derive(Debug)]
struct One<K: Eq + Hash> {
    key: K,
    counts: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Eq + Hash> Drop for One<K> {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// Requests that a user may still send.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a user's unused requests are saved up: kubectl and controllers ask in bursts.
const BURST: Duration = Duration::from_secs(10);

/// Users of ten seconds, about 100 bytes each. Beyond it newcomers are not counted.
const MAX_BUCKETS: usize = 100_000;

/// Somebody's request ends within it.
const RETRY_AFTER_SECONDS: u32 = 1;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cluster_proxy_identity::User;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn user(name: &str) -> Caller {
        Caller::HubUser(Arc::new(User {
            name: name.to_owned(),
            ..User::default()
        }))
    }

    fn cluster(name: &str) -> ClusterName {
        name.parse().expect("a name")
    }

    fn reason(result: Result<Counted, OverLimit>) -> &'static str {
        result.map_or_else(|over| over.reason(), |_| "admitted")
    }

    #[test]
    fn each_user_and_each_cluster_has_a_limit_of_its_own() {
        let limiter = Limiter::new(Limits {
            requests_per_user: Some(2),
            requests_per_cluster: Some(3),
            rate_per_user: None,
        });
        let admit = |who: &str, to: &str| limiter.admit(&user(who), ADDRESS, &cluster(to));
        let first = admit("alice", "one");
        let second = admit("alice", "one");
        assert_eq!(reason(admit("alice", "two")), "requests_per_user");
        let third = admit("bob", "one");
        assert_eq!(reason(admit("bob", "one")), "requests_per_cluster");
        assert_eq!(reason(admit("bob", "two")), "admitted");
        drop(first);
        assert_eq!(reason(admit("alice", "two")), "admitted");
        drop((second, third));
        assert!(lock(&limiter.users.0).is_empty() && lock(&limiter.clusters.0).is_empty());
    }

    #[test]
    fn a_request_that_is_refused_counts_nowhere() {
        let limiter = Limiter::new(Limits {
            requests_per_user: Some(1),
            requests_per_cluster: Some(0),
            rate_per_user: None,
        });
        for _ in 0..3 {
            let refused = limiter.admit(&user("alice"), ADDRESS, &cluster("one"));
            assert_eq!(reason(refused), "requests_per_cluster");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_saved_up_for_a_while() {
        let limiter = Limiter::new(Limits {
            requests_per_user: None,
            requests_per_cluster: None,
            rate_per_user: Some(2),
        });
        let admit = |who: &Caller| reason(limiter.admit(who, ADDRESS, &cluster("one")));
        let (alice, stranger) = (user("alice"), Caller::Stranger);
        for who in [&alice, &stranger] {
            for _ in 0..20 {
                assert_eq!(admit(who), "admitted");
            }
            assert_eq!(admit(who), "rate_per_user");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([admit(&alice), admit(&alice)], ["admitted"; 2]);
        assert_eq!(admit(&alice), "rate_per_user");
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..20 {
            assert_eq!(admit(&alice), "admitted");
        }
        assert_eq!(admit(&alice), "rate_per_user");
    }
}
