//! A fleet on one server: what an idle lane costs it, and that all come back after a restart, not
//! all at once, while others work.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_proxy_agent::{Config, ProxyAgent};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::readiness::Readiness;
use cluster_proxy_testkit::process_usage::{cpu_seconds, mebibytes, resident};
use cluster_proxy_testkit::{eventually, free_port};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout};

use crate::hub::{AgentKind, Hub, WINDOW, Workshop};
use crate::report::Report;
use crate::round_trips::Pinger;
use crate::scale;

/// Bytes of the server's memory for an idle lane, with all that belongs to it. The goal is 40 KiB;
/// a release build is at 41, and a debug build keeps larger futures.
const PER_LANE: u64 = if cfg!(debug_assertions) { 64 } else { 44 } * 1024;

/// Until all are back.
const BACK: Duration = Duration::from_secs(60);

/// Of all, those that may come within one [`MOMENT`].
const HERD: f64 = 0.5;
const MOMENT: Duration = Duration::from_millis(100);

/// Round trips of others that take no longer, at this pace.
const IN_TIME: Duration = Duration::from_millis(250);
const PACE: Duration = Duration::from_millis(20);
const KEPT: f64 = 0.9;

pub(crate) async fn returns(workshop: &Workshop, report: &Report) -> Result<()> {
    let agents = scale::of(300, 2_000);
    let ports = (free_port()?, free_port()?);
    let mut hub = Hub::start_on(workshop, ports, &[]).await?;
    let _worker = hub.agent(AgentKind::Lane, &[]).await?;
    let alone = resident(hub.server.id())?;
    let lanes_alone = lanes(&hub).await?;
    let drain = Drain::new();
    let fleet = Fleet::start(workshop, hub.agents, agents, &drain)?;
    let began = Instant::now();
    fleet.all_connected().await?;
    let connected = began.elapsed();
    // The connecting itself has left the allocator.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lanes_all = lanes(&hub).await?;
    let grown = resident(hub.server.id())?.saturating_sub(alone);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_lane = grown as f64 / (lanes_all - lanes_alone);
    report.note(
        format!(
            "{agents} agents, {} idle lanes: server's memory",
            lanes_all - lanes_alone
        ),
        format!(
            "{:.1} MiB, {:.1} KiB each; connected after {connected:.1?}",
            mebibytes(grown),
            per_lane / 1024.0
        ),
    );

    hub.server.running.kill()?;
    drop(hub);
    let hub = Hub::start_on(workshop, ports, &[]).await?;
    let began = Instant::now();
    let dialer = hub.client(WINDOW)?;
    let mut pinger = None;
    let mut arrivals = Vec::new();
    let (mut made, mut kept) = (0_u32, 0_u32);
    let mut all_back = None;
    while all_back.is_none() {
        ensure!(
            began.elapsed() < BACK,
            "{arrivals:?} are back, by tenths of a second"
        );
        match &mut pinger {
            Some(pinger) => {
                let pinger: &mut Pinger = pinger;
                made += 1;
                kept += u32::from(pinger.once().await? <= IN_TIME);
            }
            None => pinger = Pinger::start(&dialer).await.ok(),
        }
        let now = lanes(&hub).await?;
        let moment = usize::try_from(began.elapsed().as_millis() / MOMENT.as_millis())?;
        arrivals.resize(moment + 1, arrivals.last().copied().unwrap_or(0.0));
        arrivals[moment] = now;
        all_back = (now >= lanes_all).then(|| began.elapsed());
        tokio::time::sleep(PACE).await;
    }
    let all_back = all_back.context("never")?;
    let steps = arrivals.iter().scan(0.0, |before, now| {
        let came = now - *before;
        *before = *now;
        Some(came)
    });
    let steps: Vec<f64> = steps.collect();
    let herd = steps.iter().copied().fold(0.0, f64::max) / lanes_all;
    let mut pinger = match pinger {
        Some(pinger) => pinger,
        None => Pinger::start(&dialer).await?,
    };
    pinger.once().await?;
    let cpu = cpu_seconds(hub.server.id())?;
    report.note(
        format!("{agents} agents after a server's restart: all back"),
        format!("after {all_back:.1?}, {cpu:.1} s of CPU; lanes by tenth of a second: {steps:?}; others kept {kept} of {made} round trips"),
    );
    drain.end();
    ensure!(
        per_lane <= f64::from(u32::try_from(PER_LANE)?),
        "{:.1} KiB for a lane",
        per_lane / 1024.0
    );
    // A busy machine looks too rarely to tell.
    ensure!(
        !scale::is_long() || herd <= HERD,
        "{:.0} % came within {MOMENT:?}: {steps:?}",
        herd * 100.0
    );
    ensure!(
        made == 0 || f64::from(kept) / f64::from(made) >= KEPT,
        "others kept {kept} of {made}"
    );
    eventually(BACK, "the fleet is gone", || async { drain.tasks() == 0 }).await;
    Ok(())
}

async fn lanes(hub: &Hub<'_>) -> Result<f64> {
    hub.server.metric("cluster_proxy_server_lanes").await
}

/// Agents in this process.
struct Fleet {
    ready: Vec<Readiness>,
}

impl Fleet {
    fn start(workshop: &Workshop, port: u16, count: usize, drain: &Drain) -> Result<Self> {
        let tls = workshop
            .certificates
            .tls(&Leaf::proxy_agent(&"managed".parse()?))?;
        let mut ready = Vec::with_capacity(count);
        for number in 0..count {
            let server = format!("127.0.0.1:{port}").parse()?;
            let mut config = Config::new(server, tls.clone(), format!("agent-{number}"));
            config.identifiers = format!("host=cluster-{number}.test").parse()?;
            let readiness = Readiness::new();
            let agent = ProxyAgent::new(config, &mut Registry::default(), &readiness)?;
            drain.spawn(agent.run(drain.clone()));
            ready.push(readiness);
        }
        Ok(Self { ready })
    }

    async fn all_connected(&self) -> Result<()> {
        let connecting = async {
            while !self
                .ready
                .iter()
                .all(|ready| ready.waiting_for().is_empty())
            {
                tokio::time::sleep(PACE).await;
            }
        };
        timeout(BACK, connecting)
            .await
            .context("the fleet does not connect")
    }
}
