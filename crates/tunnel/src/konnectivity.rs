//! The tunnel of konnectivity (kubernetes-sigs/apiserver-network-proxy 0.36), for agents, servers
//! and clients that are not ours: gRPC over HTTP/2, all connections of an agent on one stream.
//!
//! [`AgentStream`] is the proxy-server's end of an agent's stream, [`ServerStream`] the agent's.
//! Both have the face of a lane's ends, and what they connect is a
//! [`TunnelStream`](crate::TunnelStream) like any other.
//!
//! One task owns an agent's stream: its table, its flow policy, both halves of the gRPC stream and
//! the HTTP/2 connection under it. A connection's user and that task share a `Pipe`; whatever the
//! user does puts the connection on a list that has each one once, so that nothing is lost and
//! nothing grows when the task is busy.
//!
//! The protocol knows no half-close. An end of file towards the other side is therefore kept here:
//! at the server's end the connection is cut once its target has been silent for a while after it,
//! see `server.rs`.

mod agent;
mod clock;
mod dial_words;
mod frontend;
mod grpc;
mod inbox;
mod outbox;
mod packet_counts;
mod pipe;
mod ready;
mod server;

pub use agent::ServerStream;
pub use packet_counts::PacketCounts;
pub use server::{AgentStream, AgentStreamDriver, PendingAgent};

pub(crate) use frontend::{ClientPipe, PendingClient};
pub(crate) use grpc::is_call;
pub(crate) use pipe::{DialRequest, Pipe};

/// The TLS application protocol (RFC 7301) of gRPC.
pub const KONNECTIVITY_ALPN: &[u8] = b"h2";

/// How this protocol is called in errors.
const PROTOCOL: &str = "konnectivity";
