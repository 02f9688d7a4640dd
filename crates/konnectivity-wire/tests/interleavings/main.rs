//! Every interleaving of dials, answers, cancellations, closes, data, stream ends and deadlines, to
//! a stated depth: each machine against a peer that sends whatever it likes, and both ends against
//! each other. (What raced in apiserver-network-proxy: issues 126, 255, 276, 462, pull requests 871
//! and 893.)

mod agent;
mod client;
mod explorer;
mod flow;
mod pair;
mod server;

use explorer::{Found, Model, explore};

#[test]
fn a_server_keeps_its_word_whatever_the_agent_sends() {
    thoroughly(&server::World::new(), 10, 370_000);
}

#[test]
fn an_agent_keeps_its_word_whatever_the_server_sends() {
    thoroughly(&agent::World::new(), 12, 25_000);
}

#[test]
fn a_client_reaches_its_own_connection_only() {
    // All that there are.
    let found = thoroughly(&client::World::new(), 12, 100);
    assert!(found.exhausted);
}

#[test]
fn both_ends_agree_in_the_end() {
    thoroughly(&pair::World::new(pair::Peer::Ours), 10, 190_000);
}

#[test]
fn a_go_agent_that_passes_over_dial_cls_keeps_nothing() {
    thoroughly(&pair::World::new(pair::Peer::Go), 10, 190_000);
}

#[test]
fn a_shared_stream_is_never_paused_for_long() {
    thoroughly(&flow::World::new(), 12, 500_000);
}

/// Explores, and makes sure that it was no walk in a corner.
fn thoroughly(start: &impl Model, depth: usize, steps: usize) -> Found {
    let found = explore(start, depth);
    assert!(found.steps >= steps, "only {found:?}: nothing was explored");
    found
}
