//! Nobody stalls anybody: readers, targets and sockets that take nothing, beside one who wants
//! round trips through the same agent.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::eventually;
use cluster_proxy_testkit::process_usage::{cpu_seconds, forget_peak, mebibytes, peak, resident};
use cluster_proxy_tunnel::{ProxyServerDialer, TunnelStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hub::{AgentKind, Hub, Program, SMALLEST_WINDOW, WINDOW, Workshop};
use crate::report::Report;
use crate::round_trips::{Pinger, median_of};
use crate::scale;
use crate::targets::Target;

/// Readers that stop at the same time.
const READERS: usize = 100;

/// Pairs of a phase without them and one with them, at least and at most: a noisy machine gets
/// more.
const PHASES: std::ops::RangeInclusive<usize> = 3..=9;

/// Round trips of a phase.
const TRIPS: usize = 100;

/// The stalled p50 over the unstalled one.
const SLOWER: f64 = 1.2;

/// Beyond the windows: what a hundred connections cost otherwise, and what the allocator keeps.
const SLACK: u64 = 32 * 1024 * 1024;

/// Until everything that fits has come to where it stalls.
const SETTLED: Duration = Duration::from_secs(20);

pub(crate) async fn downloads(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let agent = hub.agent(AgentKind::Lane, &[]).await?;
    let flood = Target::flood().await?;
    let stalling = async || open(&hub.client(SMALLEST_WINDOW)?, &flood, READERS).await;
    let name = format!("{READERS} readers that never read");
    beside(&hub, &agent, report, &name, stalling).await
}

pub(crate) async fn uploads(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let agent = hub.agent(AgentKind::Lane, &[]).await?;
    let silent = Target::silent().await?;
    let stalling = async || {
        let streams = open(&hub.client(WINDOW)?, &silent, READERS).await?;
        Ok(write_until_full(streams))
    };
    let name = format!("{READERS} targets that never read");
    beside(&hub, &agent, report, &name, stalling).await
}

/// Clients that read nothing off their sockets either.
pub(crate) async fn full_sockets(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let agent = hub.agent(AgentKind::Lane, &[]).await?;
    let flood = Target::flood().await?;
    let stalling = async || crate::hub::deaf_client(&hub, &flood, READERS).await;
    let name = format!("{READERS} readers whose sockets are full");
    beside(&hub, &agent, report, &name, stalling).await
}

/// Stalls again and again, and looks at round trips and memory meanwhile.
async fn beside<S>(
    hub: &Hub<'_>,
    agent: &Program,
    report: &Report,
    name: &str,
    stalling: impl AsyncFn() -> Result<S>,
) -> Result<()> {
    let mut pinger = Pinger::start(&hub.client(WINDOW)?).await?;
    let programs = [("server", &hub.server), ("agent", agent)];
    let mut before = Vec::new();
    for (_, program) in programs {
        before.push(resident(program.id())?);
        forget_peak(program.id())?;
    }
    let mut ratios = Vec::new();
    for phase in 1..=*PHASES.end() {
        let unstalled = pinger.median(TRIPS).await?;
        let stalled = stalling().await?;
        settle(hub, agent).await?;
        let slow = pinger.median(TRIPS).await?;
        drop(stalled);
        quiet(hub).await?;
        ratios.push(slow.as_secs_f64() / unstalled.as_secs_f64());
        if phase >= *PHASES.start() && median_of(ratios.clone()) <= SLOWER {
            break;
        }
    }
    let ratio = median_of(ratios.clone());
    let windows = READERS as u64 * u64::from(WINDOW);
    let mut grown = Vec::new();
    for ((who, program), before) in programs.into_iter().zip(before) {
        let more = peak(program.id())?.saturating_sub(before);
        report.note(
            format!("{name}: {who}'s memory over what it had"),
            format!("{:.1} MiB", mebibytes(more)),
        );
        grown.push((who, more));
    }
    report.note(
        format!("{name}: p50 of others, stalled over unstalled"),
        format!("{ratio:.2} (of {} pairs)", ratios.len()),
    );
    ensure!(
        ratio <= SLOWER,
        "the others' p50 is {ratio:.2} times the unstalled one: {ratios:?}"
    );
    for (who, more) in grown {
        ensure!(
            more <= windows + SLACK,
            "the {who} took {:.1} MiB for {:.1} MiB of windows",
            mebibytes(more),
            mebibytes(windows)
        );
    }
    Ok(())
}

/// Waits until both programs have nothing to do: everything has come to where it stalls.
async fn settle(hub: &Hub<'_>, agent: &Program) -> Result<()> {
    let cpu = || anyhow::Ok(cpu_seconds(hub.server.id())? + cpu_seconds(agent.id())?);
    let mut last = cpu()?;
    let mut idle = 0;
    timeout(SETTLED, async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = cpu()?;
            // Of two programs, with the scrapes of others: a tenth of a core.
            idle = if now - last < 0.015 { idle + 1 } else { 0 };
            if idle == 3 {
                return Ok(());
            }
            last = now;
        }
    })
    .await
    .context("the programs do not come to rest")?
}

/// Waits until the server has let go of all but the pinger's connection.
async fn quiet(hub: &Hub<'_>) -> Result<()> {
    eventually(SETTLED, "only one connection is left", async || {
        let open = hub
            .server
            .metric("cluster_proxy_server_active_tunnels")
            .await?;
        ensure!(open <= 1.0, "{open} are open");
        Ok::<_, anyhow::Error>(())
    })
    .await;
    Ok(())
}

async fn open(
    dialer: &ProxyServerDialer,
    target: &Target,
    count: usize,
) -> Result<Vec<TunnelStream>> {
    let target: cluster_proxy_tunnel::Target = target.address.to_string().parse()?;
    let mut dials = JoinSet::new();
    let mut streams = Vec::new();
    for _ in 0..count {
        let (dialer, target) = (dialer.clone(), target.clone());
        dials.spawn(async move { dialer.connect(&target).await });
        if dials.len() >= 32 {
            streams.extend(dials.join_next().await.transpose()?.transpose()?);
        }
    }
    while let Some(dialled) = dials.join_next().await {
        streams.push(dialled??);
    }
    Ok(streams)
}

/// Tasks that write until they are dropped.
fn write_until_full(streams: Vec<TunnelStream>) -> JoinSet<()> {
    let mut writing = JoinSet::new();
    for mut stream in streams {
        writing.spawn(async move {
            let bytes = vec![b'u'; 64 * 1024];
            while stream.write_all(&bytes).await.is_ok() {}
        });
    }
    writing
}

/// Bytes of the limit that both programs get: a small part of what the connections could hold.
const LIMIT: u64 = 64 * 1024 * 1024;

/// What a connection costs beside the bytes: both ends, TLS, tasks, and frames under way.
const PER_CONNECTION: u64 = 64 * 1024;

pub(crate) async fn limit(workshop: &Workshop, report: &Report) -> Result<()> {
    const CONNECTIONS: usize = 1000;
    let flag = format!("--unread-limit={LIMIT}");
    let hub = Hub::start(workshop, &[&flag]).await?;
    let agent = hub.agent(AgentKind::Lane, &[&flag]).await?;
    let mut pinger = Pinger::start(&hub.client(WINDOW)?).await?;
    let programs = [("server", &hub.server), ("agent", &agent)];
    let before = [resident(hub.server.id())?, resident(agent.id())?];
    for (_, program) in programs {
        forget_peak(program.id())?;
    }
    let (flood, silent) = (Target::flood().await?, Target::silent().await?);
    let readers = open(&hub.client(SMALLEST_WINDOW)?, &flood, CONNECTIONS).await?;
    let writers = open(&hub.client(WINDOW)?, &silent, CONNECTIONS).await?;
    let writing = write_until_full(writers);
    settle(&hub, &agent).await?;
    let slow = pinger.median(TRIPS).await?;
    let cut = hub
        .server
        .metric("cluster_proxy_server_unread_cut_total")
        .await?;
    let held = hub
        .server
        .metric("cluster_proxy_server_unread_bytes")
        .await?;
    let cut_by_agent = agent.metric("cluster_proxy_agent_unread_cut_total").await?;
    let mut more = Vec::new();
    for ((who, program), before) in programs.into_iter().zip(before) {
        let grown = peak(program.id())?.saturating_sub(before);
        report.note(
            format!("{CONNECTIONS} unread each way, limit 64 MiB: {who}'s memory over what it had"),
            format!("{:.1} MiB", mebibytes(grown)),
        );
        more.push((who, grown));
    }
    report.note(
        format!("{CONNECTIONS} unread each way, limit 64 MiB: cut by server and agent"),
        format!("{cut}, {cut_by_agent}; others' p50 {} us", slow.as_micros()),
    );
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let limit = LIMIT as f64;
    ensure!(held <= limit, "{held} bytes are held of {LIMIT}");
    ensure!(cut > 0.0, "nothing was cut");
    let allowed = LIMIT + SLACK + 2 * CONNECTIONS as u64 * PER_CONNECTION;
    for (who, grown) in more {
        ensure!(
            grown <= allowed,
            "the {who} took {:.1} MiB with a limit of 64 MiB",
            mebibytes(grown)
        );
    }
    // Who reads is not cut, and who comes now is served.
    let mut reader = open(&hub.client(WINDOW)?, &flood, 1).await?.remove(0);
    let mut piece = vec![0; 1024 * 1024];
    for _ in 0..64 {
        timeout(SETTLED, reader.read_exact(&mut piece)).await??;
    }
    pinger.once().await?;
    drop((readers, writing, reader));
    quiet(&hub).await?;
    eventually(SETTLED, "nothing is held any more", async || {
        let held = hub
            .server
            .metric("cluster_proxy_server_unread_bytes")
            .await?;
        ensure!(held == 0.0, "{held} bytes");
        Ok::<_, anyhow::Error>(())
    })
    .await;
    Ok(())
}

/// konnectivity has no flow control: the others wait up to the grace once, then the reader's
/// connection alone is cut and counted.
pub(crate) async fn go_agent(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let _agent = hub.agent(AgentKind::Go, &[]).await?;
    let mut pinger = Pinger::start(&hub.client(WINDOW)?).await?;
    let flood = Target::flood().await?;
    let unstalled = pinger.median(TRIPS).await?;
    let before = resident(hub.server.id())?;
    forget_peak(hub.server.id())?;
    let readers = scale::of(3, 20);
    let mut longest = Duration::ZERO;
    for turn in 1..=readers {
        let stalled = open(&hub.client(SMALLEST_WINDOW)?, &flood, 1).await?;
        let end = tokio::time::Instant::now() + SETTLED;
        loop {
            longest = longest.max(pinger.once().await?);
            let cut = hub
                .server
                .metric("cluster_proxy_server_konnectivity_stalled_total")
                .await?;
            if cut >= f64::from(turn) {
                break;
            }
            ensure!(
                tokio::time::Instant::now() < end,
                "{cut} connections were cut instead of {turn}; {}",
                hub.log().display()
            );
        }
        drop(stalled);
    }
    quiet(&hub).await?;
    let after = pinger.median(TRIPS).await?;
    let grown = peak(hub.server.id())?.saturating_sub(before);
    report.note(
        format!("Go's agent, {readers} readers that never read: the longest round trip of others"),
        format!(
            "{} ms (p50 {} us before, {} us after)",
            longest.as_millis(),
            unstalled.as_micros(),
            after.as_micros()
        ),
    );
    report.note(
        "Go's agent: server's memory over what it had",
        format!("{:.1} MiB", mebibytes(grown)),
    );
    ensure!(longest < GRACE, "a round trip took {longest:?}");
    ensure!(
        grown <= SLACK,
        "the server took {:.1} MiB",
        mebibytes(grown)
    );
    let mut another = open(&hub.client(WINDOW)?, &flood, 1).await?.remove(0);
    timeout(SETTLED, another.read_exact(&mut [0; 64 * 1024])).await??;
    Ok(())
}

/// The grace of 200 ms, and what Go's agent and a busy machine need around it.
const GRACE: Duration = Duration::from_secs(2);
