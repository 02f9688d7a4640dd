//! The protocol of konnectivity (kubernetes-sigs/apiserver-network-proxy 0.36): packets, ids and
//! names on the wire, and what each end does with them.
//!
//! Nothing here does IO or knows a clock. The tables take `(now, event)` and give actions, `now`
//! being the time since any fixed moment; the caller owns the streams, sockets and timers.
//!
//! ```text
//!  client ── Packet ─▶ ClientStream ─ event ─▶ ServerTable ── Packet ─▶ AgentTable ─▶ target
//!         ◀─ Packet ──             ◀─ action ─             ◀─ Packet ──            ◀─
//!          one stream a connection               one stream an agent
//! ```
//!
//! [`flow`] decides when the stream that all connections of an agent share is paused, and which
//! connection is closed alone: the protocol has no flow control of its own.

pub mod agent_table;
pub mod client_stream;
mod deadlines;
mod dial_failure;
pub mod flow;
pub mod framing;
pub mod headers;
mod ids;
mod messages;
mod packet;
mod peer_text;
pub mod server_table;
mod stray;

pub use dial_failure::{DialFailureKind, NO_AGENT};
pub use ids::{ConnectId, DialId, FrontendId};
pub use packet::{MAX_ADDRESS, Packet, PacketError};
pub use peer_text::PeerText;
pub use stray::Stray;
