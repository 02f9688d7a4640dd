//! The two clusters: embedded ones, or the user's own.

use std::path::Path;

use anyhow::{Context as _, Result};
use cluster_proxy_identity::ClusterName;
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::error::StartError;

use super::access::{Access, RIGHTS_ON_BOTH, RIGHTS_ON_MANAGED};
use super::folder::Folder;
use super::objects;
use super::plan::Plan;
use super::voice::Voice;

/// Both clusters, and what is to be made in them.
pub(super) struct Clusters {
    pub(super) hub: Access,
    pub(super) managed: Access,
    pub(super) plan: Plan,
    /// Whether they outlive this process.
    pub(super) existing: bool,
}

impl Clusters {
    /// Two small Kubernetes APIs in this process: the hub's on a TCP port, the managed one's on a
    /// Unix socket, so that nothing but the agent's side can reach it.
    pub(super) async fn embedded(
        name: &ClusterName,
        folder: &Folder,
        drain: &Drain,
        voice: &Voice,
    ) -> Result<Self, StartError> {
        let start = async {
            let hub = Access::embedded_hub(drain).await?;
            voice.done(format_args!(
                "hub: an embedded Kubernetes API at {}",
                hub.server
            ));
            let managed = Access::embedded_managed(folder, drain).await?;
            voice.done(format_args!(
                "{name}: another, on a Unix socket that only the agent's side can open: {}",
                managed.server
            ));
            anyhow::Ok((hub, managed))
        };
        let (hub, managed) = start.await.map_err(super::failed)?;
        Ok(Self {
            hub,
            managed,
            plan: Plan::embedded(name.clone()),
            existing: false,
        })
    }

    /// The user's own clusters, once their credentials are known to suffice.
    pub(super) async fn existing(
        name: &ClusterName,
        hub: &Path,
        managed: &Path,
        voice: &Voice,
    ) -> Result<Self, StartError> {
        let on_managed = [RIGHTS_ON_BOTH, RIGHTS_ON_MANAGED].concat();
        voice.line("Rights that this needs, cluster-wide:");
        for (cluster, rights) in [("hub", RIGHTS_ON_BOTH), ("managed", &on_managed[..])] {
            let rights: Vec<_> = rights.iter().map(ToString::to_string).collect();
            voice.line(format_args!("  {cluster:<8} {}", rights.join(", ")));
        }
        let hub = Access::existing("hub", "--hub-kubeconfig", hub).await?;
        let managed = Access::existing("managed", "--managed-kubeconfig", managed).await?;
        for (access, rights) in [(&hub, RIGHTS_ON_BOTH), (&managed, &on_managed[..])] {
            let lacking = access.lacking(rights).await.map_err(super::failed)?;
            if !lacking.is_empty() {
                let lacking: Vec<_> = lacking.iter().map(ToString::to_string).collect();
                return Err(StartError::failed(format_args!(
                    "the {} cluster's credentials lack: {}",
                    access.name,
                    lacking.join(", ")
                )));
            }
        }
        voice.done("both clusters answer, and the credentials have these rights");
        Ok(Self {
            hub,
            managed,
            plan: Plan::existing(name.clone()),
            existing: true,
        })
    }

    /// Makes accounts and rights, after whatever a killed run left is gone.
    pub(super) async fn prepare(&self, voice: &Voice) -> Result<()> {
        if self.existing {
            let mut left = 0;
            for access in [&self.hub, &self.managed] {
                left += objects::remove(&access.client).await.context(access.name)?;
            }
            if left > 0 {
                voice.done(format_args!(
                    "removed {left} objects that an earlier run had left"
                ));
            }
        }
        let Plan {
            roles_namespace,
            user_namespace,
            ..
        } = &self.plan;
        objects::apply(&self.hub.client, &objects::hub(&self.plan))
            .await
            .context("hub")?;
        voice.done(format_args!(
            "hub: service account {user_namespace}/{}, the hub user; {roles_namespace}/{}, which \
             may review tokens",
            Plan::USER,
            Plan::USER_SERVER_ACCOUNT
        ));
        objects::apply(&self.managed.client, &objects::managed(&self.plan))
            .await
            .context("managed cluster")?;
        voice.done(format_args!(
            "{}: a role to read pods in {} for the user",
            self.plan.cluster, self.plan.pods_namespace
        ));
        voice.detail(self.plan.managed_user_name());
        if self.plan.makes_pods {
            objects::wait_for_pods(&self.managed.client, &self.plan).await?;
        }
        Ok(())
    }

    /// Removes everything that was made in clusters that outlive this process.
    pub(super) async fn remove(&self, voice: &Voice) -> Result<()> {
        if !self.existing {
            return Ok(());
        }
        let mut removed = 0;
        for access in [&self.hub, &self.managed] {
            removed += objects::remove(&access.client).await.context(access.name)?;
        }
        voice.done(format_args!(
            "removed the {removed} objects made in both clusters"
        ));
        Ok(())
    }
}
