//! The hub's HTTPS front: `https://…/<cluster>/<kubernetes api path>` with a bearer token.
//!
//! A request is answered in this order, so that nothing about a cluster is told to who has no
//! token for it:
//!
//! 1. Who asks? A token of the hub is reviewed here and goes no further: what travels on are
//!    `X-Remote-*` headers. A token that is not the hub's may be the managed cluster's own and
//!    travels on as it came.
//! 2. Which cluster, and which target in it? Both are read off the URL's bytes as they came. A
//!    Service must be on the list of exposed ones; it learns neither token nor user.
//! 3. May this user use the cluster at all? The hub is asked, where that is switched on.
//! 4. The request goes over kept connections to that cluster's service-proxy, through the tunnel.
//!
//! Answers of ours are Kubernetes `Status` objects that say whose fault it is.

mod access;
mod address;
mod authorization;
mod caller;
mod clusters;
mod config;
mod connector;
mod cookies;
mod exposed_services;
mod exposed_services_config_map;
mod failure;
mod front;
mod limits;
mod metrics;
mod outgoing;
mod server;
mod services;

pub use config::{Config, ServicesConfig, TokenReview};
pub use exposed_services_config_map::ExposedServicesConfigMap;
pub use limits::Limits;
pub use server::UserServer;
