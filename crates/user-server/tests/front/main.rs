//! The user-server between scripted ends: clients speak HTTP to it over TLS, the hub and the
//! service-proxies are doubles that remember what they were sent, and the tunnel leads straight to
//! them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod client;
mod clusters;
mod hub;
mod identity;
mod operation;
mod service_proxy;
mod services;
mod smuggling;
mod streams;
mod urls;
mod world;
