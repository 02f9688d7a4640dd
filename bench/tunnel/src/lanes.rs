//! Many agents in one process: each has a lane to the same server and does nothing, as the agents
//! of idle clusters.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_testkit::certificates::CertificateFiles;
use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::lane::{AgentHello, AgentLane, LANE_ALPN};
use tokio::task::JoinSet;

use crate::http1::handshake;

/// The agents.
#[derive(Debug, Args)]
pub(crate) struct LanesArgs {
    /// The server's port for agents.
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    count: usize,
    #[arg(long)]
    certificates: PathBuf,
}

/// What is printed once all are connected.
pub(crate) const CONNECTED: &str = "all agents are connected";

/// Dials at a time: a server takes handshakes by the core.
const AT_A_TIME: usize = 16;

/// Connects all, says so, and keeps them until it is killed or a lane ends.
#[expect(clippy::print_stdout, reason = "who started this waits for the line")]
pub(crate) async fn run(args: LanesArgs) -> Result<()> {
    let tls = CertificateFiles::open(args.certificates)
        .client_tls("agent")?
        .with_alpn(&[LANE_ALPN]);
    let (mut dials, mut lanes) = (JoinSet::new(), JoinSet::new());
    for number in 0..args.count {
        while dials.len() >= AT_A_TIME {
            keep(dials.join_next().await, &mut lanes)?;
        }
        dials.spawn(open(args.server, tls.clone(), number));
    }
    while let Some(opened) = dials.join_next().await {
        keep(Some(opened), &mut lanes)?;
    }
    ensure!(lanes.len() == args.count, "not all lanes are open");
    println!("{CONNECTED}");
    lanes.join_next().await.context("no lanes")??
}

type Lane = AgentLane<cluster_proxy_tunnel::tls::ClientStream>;
type Opened = Option<Result<Result<Lane>, tokio::task::JoinError>>;

fn keep(opened: Opened, lanes: &mut JoinSet<Result<()>>) -> Result<()> {
    let mut lane = opened.context("no dial")???;
    lanes.spawn(async move {
        loop {
            lane.next().await.context("a lane ended")?;
        }
    });
    Ok(())
}

async fn open(server: SocketAddr, tls: ClientTls, number: usize) -> Result<Lane> {
    let stream = handshake(server, &tls).await?;
    let hello = AgentHello {
        agent_id: format!("idle-{number}"),
        identifiers: format!("host=cluster-{number}").parse()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: Vec::new(),
    };
    Ok(AgentLane::open_over(stream, &hello, None, &Http2Settings::default(), |_| true).await?)
}
