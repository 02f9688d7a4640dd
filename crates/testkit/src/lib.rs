//! What tests share: the lab of two real clusters, programs that run beside a
//! test, assertions with a deadline.
//!
//! A dev-dependency only. Nothing here lets a test pass that could not run:
//! what a test needs and does not get is an error.

#![forbid(unsafe_code)]

pub mod balancer;
pub mod captured_events;
pub mod certificates;
pub mod fence;
pub mod http_proxy;
pub mod installation;
pub mod konnectivity;
pub mod lab;
pub mod process;
pub mod process_usage;
pub mod quickstart;

mod eventually;
mod free_port;

pub use eventually::{Outcome, eventually, eventually_blocking};
pub use free_port::free_port;
