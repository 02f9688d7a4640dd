//! Peers that are gone without a word are found by their silence.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cluster_proxy_testkit::process::Signal;
use cluster_proxy_tunnel::TunnelStream;
use tokio::io::AsyncReadExt as _;

use crate::hub::{Hub, Workshop};
use crate::transfer::{Echo, round_trip, target};

/// docs and flags promise 30 s; the rest is for a machine with other work.
const FOUND: Duration = Duration::from_secs(32);

/// The first sign of life is asked for at once, to measure the round trip.
const SETTLED: Duration = Duration::from_secs(1);

/// What was carried once nothing more is, for [`SETTLED`], on quiet lanes.
fn settled(carried: impl Fn() -> (u64, u64)) -> Result<(u64, u64)> {
    let mut last = carried();
    for _ in 0..10 {
        std::thread::sleep(SETTLED);
        let now = carried();
        if now.1 == last.1 {
            return Ok(now);
        }
        last = now;
    }
    bail!("quiet lanes do not become quiet");
}

/// Three kinds of silence at once, since each takes its time: an agent that is stopped, a server
/// that is stopped, and a way that swallows packets. An open connection through each ends with an
/// error.
///
/// Beside them, lanes that are to be quiet.
pub(crate) fn found(workshop: &Workshop) -> Result<()> {
    let runtime = &workshop.runtime;
    let echo = runtime.block_on(Echo::start("127.0.0.1"))?;
    let to = target(echo.address)?;
    let mut hubs = Vec::new();
    let mut open: Vec<(&str, TunnelStream)> = Vec::new();
    for silent in ["a stopped agent", "a stopped server", "a way that swallows"] {
        let hub = Hub::start(workshop, 1, 1)?;
        let dialer = workshop.dialer(hub.user_side.address())?;
        let stream = runtime.block_on(async {
            let mut stream = dialer.connect(&to).await?;
            round_trip(&mut stream).await?;
            anyhow::Ok(stream)
        })?;
        open.push((silent, stream));
        // Its kept connection carries the stream.
        hubs.push((hub, dialer));
    }
    let usual = Hub::start(workshop, 1, 1)?;
    let mut quiet = Hub::start(workshop, 1, 0)?;
    quiet.add_agent(&["--ping-interval=60s"])?;
    quiet.is_connected();
    let carried = || (usual.agent_side.carried(), quiet.agent_side.carried());
    let before = settled(carried)?;

    let begin = Instant::now();
    hubs[0].0.agents[0].signal(Signal::STOP)?;
    hubs[1].0.servers[0].running.signal(Signal::STOP)?;
    hubs[2].0.agent_side.silence(hubs[2].0.servers[0].agents);

    let checks = open.into_iter().map(|(silent, mut stream)| {
        runtime.spawn(async move {
            let end = tokio::time::timeout(FOUND, stream.read(&mut [0; 1]))
                .await
                .with_context(|| format!("{silent}: not found within {FOUND:?}"))?;
            ensure!(end.is_err(), "{silent}: it looked like an end in order");
            Ok((silent, begin.elapsed()))
        })
    });
    for check in checks.collect::<Vec<_>>() {
        let (silent, took) = runtime.block_on(check)??;
        // Sooner would be for another reason.
        ensure!(
            took > Duration::from_secs(5),
            "{silent}: found after {took:?}"
        );
    }
    // Meanwhile each end of a usual lane was asked twice at least, and those of a quiet one left
    // alone by both.
    let after = carried();
    ensure!(after.0 > before.0, "usual lanes moved nothing");
    ensure!(
        after.1 == before.1,
        "quiet lanes moved {} bytes",
        after.1 - before.1
    );
    // The agent gave its server up too, and comes back once it is heard again.
    hubs[2].0.agent_side.hear_again(hubs[2].0.servers[0].agents);
    hubs[2].0.is_connected();
    Ok(())
}
