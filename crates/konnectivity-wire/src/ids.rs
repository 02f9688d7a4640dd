//! The three numbers that name a connection, each on its own stretch of the way.

use std::num::NonZeroI64;

/// A connection on an agent's stream: `connectID`, chosen by the agent, never 0, unique on that
/// stream only (client.proto; 0 stands for "none" in a failed DIAL_RSP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectId(NonZeroI64);

impl ConnectId {
    /// The id with this number; `None` for 0, which names no connection.
    #[must_use]
    pub const fn new(number: i64) -> Option<Self> {
        match NonZeroI64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0.get()
    }
}

/// A dial until it is answered: `random`, chosen by who asks for it. It proves nothing: a client
/// chooses what it likes, so it is only compared within one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(i64);

impl DialId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// One connection that somebody on the hub asked for. Never on the wire: the caller of a
/// [`ServerTable`](crate::server_table::ServerTable) numbers its frontends and never reuses a
/// number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendId(u64);

impl FrontendId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}
