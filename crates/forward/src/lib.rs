//! One HTTP exchange handed on.
//!
//! Towards the destination there is [`Pool`]: kept connections, several of them, on which requests
//! share HTTP/2 streams; [`Pool::upgrade`] gives SPDY and WebSocket a connection of their own. From
//! the client there is [`server`], which accepts TLS connections and hands each request to a
//! [`server::Front`]. [`Body`] carries content both ways without gathering it, and [`headers`]
//! keeps each hop's fields on that hop.
//!
//! Path and query are never decoded or normalised here: they go out as the bytes that came in. (A
//! fragment, which no client should send, is cut off by the HTTP parser before anybody sees it.)
//!
//! Nothing in this crate knows Kubernetes, or how a connection is made.

mod body;
mod code_class;
mod connect;
mod error;
mod exchange;
pub mod headers;
mod pool;
mod pools;
pub mod server;
pub mod target;
pub mod tls;

pub use body::{Body, BodyError};
pub use code_class::CodeClass;
pub use connect::{Connect, Dialled, Offer, Protocol};
pub use error::SendError;
pub use exchange::{ClientUpgrade, End, HandOn, HandedOn, Metered, Relay, Report};
pub use pool::{Class, Origin, Pool, PoolMetrics, PoolSettings, Switched, Upgrade};
pub use pools::{Pools, TooManyPools};
