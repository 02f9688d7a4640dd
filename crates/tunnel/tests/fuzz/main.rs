//! The fuzz targets of the tunnel, for a moment each: without libFuzzer, by a seeded driver. See
//! fuzz/README.md.

#![allow(
    unused_attributes,
    reason = "each target is a program of its own for libFuzzer"
)]

mod driver;

#[path = "../../../../fuzz/src/agent_hello.rs"]
mod agent_hello;
#[path = "../../../../fuzz/src/fields.rs"]
mod fields;
#[path = "../../../../fuzz/src/paused.rs"]
mod paused;

// What the targets call these crates.
extern crate self as cluster_proxy_fuzz;
extern crate self as libfuzzer_sys;

pub use agent_hello::agent_hello;
pub use fields::headers;
pub use paused::run;

pub(crate) use driver::fuzz_target;

#[path = "../../../../fuzz/fuzz_targets/agent_identifiers.rs"]
mod agent_identifiers;
#[path = "../../../../fuzz/fuzz_targets/connect_authority.rs"]
mod connect_authority;
#[path = "../../../../fuzz/fuzz_targets/frontend.rs"]
mod frontend;
#[path = "../../../../fuzz/fuzz_targets/hostile_agent.rs"]
mod hostile_agent;
#[path = "../../../../fuzz/fuzz_targets/hostile_server.rs"]
mod hostile_server;
#[path = "../../../../fuzz/fuzz_targets/konnectivity_packets.rs"]
mod konnectivity_packets;
#[path = "../../../../fuzz/fuzz_targets/konnectivity_tables.rs"]
mod konnectivity_tables;
#[path = "../../../../fuzz/fuzz_targets/lane_control.rs"]
mod lane_control;

use std::process::ExitCode;

fn main() -> ExitCode {
    driver::run(&[
        ("agent_identifiers", agent_identifiers::once),
        ("connect_authority", connect_authority::once),
        ("frontend", frontend::once),
        ("hostile_agent", hostile_agent::once),
        ("hostile_server", hostile_server::once),
        ("konnectivity_packets", konnectivity_packets::once),
        ("konnectivity_tables", konnectivity_tables::once),
        ("lane_control", lane_control::once),
    ])
}
