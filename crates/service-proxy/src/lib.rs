//! The managed cluster's HTTPS front.
//!
//! A request arrives through the tunnel, from the hub's user-server or from any other client of the
//! tunnel, and leaves for this cluster's kube-apiserver with exactly one identity:
//!
//! ```text
//! who says so                     how it is re-issued
//! the user-server, by mTLS        impersonated: the hub user, as far as its word is bounded; or
//!                                 whom that user may impersonate in this cluster
//! a token of this cluster         as it came, on connections without our own credentials
//! a token of the hub              impersonated (where the hub is configured here)
//! an ID token                     impersonated (where an OIDC issuer is configured here)
//! a client that impersonates      token and headers as they came; the kube-apiserver decides
//! anybody else                    401, or 503 when nobody could tell
//! ```
//!
//! A request for another Service goes there as it came, without identity: which Services may be
//! reached, and by whom, is decided on the hub.

mod access;
mod acting_as;
mod apiserver;
mod config;
mod decision;
mod front;
mod impersonation;
mod metrics;
mod oidc_ca_config_map;
mod ports;
mod reply;
mod services;
mod target;

#[cfg(test)]
mod testing;

pub use config::{Config, Impersonation, OidcCa, OidcConfig};
pub use front::ServiceProxy;
pub use metrics::ServiceProxyMetrics;
