//! Servers and agents come and go; who wants a new connection has it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::hub::{DRAIN, Hub, START_LIMIT, Workshop};
use crate::transfer::{
    Echo, PATIENCE, keep_connecting, round_trip, soon, target, whole_connection,
};

/// How soon a new connection is there after a server or an agent has ended, or died.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The same after a server fell silent: what is under way is tried on another after 1 s.
const AFTER_SILENCE: Duration = Duration::from_millis(2500);

/// How long new connections are made after an event.
const WATCHED: Duration = Duration::from_secs(4);

pub(crate) fn server_terminated(workshop: &Workshop) -> Result<()> {
    let mut hub = Hub::start(workshop, 3, 2)?;
    let runtime = &workshop.runtime;
    let echo = runtime.block_on(Echo::start("127.0.0.1"))?;
    let target = target(echo.address)?;
    let dialer = workshop.dialer(hub.user_side.address())?;
    let at_first = workshop.dialer(hub.servers[0].frontend)?;
    let (mut finishes, mut stays) = runtime.block_on(async {
        for _ in 0..4 {
            whole_connection(&dialer, &target).await?;
        }
        let mut two = (
            at_first.connect(&target).await?,
            at_first.connect(&target).await?,
        );
        round_trip(&mut two.0).await?;
        round_trip(&mut two.1).await?;
        anyhow::Ok(two)
    })?;

    let begin = Instant::now();
    hub.servers[0].running.signal(Signal::TERM)?;
    let mut drained = hub.servers.remove(0);
    runtime.block_on(async {
        let existing = async {
            // What is open goes on, and ends by itself in order.
            for _ in 0..10 {
                round_trip(&mut finishes).await.context("while draining")?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            finishes.shutdown().await?;
            ensure!(finishes.read(&mut [0; 1]).await? == 0, "more came");
            round_trip(&mut stays).await.context("while draining")?;
            // Or at the deadline, with an error.
            let end = soon("the deadline", stays.read(&mut [0; 1])).await?;
            ensure!(end.is_err(), "a cut looked like an end");
            let took = begin.elapsed();
            ensure!(took >= DRAIN, "cut after {took:?}");
            Ok(())
        };
        let new = keep_connecting(&dialer, &target, WATCHED, AT_ONCE);
        tokio::try_join!(existing, new)
    })?;
    drained.running.wait(PATIENCE)?;

    // Another one takes its place, and every agent finds it.
    let replacement = workshop.server("server-3", 3, drained.frontend.ip())?;
    hub.servers.push(replacement);
    hub.update_balancers();
    hub.is_connected();
    Ok(())
}

pub(crate) fn server_killed(workshop: &Workshop) -> Result<()> {
    let mut hub = Hub::start(workshop, 3, 2)?;
    let runtime = &workshop.runtime;
    let echo = runtime.block_on(Echo::start("127.0.0.1"))?;
    let target = target(echo.address)?;
    let dialer = workshop.dialer(hub.user_side.address())?;
    runtime.block_on(async {
        for _ in 0..4 {
            whole_connection(&dialer, &target).await?;
        }
        anyhow::Ok(())
    })?;
    hub.servers[0].running.kill()?;
    runtime.block_on(keep_connecting(&dialer, &target, WATCHED, AT_ONCE))?;
    // The same one comes back, under the same name.
    hub.servers[0] = workshop.restart(&hub.servers[0], "server-0", 3)?;
    hub.is_connected();
    Ok(())
}

/// Nobody is told: not the agents, and not the users.
pub(crate) fn server_silent(workshop: &Workshop) -> Result<()> {
    let hub = Hub::start(workshop, 3, 2)?;
    let runtime = &workshop.runtime;
    let echo = runtime.block_on(Echo::start("127.0.0.1"))?;
    let target = target(echo.address)?;
    let dialer = workshop.dialer(hub.user_side.address())?;
    runtime.block_on(async {
        for _ in 0..4 {
            whole_connection(&dialer, &target).await?;
        }
        anyhow::Ok(())
    })?;
    for server in &hub.servers[..1] {
        hub.agent_side.silence(server.agents);
        hub.user_side.silence(server.frontend);
    }
    let silent = if std::env::var_os("CLUSTER_PROXY_LONG").is_some() {
        Duration::from_secs(30)
    } else {
        Duration::from_secs(6)
    };
    runtime.block_on(keep_connecting(&dialer, &target, silent, AFTER_SILENCE))?;
    for server in &hub.servers[..1] {
        hub.agent_side.hear_again(server.agents);
        hub.user_side.hear_again(server.frontend);
    }
    hub.is_connected();
    runtime.block_on(keep_connecting(&dialer, &target, AT_ONCE, AT_ONCE))?;
    Ok(())
}

pub(crate) fn agent_replaced(workshop: &Workshop) -> Result<()> {
    let mut hub = Hub::start(workshop, 3, 2)?;
    let runtime = &workshop.runtime;
    let echo = runtime.block_on(Echo::start("127.0.0.1"))?;
    let target = target(echo.address)?;
    let dialer = workshop.dialer(hub.user_side.address())?;
    runtime.block_on(whole_connection(&dialer, &target))?;

    // As a machine that fails.
    let mut killed = hub.agents.remove(0);
    killed.kill()?;
    runtime.block_on(keep_connecting(&dialer, &target, AT_ONCE, AT_ONCE))?;
    hub.add_agent(&[])?;
    hub.is_connected();

    // As a rollout does: each agent has some of these.
    let mut open = runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..8 {
            let mut stream = dialer.connect(&target).await?;
            round_trip(&mut stream).await?;
            open.push(stream);
        }
        anyhow::Ok(open)
    })?;
    let mut replaced = hub.agents.remove(0);
    hub.add_agent(&[])?;
    replaced.signal(Signal::TERM)?;
    runtime.block_on(async {
        let existing = async {
            for stream in &mut open {
                round_trip(stream).await.context("while draining")?;
                stream.shutdown().await?;
                let end = soon("the end", stream.read(&mut [0; 1])).await??;
                ensure!(end == 0, "more came");
            }
            Ok(())
        };
        tokio::try_join!(
            existing,
            keep_connecting(&dialer, &target, WATCHED / 2, AT_ONCE)
        )
    })?;
    let status = replaced.wait(PATIENCE)?;
    ensure!(status.success(), "the agent ended with {status}");
    hub.is_connected();
    Ok(())
}

pub(crate) fn only_server_restarts(workshop: &Workshop) -> Result<()> {
    let mut hub = Hub::start(workshop, 1, 2)?;
    let status = hub.servers[0].running.terminate()?;
    ensure!(status.success(), "the server ended with {status}");
    // The agents try in vain for a while.
    std::thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    hub.servers[0] = workshop.restart(&hub.servers[0], "server-new", 1)?;
    hub.servers[0].has_agents(hub.agents.len(), START_LIMIT);
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(10), "it took {took:?}");
    let echo = workshop.runtime.block_on(Echo::start("127.0.0.1"))?;
    let dialer = workshop.dialer(hub.user_side.address())?;
    workshop
        .runtime
        .block_on(whole_connection(&dialer, &target(echo.address)?))
}
