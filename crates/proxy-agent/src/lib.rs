//! Managed end of the tunnel: dials the proxy-servers, and on their behalf the targets that are
//! reachable from here.

mod agent;
mod backoff;
mod config;
mod connect;
mod konnectivity_metrics;
mod lane;
mod metrics;
mod serve;
mod server_leases;
mod servers;

pub use agent::ProxyAgent;
pub use config::{Config, DEFAULT_LANES};
pub use connect::ConnectError;
pub use server_leases::{ServerCountSource, ServerLeasesConfig};
