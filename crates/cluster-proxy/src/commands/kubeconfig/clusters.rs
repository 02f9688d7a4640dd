//! The managed clusters of a hub.

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_runtime::error::{StartError, with_sources};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use tokio::time::timeout;

use crate::commands::hub::{HUB_LIMIT, Hub};

/// Those that the hub's administrator let in.
pub(super) async fn accepted(
    client: &kube::Client,
    hub: &Hub,
) -> Result<Vec<ClusterName>, StartError> {
    let failed = |cause: String| {
        hub.failed(format_args!(
            "--all: the hub's ManagedClusters cannot be listed (name clusters instead): {cause}"
        ))
    };
    let clusters: Api<ManagedCluster> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut names = Vec::new();
    loop {
        let page = timeout(HUB_LIMIT, clusters.list(&params))
            .await
            .map_err(|_| failed(format!("no answer within {} s", HUB_LIMIT.as_secs())))?
            .map_err(|error| failed(with_sources(&error)))?;
        for cluster in page.items.iter().filter(|it| it.spec.hub_accepts_client) {
            let name = cluster.name_any();
            let name = name.parse();
            names.push(name.map_err(|error| failed(format!("{error}")))?);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    if names.is_empty() {
        return Err(hub.failed("--all: the hub has no accepted ManagedCluster"));
    }
    Ok(names)
}

/// As kubectl asks.
const PAGE: u32 = 500;
