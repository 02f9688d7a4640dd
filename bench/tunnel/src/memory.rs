//! Memory: of programs that do nothing, of idle connections and idle agents, of readers that take
//! nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::front::Protocol;
use crate::load::{as_f64, round_trip, round_trips};
use crate::process::Memory;
use crate::system::{Kind, System, Workshop};
use crate::target::{Direction, Targets, Transfer};

/// Until a program's memory is what it keeps: Go's collector runs when it likes.
const SETTLE: Duration = Duration::from_secs(1);

/// Idle connections of one system, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Idle {
    /// Of hub and agent without a connection.
    pub(crate) base: [Memory; 2],
    /// RSS of each for one connection.
    pub(crate) each: [f64; 2],
}

/// Starts the system anew and opens so many connections that do nothing.
pub(crate) async fn idle_connections(
    workshop: &Workshop,
    targets: &Targets,
    kind: Kind,
    protocol: Protocol,
    count: usize,
) -> Result<Idle> {
    let system = System::start(workshop, kind).await?;
    let front = system.front(workshop, protocol)?;
    sleep(SETTLE).await;
    let base = system.memory()?;
    let mut dials = JoinSet::new();
    let mut held = Vec::new();
    let target = targets.echo;
    for _ in 0..count {
        if dials.len() >= AT_A_TIME {
            held.push(dials.join_next().await.context("no dial")???);
        }
        let front = front.clone();
        dials.spawn(async move {
            let mut tunnel = front.dial(target).await?;
            // The whole way is there, and every buffer was used once.
            round_trip(&mut tunnel, 1).await?;
            anyhow::Ok(tunnel)
        });
    }
    while let Some(tunnel) = dials.join_next().await {
        held.push(tunnel??);
    }
    sleep(SETTLE).await;
    let loaded = system.memory()?;
    // A connection that was lost meanwhile would look cheap.
    for tunnel in &mut held {
        timeout(STALL, round_trip(tunnel, 2))
            .await
            .context("an idle connection is dead")??;
    }
    let count = as_f64(u64::try_from(held.len())?);
    let each = [0, 1].map(|end: usize| (loaded[end].rss - base[end].rss) / count);
    Ok(Idle { base, each })
}

/// Dials at a time.
const AT_A_TIME: usize = 8;

/// Hub memory for one idle agent, in KiB of RSS. Go's agents are processes, ours share one.
pub(crate) async fn idle_agents(workshop: &Workshop, kind: Kind, count: usize) -> Result<f64> {
    let system = System::start_hub(workshop, kind).await?;
    sleep(SETTLE).await;
    let before = Memory::of(system.hub.id())?;
    let mut agents = Vec::new();
    if kind == Kind::Ours {
        agents.push(system.add_idle_agents(workshop, count)?);
    } else {
        for _ in 0..count {
            agents.push(system.add_agent(workshop).await?);
        }
    }
    sleep(SETTLE).await;
    let after = Memory::of(system.hub.id())?;
    for agent in &mut agents {
        let ended = agent.exited()?;
        anyhow::ensure!(ended.is_none(), "an idle agent ended: {ended:?}");
    }
    Ok((after.rss - before.rss) / as_f64(u64::try_from(count)?))
}

/// What readers that never read do to others of the same agent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stalled {
    pub(crate) readers: usize,
    /// Round trips before there were any, in microseconds.
    pub(crate) before: f64,
    /// The same beside them; `None`: nothing came back in time.
    pub(crate) beside: Option<f64>,
    /// How much the hub and the agent grew, in KiB.
    pub(crate) growth: [f64; 2],
}

/// How long a round trip may take beside stalled readers before it counts as blocked.
const STALL: Duration = Duration::from_secs(5);

/// What each stalled reader asked for: far beyond every buffer.
const STALLED_TRANSFER: u64 = 1024 * 1024 * 1024;

/// Until all buffers on the way are full.
const FILL: Duration = Duration::from_secs(2);

/// Opens so many readers that never read, then does round trips on another connection.
pub(crate) async fn stalled_readers(
    workshop: &Workshop,
    targets: &Targets,
    kind: Kind,
    protocol: Protocol,
    readers: usize,
    duration: Duration,
) -> Result<Stalled> {
    let system = System::start(workshop, kind).await?;
    let front = system.front(workshop, protocol)?;
    let before = round_trips(&system, &front, targets.echo, duration).await?;
    let small = system.memory()?;
    let mut held = Vec::new();
    for number in 0..readers {
        let dialled = timeout(STALL, front.dial(targets.bulk)).await;
        let Ok(Ok(mut tunnel)) = dialled else {
            break;
        };
        let transfer = Transfer {
            direction: Direction::Down,
            number: u64::try_from(number)?,
            length: STALLED_TRANSFER,
        };
        tunnel.write_all(&transfer.request()).await?;
        tunnel.flush().await?;
        held.push(tunnel);
    }
    sleep(FILL).await;
    let beside = if held.len() == readers {
        beside(&system, &front, targets.echo, duration).await
    } else {
        None
    };
    let large = system.memory()?;
    Ok(Stalled {
        readers,
        before: before.p50,
        beside,
        growth: [0, 1].map(|end: usize| large[end].rss - small[end].rss),
    })
}

async fn beside(
    system: &System,
    front: &crate::front::Front,
    target: SocketAddr,
    duration: Duration,
) -> Option<f64> {
    let measured = timeout(
        STALL + duration,
        round_trips(system, front, target, duration),
    )
    .await;
    measured.ok()?.ok().map(|sample| sample.p50)
}
