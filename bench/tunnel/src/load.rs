//! The loads: bulk transfers, round trips, short connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tunnel::dialer::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::front::Front;
use crate::system::{System, Usage, Workshop};
use crate::target::{self, Direction, Transfer, WHOLE};

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Bytes that arrived, round trips, or connections.
    pub(crate) amount: f64,
    pub(crate) seconds: f64,
    /// CPU of hub and agent.
    pub(crate) cpu: Usage,
    /// Of round trips, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// A transfer, a round trip or a short connection that takes longer has failed: a hundred times
/// what the slowest system needs.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// One transfer: a fifth of a second on the slowest system, so that what comes between two is
/// below the noise.
const TRANSFER: u64 = 16 * 1024 * 1024;

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a short run are far below 2^52"
)]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Whole transfers over so many connections until `duration` is over; every byte is compared.
pub(crate) async fn bulk(
    system: &System,
    front: &Front,
    target: SocketAddr,
    direction: Direction,
    connections: u64,
    duration: Duration,
) -> Result<Sample> {
    let barrier = Arc::new(Barrier::new(usize::try_from(connections)? + 1));
    let mut workers = JoinSet::new();
    for number in 0..connections {
        let tunnel = front.dial(target).await?;
        let barrier = Arc::clone(&barrier);
        workers.spawn(transfers(tunnel, direction, number, duration, barrier));
    }
    let before = system.usage()?;
    barrier.wait().await;
    let begin = Instant::now();
    let mut bytes = 0;
    while let Some(worker) = workers.join_next().await {
        bytes += worker??;
    }
    Ok(Sample {
        amount: as_f64(bytes),
        seconds: begin.elapsed().as_secs_f64(),
        cpu: system.usage()?.since(before),
        ..Sample::default()
    })
}

async fn transfers(
    mut tunnel: Box<dyn Connection>,
    direction: Direction,
    worker: u64,
    duration: Duration,
    barrier: Arc<Barrier>,
) -> Result<u64> {
    barrier.wait().await;
    let end = Instant::now() + duration;
    let mut bytes = 0;
    while Instant::now() < end {
        let transfer = Transfer {
            direction,
            number: (worker << 32) | (bytes / TRANSFER),
            length: TRANSFER,
        };
        timeout(STEP_LIMIT, one_transfer(&mut tunnel, transfer))
            .await
            .with_context(|| format!("{TRANSFER} bytes took longer than {STEP_LIMIT:?}"))??;
        bytes += TRANSFER;
    }
    Ok(bytes)
}

async fn one_transfer(tunnel: &mut Box<dyn Connection>, transfer: Transfer) -> Result<()> {
    tunnel.write_all(&transfer.request()).await?;
    tunnel.flush().await?;
    match transfer.direction {
        Direction::Down => target::receive(tunnel, transfer).await,
        Direction::Up => {
            target::send(tunnel, transfer).await?;
            let answer = tunnel.read_u8().await.context("the target's answer")?;
            ensure!(answer == WHOLE, "the target answers {answer}");
            Ok(())
        }
    }
}

/// A message and its echo.
const MESSAGE: usize = 64;

/// Round trips on one connection until `duration` is over.
pub(crate) async fn round_trips(
    system: &System,
    front: &Front,
    target: SocketAddr,
    duration: Duration,
) -> Result<Sample> {
    let mut tunnel = front.dial(target).await?;
    let mut latencies = Vec::new();
    let before = system.usage()?;
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let asked = Instant::now();
        let number = u8::try_from(latencies.len() % 251)?;
        timeout(STEP_LIMIT, round_trip(&mut tunnel, number))
            .await
            .context("no echo in time")??;
        latencies.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    ensure!(!latencies.is_empty(), "not one round trip");
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    Ok(Sample {
        amount: as_f64(latencies.len() as u64),
        seconds: begin.elapsed().as_secs_f64(),
        cpu: system.usage()?.since(before),
        p50: at(50),
        p99: at(99),
    })
}

pub(crate) async fn round_trip(tunnel: &mut Box<dyn Connection>, number: u8) -> Result<()> {
    let message = [number; MESSAGE];
    tunnel.write_all(&message).await?;
    tunnel.flush().await?;
    let mut echo = [0; MESSAGE];
    tunnel.read_exact(&mut echo).await?;
    ensure!(echo == message, "the echo is not what was sent");
    Ok(())
}

/// Connections, each with one message and its echo, by so many workers until `duration` is over.
pub(crate) async fn short_connections(
    system: &System,
    front: &Front,
    target: SocketAddr,
    workers: usize,
    duration: Duration,
) -> Result<Sample> {
    // A kept connection is made before the clock runs.
    drop(front.dial(target).await?);
    let mut running = JoinSet::new();
    let before = system.usage()?;
    let begin = Instant::now();
    for _ in 0..workers {
        let front = front.clone();
        running.spawn(async move {
            let mut count = 0_u64;
            while begin.elapsed() < duration {
                timeout(STEP_LIMIT, short_connection(&front, target))
                    .await
                    .context("a short connection did not end in time")??;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(worker) = running.join_next().await {
        count += worker??;
    }
    Ok(Sample {
        amount: as_f64(count),
        seconds: begin.elapsed().as_secs_f64(),
        cpu: system.usage()?.since(before),
        ..Sample::default()
    })
}

async fn short_connection(front: &Front, target: SocketAddr) -> Result<()> {
    let mut tunnel = front.dial(target).await?;
    round_trip(&mut tunnel, 7).await?;
    tunnel.shutdown().await?;
    ensure!(
        tunnel.read(&mut [0]).await? == 0,
        "bytes after the echo that nobody sent"
    );
    Ok(())
}

/// The same by the Go client: a new front connection for each, with its whole TLS handshake.
pub(crate) async fn stock_client(
    workshop: &Workshop,
    system: &System,
    mode: &str,
    target: SocketAddr,
    workers: usize,
    count: u64,
) -> Result<Sample> {
    let mut command = workshop.go.client();
    command
        .arg("many")
        .arg(format!("--mode={mode}"))
        .arg(format!("--proxy={}", system.proxy))
        .arg(format!("--parallel={workers}"));
    workshop
        .certificates
        .client_certificate()
        .add_to(&mut command);
    command.arg(count.to_string()).arg(target.to_string());
    let before = system.usage()?;
    let begin = Instant::now();
    let (line, seconds) = tokio::task::spawn_blocking(move || {
        let client = Running::start("Go client", command)?;
        let line = client.wait_for_line("\"ok\":", STOCK_LIMIT)?;
        anyhow::Ok((line, begin.elapsed().as_secs_f64()))
    })
    .await??;
    let result: serde_json::Value = serde_json::from_str(&line).context("the Go client")?;
    if result["ok"].as_u64() != Some(count) {
        bail!("not all of {count} connections were served: {line}");
    }
    Ok(Sample {
        amount: as_f64(count),
        seconds,
        cpu: system.usage()?.since(before),
        ..Sample::default()
    })
}

/// For all connections of one call of the Go client.
const STOCK_LIMIT: Duration = Duration::from_secs(90);
