//! The native tunnel: a TLS connection dialled by the agent, and inside it HTTP/2 with the roles
//! turned, so that the hub opens streams through a connection it could not have dialled.
//!
//! The first stream is the control stream, `POST /lane/v1`: the two heads introduce the ends to
//! each other, and the two bodies stay open for small messages. Each other stream is one
//! tunnelled connection, `CONNECT host:port`. When the lane dies, every stream on it errors.
//!
//! An agent may have several lanes to one server ([`LANES`]): what fills the socket of one, or a
//! packet lost on it, holds up its own streams only. The server opens a stream on the lane with the
//! fewest busy ones, and asks for one more lane when each has some.
//!
//! Forward compatible: each end says in its introduction what it can do beyond the first version,
//! unknown capabilities and control messages are ignored, and nothing is asked of an end that did
//! not say that it can.
//!
//! [`HubLane`] is the proxy-server's end, [`AgentLane`] the agent's.

mod agent;
mod control;
mod hello;
mod hub;

pub use agent::{AgentLane, LaneEvent};
pub use hello::{AGENT_TOKENS, AgentHello, MAX_PING_INTERVAL, ServerHello};
pub use hub::{HubLane, HubLaneDriver};

/// The TLS application protocol (RFC 7301) of a lane.
pub const LANE_ALPN: &[u8] = b"cluster-proxy-lane/1";

/// The capability of an end that several lanes between one agent and one server are one agent's.
pub const LANES: &str = "lanes";

/// The most lanes between one agent and one server: busy streams beyond this share them.
pub const MAX_LANES: usize = 16;

/// How this protocol is called in errors.
const PROTOCOL: &str = "cluster-proxy-lane/1";

/// The path of the control stream.
const CONTROL_PATH: &str = "/lane/v1";
