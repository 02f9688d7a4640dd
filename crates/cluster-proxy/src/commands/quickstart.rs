//! `quickstart`: everything on this machine, in one process, with two embedded clusters or two
//! real ones, and the request of the user's story through it.

mod access;
mod clusters;
mod folder;
mod objects;
mod plan;
mod request;
mod roles;
mod story;
mod tokens;
mod voice;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_runtime::drain::{Drain, DrainLimits, terminated};
use cluster_proxy_runtime::error::StartError;

use self::clusters::Clusters;
use self::folder::Folder;
use self::roles::Roles;
use self::story::Story;
use self::voice::Voice;
use crate::flags::LogFlags;

/// See it work on this machine: a hub user's token reaches a managed cluster that only its agent
/// can reach.
///
/// Without kubeconfigs two small Kubernetes APIs are started in this process. With
/// --hub-kubeconfig and --managed-kubeconfig the same happens between your clusters: the rights
/// that it needs are checked and said first, everything it makes carries the label
/// cluster-proxy.open-cluster-management.io/quickstart, and all of it is removed at the end (what
/// a killed run left is removed by the next). The roles run in this process, so this machine must
/// reach both clusters.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kubeconfig of the hub cluster; its current context is used.
    #[arg(long, value_name = "FILE")]
    hub_kubeconfig: Option<PathBuf>,

    /// Kubeconfig of the managed cluster; its current context is used.
    #[arg(long, value_name = "FILE")]
    managed_kubeconfig: Option<PathBuf>,

    /// The managed cluster's name on the hub, first part of every URL.
    #[arg(long, default_value = "managed", value_name = "NAME")]
    cluster_name: ClusterName,

    /// End after the check; the exit code says whether it went well.
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    logs: LogFlags,
}

/// Nobody waits for a long drain of what runs on a desk.
const DRAIN: DrainLimits = DrainLimits {
    min: Duration::ZERO,
    limit: Duration::from_secs(1),
};

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        hub_kubeconfig,
        managed_kubeconfig,
        cluster_name,
        once,
        logs,
    } = args;
    logs.init_quietly()?;
    let kubeconfigs = match (hub_kubeconfig, managed_kubeconfig) {
        (Some(hub), Some(managed)) => Some((hub, managed)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(StartError::usage(
                "--managed-kubeconfig",
                "--hub-kubeconfig needs it",
            ));
        }
        (None, Some(_)) => {
            return Err(StartError::usage(
                "--hub-kubeconfig",
                "--managed-kubeconfig needs it",
            ));
        }
    };
    let voice = Voice::new();
    let drain = Drain::new();
    let folder = Arc::new(Folder::new().map_err(failed)?);

    let clusters = match &kubeconfigs {
        None => Clusters::embedded(&cluster_name, &folder, &drain, &voice).await,
        Some((hub, managed)) => Clusters::existing(&cluster_name, hub, managed, &voice).await,
    }?;
    // From here on objects may be there: whatever happens, they are removed.
    let shown = tokio::select! {
        shown = show(&clusters, &folder, &drain, &voice, once) => shown,
        signal = terminated() => signal.map(|_| ()).map_err(Into::into),
    };
    drain.run(DRAIN).await;
    let removed = clusters.remove(&voice).await;
    drop(folder);
    shown.map_err(failed)?;
    removed.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes what is needed, starts the roles, asks, and tells. Returns at once with `once`, and
/// otherwise never: a signal ends it.
async fn show(
    clusters: &Clusters,
    folder: &Arc<Folder>,
    drain: &Drain,
    voice: &Voice,
    once: bool,
) -> anyhow::Result<()> {
    clusters.prepare(voice).await?;
    let roles = Roles::start(clusters, folder, drain, voice).await?;
    let story = Story {
        clusters,
        roles: &roles,
        folder,
    };
    let pod = story.ask(voice).await?;
    if once {
        voice.done("checked");
        return Ok(());
    }
    story.tell(&pod, voice);
    std::future::pending().await
}

fn failed(error: anyhow::Error) -> StartError {
    StartError::failed(format_args!("{error:#}"))
}
