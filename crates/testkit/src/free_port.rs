//! Ports for programs whose flags want one.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// A loopback port that nobody has now, for a program whose flags want one. Below those that the
/// system gives away by itself, so that no outgoing connection takes it in between, and below
/// 49152, above which Go's programs refuse ports.
///
/// # Errors
/// When none is free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at the same time, whose ids are near, begin far from each other.
    let begin = u16::try_from(u64::from(std::process::id()) * STRIDE % u64::from(PORTS))?;
    for _ in 0..PORTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (begin.wrapping_add(number)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST_PORT} on")
}

const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;
/// Shares no divisor with [`PORTS`]; more than a run takes.
const STRIDE: u64 = 617;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ports_are_distinct_and_ones_that_go_takes() {
        let ports: HashSet<_> = (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| (1024..49_152).contains(port)));
    }
}
