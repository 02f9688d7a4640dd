//! The addon-agent of a managed cluster.
//!
//! It keeps the Lease by which the hub knows that the addon lives, and, with the PortForward
//! entrypoint, listens where the proxy-agent dials and carries each connection to a proxy-server
//! through the hub's kube-apiserver, so that no other port of the hub has to be open.
//!
//! What it needs on the managed cluster: `get`, `create` and `update` of Leases in its namespace.
//! What it needs on the hub for the entrypoint, in the proxy-server's namespace: `list` of pods,
//! and `get` and `create` of `pods/portforward` (a WebSocket begins with a GET; from 1.35 on the
//! kube-apiserver asks for `create` too, KEP-4006).

mod agent;
mod backoff;
mod config;
mod entrypoint;
mod lease;
mod metrics;
mod pod_socket;
mod pods;
mod probe;
mod relay;

pub use agent::AddonAgent;
pub use config::{Config, LeaseConfig, PortForwardConfig};
