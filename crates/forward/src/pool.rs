//! Connections to one destination, kept and shared.
//!
//! Nothing is dialled per request. A request takes a free stream of the connection with the fewest;
//! another connection is opened ahead of need, by a task of its own, before the peer's limit of
//! streams is reached or when a connection does not move. A connection that died before it could
//! have shown a request to the peer costs another try; a request that the peer may have seen is
//! never sent twice (RFC 9110 section 9.2.2, RFC 9113 section 8.7).

mod connection;
mod http1;
mod http2;
mod metrics;
mod outgoing;
mod roster;
mod settings;
mod traffic;
mod upgrade;
mod upload;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::connect::{Connect, Dialled, Offer, Protocol};
use crate::error::{DialFailure, SendError};

use connection::{Connection, Home, Slot, Transport, drive_http1, drive_http2};
pub(crate) use http1::Http1Body;
pub(crate) use http2::Http2Body;
pub use metrics::PoolMetrics;
pub use outgoing::Origin;
use outgoing::{Failure, Outgoing};
use roster::{Roster, Taken};
pub use settings::{Class, PoolSettings};
use settings::{MAX_ATTEMPTS, MAX_CLOSED_MET};
use traffic::{Counted, Traffic};
pub use upgrade::{Switched, Upgrade};

/// Kept connections to one destination. Clones share them; when the last clone is gone, each
/// connection closes with its last request.
pub struct Pool<C: Connect> {
    shared: Arc<Shared<C>>,
}

struct Shared<C: Connect> {
    connector: C,
    origin: Origin,
    settings: PoolSettings,
    metrics: PoolMetrics,
    /// Owns the tasks of dials, connections and uploads.
    tasks: TaskTracker,
    rosters: [Mutex<Roster<C::Error>>; 2],
    upgrades: Arc<Semaphore>,
    this: Weak<Self>,
}

impl<C: Connect> Pool<C> {
    /// A pool that dials with `connector` when the first request comes.
    pub fn new(connector: C, origin: Origin, settings: PoolSettings, metrics: PoolMetrics) -> Self {
        let upgrades = Arc::new(Semaphore::new(settings.max_upgrades));
        let shared = Arc::new_cyclic(|this| Shared {
            connector,
            origin,
            settings,
            metrics,
            tasks: TaskTracker::new(),
            rosters: [Class::Short, Class::Long].map(|class| Mutex::new(Roster::new(class))),
            upgrades,
            this: Weak::clone(this),
        });
        Self { shared }
    }

    /// Sends a request and returns the answer's head, with its content still to come.
    ///
    /// The request's hop-by-hop fields must be gone ([`crate::headers::remove_hop_by_hop`]). Its
    /// URI gives path and query; scheme and authority are the pool's. Dropping the future or the
    /// answer's body cancels the exchange.
    ///
    /// # Errors
    /// See [`SendError`]. `head_timeout` bounds the wait for the head, not that for a connection.
    pub async fn send(
        &self,
        request: Request<Body>,
        class: Class,
        head_timeout: Option<Duration>,
    ) -> Result<Response<Body>, SendError<C::Error>> {
        let shared = &*self.shared;
        shared.metrics.requests.inc();
        let mut outgoing = Outgoing::new(request, shared.origin.clone());
        let had_body = outgoing.upload.is_some();
        let (mut attempts, mut closed_met) = (0, 0);
        loop {
            let slot = shared.slot(class).await?;
            let failure = match shared.exchange(slot, &mut outgoing, head_timeout).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let replayable = outgoing.is_replayable(had_body);
            match failure {
                Failure::Closed { .. } if replayable && closed_met < MAX_CLOSED_MET => {
                    closed_met += 1;
                    shared.metrics.retries.inc();
                }
                Failure::Unseen { .. } if replayable && attempts < MAX_ATTEMPTS - 1 => {
                    attempts += 1;
                    shared.metrics.retries.inc();
                }
                Failure::Closed { cause } | Failure::Unseen { cause } => {
                    let attempts = attempts + closed_met + 1;
                    return Err(SendError::NotTaken { attempts, cause });
                }
                Failure::Broken { cause } => return Err(SendError::Broken { cause }),
                Failure::HeadTimedOut { after } => return Err(SendError::HeadTimedOut { after }),
                Failure::RequestBody { source } => return Err(SendError::RequestBody { source }),
                Failure::Malformed { cause } => return Err(SendError::Malformed { cause }),
            }
        }
    }

    /// Since when no request has been on any connection; `None` while one is, or before the first.
    pub fn idle_since(&self) -> Option<Instant> {
        let mut latest = None;
        for class in [Class::Short, Class::Long] {
            let roster = self.shared.roster(class);
            match roster.idle_since() {
                Some(since) => latest = latest.max(Some(since)),
                None if roster.is_unused() => {}
                None => return None,
            }
        }
        latest
    }

    /// Whether the pool holds no connection and nobody waits for one.
    pub fn is_unused(&self) -> bool {
        let no_upgrade =
            self.shared.upgrades.available_permits() == self.shared.settings.max_upgrades;
        no_upgrade
            && [Class::Short, Class::Long]
                .into_iter()
                .all(|class| self.shared.roster(class).is_unused())
    }
}

impl<C: Connect> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<C: Connect> fmt::Debug for Pool<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("origin", &self.shared.origin)
            .finish_non_exhaustive()
    }
}

impl<C: Connect> Shared<C> {
    fn roster(&self, class: Class) -> MutexGuard<'_, Roster<C::Error>> {
        // Counts are changed in one step each, so a panic elsewhere leaves them whole.
        self.rosters[class.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A free stream, waiting for a dial or for another request's end if need be.
    async fn slot(&self, class: Class) -> Result<Slot, SendError<C::Error>> {
        let (taken, dials) = {
            let mut roster = self.roster(class);
            let taken = roster.take(&self.settings);
            (taken, roster.dials_to_start(&self.settings))
        };
        self.start_dials(class, dials);
        let (granted, connections) = match taken {
            Taken::Slot(slot) => return Ok(slot),
            Taken::Full { connections } => return Err(self.no_slot(Duration::ZERO, connections)),
            Taken::Wait {
                granted,
                connections,
            } => (granted, connections),
        };
        let patience = if connections == 0 {
            // A dial is under way and ends by itself; the rest is for its task to be scheduled.
            self.settings.dial_timeout + self.settings.slot_timeout
        } else {
            self.settings.slot_timeout
        };
        match timeout(patience, granted).await {
            Ok(Ok(granted)) => granted.map_err(SendError::from),
            Ok(Err(_)) | Err(_) => {
                let connections = self.roster(class).connections();
                Err(self.no_slot(patience, connections))
            }
        }
    }

    fn no_slot(&self, waited: Duration, connections: usize) -> SendError<C::Error> {
        self.metrics.no_slot.inc();
        SendError::NoSlot {
            waited,
            connections,
        }
    }

    async fn exchange(
        &self,
        slot: Slot,
        outgoing: &mut Outgoing,
        head_timeout: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let connection = Arc::clone(slot.connection());
        match connection.transport() {
            Transport::Http2 { sender, .. } => {
                http2::exchange(
                    slot,
                    sender,
                    outgoing,
                    &self.settings,
                    &self.tasks,
                    head_timeout,
                )
                .await
            }
            Transport::Http1 { .. } => http1::exchange(slot, outgoing, head_timeout).await,
        }
    }

    fn start_dials(&self, class: Class, dials: usize) {
        for _ in 0..dials {
            let Some(this) = self.this.upgrade() else {
                return;
            };
            // A task of its own: the request that asked for it may go away, others still wait.
            self.tasks.spawn(async move { this.dial(class).await });
        }
    }

    async fn dial(&self, class: Class) {
        self.metrics.dialled.inc();
        let after = self.settings.dial_timeout;
        let made = timeout(after, self.make_connection(class))
            .await
            .unwrap_or(Err(DialFailure::TimedOut { after }));
        let (leftover, dials) = match made {
            Ok(connection) => {
                let mut roster = self.roster(class);
                let leftover = roster.add(connection, &self.settings);
                let dials = roster.dials_if_waited_for(&self.settings);
                (leftover, dials)
            }
            Err(failure) => {
                self.metrics.dial_failures.inc();
                self.roster(class).dial_failed(&failure);
                return;
            }
        };
        leftover.give_back();
        self.start_dials(class, dials);
    }

    async fn make_connection(
        &self,
        class: Class,
    ) -> Result<Arc<Connection>, DialFailure<C::Error>> {
        let Dialled { io, protocol } =
            self.connector
                .connect(Offer::Http2OrHttp1)
                .await
                .map_err(|source| DialFailure::Connect {
                    source: Arc::new(source),
                })?;
        let traffic = Arc::new(Traffic::default());
        let io = Counted::new(io, Arc::clone(&traffic));
        let home: Weak<dyn Home> = self.this.clone();
        let make = |transport| {
            Connection::new(
                class,
                transport,
                Arc::clone(&traffic),
                Weak::clone(&home),
                self.metrics.open.clone(),
            )
        };
        let keepalive = self.settings.keepalive;
        match protocol {
            Protocol::Http2 => {
                let (sender, frames) =
                    http2::handshake(io, class, &self.settings)
                        .await
                        .map_err(|error| DialFailure::Handshake {
                            cause: error.to_string(),
                        })?;
                let (transport, limits) = http2::transport(sender);
                let connection = make(transport);
                let view = Arc::downgrade(&connection);
                self.tasks.spawn(drive_http2(
                    frames, view, limits, traffic, home, class, keepalive,
                ));
                Ok(connection)
            }
            Protocol::Http1 => {
                let (sender, driver) =
                    http1::handshake(io)
                        .await
                        .map_err(|error| DialFailure::Handshake {
                            cause: error.to_string(),
                        })?;
                let connection = make(Transport::http1(sender));
                let view = Arc::downgrade(&connection);
                self.tasks.spawn(drive_http1(driver, view, home, keepalive));
                Ok(connection)
            }
        }
    }
}

impl<C: Connect> Home for Shared<C> {
    fn released(&self, connection: &Arc<Connection>) {
        let leftover = self
            .roster(connection.class)
            .released(connection, &self.settings);
        leftover.give_back();
    }

    fn closed(&self, connection: &Arc<Connection>) {
        let class = connection.class;
        let dials = {
            let mut roster = self.roster(class);
            roster.remove(connection);
            roster.dials_if_waited_for(&self.settings)
        };
        self.start_dials(class, dials);
    }

    fn settled(&self, class: Class) {
        let (leftover, dials) = {
            let mut roster = self.roster(class);
            let leftover = roster.serve(&self.settings);
            (leftover, roster.dials_if_waited_for(&self.settings))
        };
        leftover.give_back();
        self.start_dials(class, dials);
    }

    fn let_go_if_due(&self, connection: &Arc<Connection>) {
        self.roster(connection.class)
            .remove_if_due(connection, &self.settings);
    }
}

#[cfg(test)]
mod tests;
