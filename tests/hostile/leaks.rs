//! Nothing leaks: after many dials, cancelled dials, and restarts of either end, descriptors,
//! tasks, gauges and memory are what they were after the first of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::process_usage::{descriptors, mebibytes, resident};
use cluster_proxy_testkit::{eventually, free_port};
use cluster_proxy_tunnel::ProxyServerDialer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hub::{AgentKind, Hub, Program, WINDOW, Workshop};
use crate::report::Report;
use crate::scale;
use crate::targets::Target;

/// Until everything has come to rest.
const REST: Duration = Duration::from_secs(20);

/// What the allocator may keep beyond 1 %: its arenas fill their holes only after a while.
const NOISE: u64 = 4 * 1024 * 1024;

/// What a program holds at rest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Holding {
    descriptors: usize,
    tasks: f64,
    active: f64,
    memory: u64,
}

pub(crate) async fn dials(workshop: &Workshop, report: &Report) -> Result<()> {
    for kind in [AgentKind::Lane, AgentKind::Go] {
        let hub = Hub::start(workshop, &[]).await?;
        let agent = hub.agent(kind, &[]).await?;
        let echo = Target::echo().await?;
        let dialer = hub.client(WINDOW)?;
        let count = scale::of(2_000, 100_000);
        many(&dialer, &echo, kind, count / 4, None).await?;
        let before = rest(&hub, &agent, kind).await?;
        many(&dialer, &echo, kind, count, None).await?;
        let after = rest(&hub, &agent, kind).await?;
        compare(
            report,
            &format!("{count} dials and closes, {kind:?}"),
            &before,
            &after,
        )?;

        let count = scale::of(500, 10_000);
        many(&dialer, &echo, kind, count / 4, Some(1)).await?;
        let before = rest(&hub, &agent, kind).await?;
        many(&dialer, &echo, kind, count, Some(2)).await?;
        let after = rest(&hub, &agent, kind).await?;
        compare(
            report,
            &format!("{count} dials cancelled at random points, {kind:?}"),
            &before,
            &after,
        )?;
    }
    Ok(())
}

/// An agent whose server is killed and started again.
pub(crate) async fn server_restarts(workshop: &Workshop, report: &Report) -> Result<()> {
    let ports = (free_port()?, free_port()?);
    let mut hub = Hub::start_on(workshop, ports, &[]).await?;
    let agent = hub.agent(AgentKind::Lane, QUICK).await?;
    let echo = Target::echo().await?;
    let restarts = scale::of(8, 1_000);
    let mut before = None;
    for turn in 0..restarts {
        hub.server.running.kill()?;
        drop(hub);
        hub = Hub::start_on(workshop, ports, &[]).await?;
        let dialer = hub.client(WINDOW)?;
        eventually(REST, "the agent is back", async || {
            once(&dialer, &echo).await
        })
        .await;
        drop(dialer);
        if turn == restarts / 4 {
            before = Some(rest_of(&agent, "cluster_proxy_agent_active_tunnels").await?);
        }
    }
    let after = rest_of(&agent, "cluster_proxy_agent_active_tunnels").await?;
    let before = before.context("no restart")?;
    compare(
        report,
        &format!("{restarts} server restarts"),
        &[("agent", before)],
        &[("agent", after)],
    )
}

/// A server whose agent is killed and started again.
pub(crate) async fn agent_restarts(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let echo = Target::echo().await?;
    let dialer = hub.client(WINDOW)?;
    let restarts = scale::of(8, 1_000);
    let mut before = None;
    for turn in 0..restarts {
        let mut agent = hub.agent(AgentKind::Lane, QUICK).await?;
        eventually(REST, "the agent is there", async || {
            once(&dialer, &echo).await
        })
        .await;
        agent.running.kill()?;
        eventually(REST, "its lanes are gone", async || {
            Ok::<_, anyhow::Error>(hub.server.metric("cluster_proxy_server_lanes").await? == 0.0)
        })
        .await;
        if turn == restarts / 4 {
            before = Some(rest_of(&hub.server, SERVER_ACTIVE).await?);
        }
    }
    let after = rest_of(&hub.server, SERVER_ACTIVE).await?;
    let before = before.context("no restart")?;
    compare(
        report,
        &format!("{restarts} agent restarts"),
        &[("server", before)],
        &[("server", after)],
    )
}

/// Connects again as fast as it may.
const QUICK: &[&str] = &["--sync-interval=50ms", "--sync-interval-cap=100ms"];

const SERVER_ACTIVE: &str = "cluster_proxy_server_active_tunnels";

/// At the same time.
const DIALLING: usize = 16;

/// So many dials, each with a few bytes there and back; or, with a seed, each given up somewhere
/// on its way.
async fn many(
    dialer: &ProxyServerDialer,
    echo: &Target,
    kind: AgentKind,
    count: u32,
    seed: Option<u64>,
) -> Result<()> {
    let target: cluster_proxy_tunnel::Target = echo.address.to_string().parse()?;
    let mut random = seed.unwrap_or(1);
    let mut dials = JoinSet::new();
    for _ in 0..count {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let patience = seed.map(|_| Duration::from_micros(random % MAX_PATIENCE));
        let (dialer, target) = (dialer.clone(), target.clone());
        dials.spawn(async move {
            let trip = async {
                let mut stream = dialer.connect(&target).await?;
                stream.write_all(b"there and back").await?;
                stream.read_exact(&mut [0; 14]).await?;
                // Go's agent knows no half-close.
                if kind == AgentKind::Lane {
                    stream.shutdown().await?;
                    ensure!(stream.read(&mut [0; 1]).await? == 0, "more than was sent");
                }
                Ok(())
            };
            match patience {
                Some(patience) => {
                    let _ = timeout(patience, trip).await;
                    Ok(())
                }
                None => timeout(REST, trip).await.context("a dial hangs")?,
            }
        });
        if dials.len() >= DIALLING {
            dials.join_next().await.transpose()?.transpose()?;
        }
    }
    while let Some(dialled) = dials.join_next().await {
        dialled??;
    }
    Ok(())
}

/// Microseconds: a dial here takes about so many, and so some are given up in each of its steps.
const MAX_PATIENCE: u64 = 8_000;

async fn once(dialer: &ProxyServerDialer, echo: &Target) -> Result<()> {
    many(dialer, echo, AgentKind::Lane, 1, None).await
}

/// What both ends hold once no connection is open.
async fn rest(
    hub: &Hub<'_>,
    agent: &Program,
    kind: AgentKind,
) -> Result<Vec<(&'static str, Holding)>> {
    let mut holdings = vec![("server", rest_of(&hub.server, SERVER_ACTIVE).await?)];
    if kind == AgentKind::Lane {
        let agent = rest_of(agent, "cluster_proxy_agent_active_tunnels").await?;
        holdings.push(("agent", agent));
    }
    Ok(holdings)
}

/// What a program holds once it has no connection open and its tasks have come to rest.
async fn rest_of(program: &Program, active: &str) -> Result<Holding> {
    let mut last = None;
    let mut same = 0;
    let resting = async {
        loop {
            let now = (
                descriptors(program.id())?,
                program.metric("cluster_proxy_tasks").await?,
                program.metric(active).await?,
            );
            same = if Some(now) == last { same + 1 } else { 0 };
            if same >= 5 && now.2 == 0.0 {
                let (descriptors, tasks, active) = now;
                let memory = resident(program.id())?;
                return anyhow::Ok(Holding {
                    descriptors,
                    tasks,
                    active,
                    memory,
                });
            }
            last = Some(now);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(REST, resting)
        .await
        .context("it does not come to rest")?
}

fn compare(
    report: &Report,
    what: &str,
    before: &[(&'static str, Holding)],
    after: &[(&'static str, Holding)],
) -> Result<()> {
    for ((who, before), (_, after)) in before.iter().zip(after) {
        report.note(
            format!("{what}: {who}, before and after"),
            format!(
                "{} and {} descriptors, {} and {} tasks, {:.1} and {:.1} MiB",
                before.descriptors,
                after.descriptors,
                before.tasks,
                after.tasks,
                mebibytes(before.memory),
                mebibytes(after.memory)
            ),
        );
        ensure!(
            after.descriptors <= before.descriptors && after.tasks <= before.tasks,
            "{what}: the {who} keeps {after:?}, and had {before:?}"
        );
        let most = before.memory + before.memory / 100 + NOISE;
        ensure!(
            after.memory <= most,
            "{what}: the {who} has {:.1} MiB, and had {:.1}",
            mebibytes(after.memory),
            mebibytes(before.memory)
        );
    }
    Ok(())
}
