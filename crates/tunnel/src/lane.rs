//! The native tunnel: a TLS connection dialled by the agent, and inside it HTTP/2 with the roles
//! turned, so that the hub opens streams through a connection it could not have dialled.
//!
//! The first stream is the control stream, `POST /lane/v1`: the two heads introduce the ends to
//! each other, and the two bodies stay open for small messages. Each other stream is one
//! tunnelled connection, `CONNECT host:port`. When the lane dies, every stream on it errors.
//!
//! [`HubLane`] is the proxy-server's end, [`AgentLane`] the agent's.

mod agent;
mod control;
mod hello;
mod hub;

pub use agent::{AgentLane, LaneEvent};
pub use hello::{AGENT_TOKENS, AgentHello, ServerHello};
pub use hub::{HubLane, HubLaneDriver};

/// The TLS application protocol (RFC 7301) of a lane.
pub const LANE_ALPN: &[u8] = b"cluster-proxy-lane/1";

/// How this protocol is called in errors.
const PROTOCOL: &str = "cluster-proxy-lane/1";

/// The path of the control stream.
const CONTROL_PATH: &str = "/lane/v1";
