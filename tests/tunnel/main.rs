//! The tunnel as processes: several servers behind one address, and what happens when one of the
//! parts ends, dies or falls silent. `CLUSTER_PROXY_LONG=1` waits longer where the wait is the test.

mod endings;
mod hub;
mod parts;
mod rollouts;
mod silence;
mod transfer;
mod ways;

use std::process::ExitCode;

use crate::hub::Workshop;

fn main() -> ExitCode {
    // Parts that a test kills are processes: this program again.
    if let Some(code) = parts::run_if_asked() {
        return code;
    }
    cluster_proxy_tests::run(
        "tunnel",
        Workshop::new,
        &[
            ("a server that is terminated", rollouts::server_terminated),
            ("a server that is killed", rollouts::server_killed),
            ("a server that falls silent", rollouts::server_silent),
            ("an agent that is replaced", rollouts::agent_replaced),
            ("one server that restarts", rollouts::only_server_restarts),
            ("a transfer whose client is killed", endings::client_killed),
            ("a transfer whose server is killed", endings::server_killed),
            ("a transfer whose agent is killed", endings::agent_killed),
            ("a transfer whose target is killed", endings::target_killed),
            ("an end of each side alone", endings::half_closes),
            ("IPv6", ways::ipv6),
            ("an entrypoint whose address changes", ways::address_changes),
            ("peers that fall silent are found", silence::found),
        ],
    )
}
