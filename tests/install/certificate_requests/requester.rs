//! Who asks the hub for a certificate.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::Setting;
use crate::kubeconfig::from_secret;

/// With whose identity a request is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Requester {
    /// OCM's registration agent in the managed cluster, by its own certificate.
    Agent,
    /// What a cluster has before it has joined, by its own token.
    Bootstrap,
    /// The hub's administrator.
    Administrator,
    /// Impersonated, with the right to make requests at all.
    As { user: String, groups: Vec<String> },
}

impl Requester {
    /// OCM's registration agent of a cluster that is not there.
    pub(super) fn agent_of(cluster: &str) -> Self {
        let group = format!("system:open-cluster-management:{cluster}");
        Self::As {
            user: format!("{group}:agent1"),
            groups: vec![group],
        }
    }

    /// The same name in no group of the cluster's.
    pub(super) fn without_group(cluster: &str) -> Self {
        let user = format!("system:open-cluster-management:{cluster}:agent1");
        let groups = Vec::new();
        Self::As { user, groups }
    }

    /// This addon's agent of a cluster: what a certificate of `kubernetes.io/kube-apiserver-client`
    /// proves.
    pub(super) fn addon_agent_of(cluster: &str) -> Self {
        let group = format!("system:open-cluster-management:cluster:{cluster}:addon:cluster-proxy");
        Self::As {
            user: format!("{group}:agent:addon-agent"),
            groups: vec![group, super::request::ADDON_GROUP.to_owned()],
        }
    }
}

/// Their credentials.
pub(super) struct Requesters<'a> {
    setting: &'a Setting,
    _folder: TempDir,
    agent: PathBuf,
    bootstrap: String,
}

impl<'a> Requesters<'a> {
    pub(super) fn new(setting: &'a Setting) -> Result<Self> {
        let folder = TempDir::new()?;
        let agent = from_secret(
            setting,
            "open-cluster-management-agent",
            "hub-kubeconfig-secret",
            folder.path(),
        )?;
        let namespace = ["-n", "open-cluster-management"];
        let account = ["create", "token", "agent-registration-bootstrap"];
        let bootstrap = setting
            .lab
            .hub
            .kubectl(&[&namespace[..], &account].concat())?;
        Ok(Self {
            setting,
            _folder: folder,
            agent,
            bootstrap: bootstrap.trim().to_owned(),
        })
    }

    /// kubectl at the hub as `requester`.
    pub(super) fn kubectl(&self, requester: &Requester, arguments: &[&str]) -> Command {
        let mut command = self.setting.lab.hub.kubectl_command(arguments);
        match requester {
            Requester::Administrator => {}
            Requester::Agent => {
                command.arg("--kubeconfig").arg(&self.agent);
            }
            Requester::Bootstrap => {
                // The administrator's certificate would win over a token.
                let server = self.setting.lab.hub.api_url();
                command
                    .env("KUBECONFIG", "/dev/null")
                    .args(["--insecure-skip-tls-verify", "--server", &server])
                    .args(["--token", &self.bootstrap]);
            }
            Requester::As { user, groups } => {
                command.args(["--as", user]);
                let own = groups.iter().map(String::as_str);
                for group in own.chain(["system:authenticated", "system:masters"]) {
                    command.args(["--as-group", group]);
                }
            }
        }
        command
    }
}
