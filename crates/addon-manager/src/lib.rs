//! The addon's controllers on the hub.
//!
//! Each reads an object, renders what should be (pure), applies it as a field manager of its own
//! and writes a status only when it changed. One manager leads at a time; an object that cannot be
//! parsed holds up nothing but itself.

pub mod addon;
pub mod apply;
pub mod certificate_authority;
pub mod certificates;
pub mod cluster_profile;
pub mod conditions;
mod config;
pub mod configuration;
pub mod context;
pub mod controller;
pub mod crd;
pub mod csr;
pub mod deploy;
pub mod deployment_config;
pub mod entrypoint;
pub mod events;
pub mod failure;
#[cfg(test)]
pub(crate) mod fleet_testing;
pub mod leader_election;
pub mod management_addon;
pub mod manager;
mod metrics;
pub mod ownership;
pub mod reachability;
pub mod registration;
pub mod render;
#[cfg(test)]
mod rights_tests;
pub mod shared_certificate;
#[cfg(test)]
pub(crate) mod testing;

pub use config::{Duty, FIELD_MANAGER, ManagerConfig};
pub use context::Context;
pub use manager::Manager;
pub use metrics::Metrics;
