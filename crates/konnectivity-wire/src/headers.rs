//! Names outside of the packets: paths of the two services, headers of a stream (proto/header and
//! the two `.proto` files of apiserver-network-proxy).
//!
//! Header names are in lower case, as HTTP/2 has them on the wire (RFC 9113 section 8.2); Go's
//! code spells them `agentID`, `serverCount` and so on. The value of [`AGENT_IDENTIFIERS`] is
//! `cluster_proxy_identity::AnnouncedIdentifiers`.

/// Client to server, one stream for each connection.
pub const PROXY_PATH: &str = "/ProxyService/Proxy";

/// Agent to server, one stream for all connections of the agent.
pub const CONNECT_PATH: &str = "/AgentService/Connect";

/// Content type of both (gRPC over HTTP/2). Servers also take it with a suffix, `+proto`.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Request header of an agent, exactly one: who it is; a uuid unless set.
pub const AGENT_ID: &str = "agentid";

/// Request header of an agent, at most one: what it can be found under.
pub const AGENT_IDENTIFIERS: &str = "agentidentifiers";

/// Request header of an agent that proves its service account; with [`BEARER`] before the token.
pub const AUTHORIZATION: &str = "authorization";

/// What stands before the token, spelt exactly so: Go's server compares with regard to case.
pub const BEARER: &str = "Bearer ";

/// Response header of a server, exactly one: who it is.
pub const SERVER_ID: &str = "serverid";

/// Response header of a server, exactly one: how many servers an agent should be connected to, in
/// decimal.
pub const SERVER_COUNT: &str = "servercount";
