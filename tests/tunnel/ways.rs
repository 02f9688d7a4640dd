//! Addresses: IPv6, and an entrypoint that moves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::hub::{Hub, Workshop};
use crate::transfer::{Echo, target, whole_connection};

/// An agent finds an entrypoint that moved.
const MOVED: Duration = Duration::from_secs(10);

/// The server, the way to it and the target.
pub(crate) fn ipv6(workshop: &Workshop) -> Result<()> {
    let here = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let server = workshop.server("server-v6", 1, here)?;
    let _agent = workshop.agent(("::1", server.agents.port()), &[])?;
    server.has_agents(1, MOVED);
    let runtime = &workshop.runtime;
    let echo = runtime.block_on(Echo::start("::1"))?;
    let dialer = workshop.dialer(server.frontend)?;
    runtime.block_on(whole_connection(&dialer, &target(echo.address)?))
}

/// The entrypoint leads to another server from one moment to the next, and the old one is gone: as
/// when a load balancer or its DNS record is replaced.
pub(crate) fn address_changes(workshop: &Workshop) -> Result<()> {
    let mut hub = Hub::start(workshop, 1, 1)?;
    let old = hub.servers.remove(0);
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    hub.servers.push(workshop.server("server-moved", 1, here)?);
    hub.update_balancers();
    let begin = Instant::now();
    drop(old);
    hub.is_connected();
    let took = begin.elapsed();
    ensure!(took < MOVED, "it took {took:?}");
    let echo = workshop.runtime.block_on(Echo::start("127.0.0.1"))?;
    let entrypoint: SocketAddr = hub.user_side.address();
    let dialer = workshop.dialer(entrypoint)?;
    workshop
        .runtime
        .block_on(whole_connection(&dialer, &target(echo.address)?))
}
