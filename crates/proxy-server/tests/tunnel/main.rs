//! The whole tunnel in one process: dialer, proxy-server, proxy-agent and targets over loopback
//! sockets with mutual TLS.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod access;
mod drain;
mod faults;
mod floods;
mod harness;
mod http_proxy;
mod identity;
mod konnectivity;
mod kube_hub;
mod lanes;
mod leases;
mod status;
mod streams;
mod table;
mod tokens;
