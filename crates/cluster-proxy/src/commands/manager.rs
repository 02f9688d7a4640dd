//! `manager`: the addon's controllers on the hub.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use cluster_proxy_addon_manager::{Duty, Manager, ManagerConfig};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::HostPort;

use crate::flags::{LogFlags, file};
use crate::foreign_flags::go_bool;
use crate::role::Role;

/// The addon's controllers on the hub: certificates, the proxy-server, and the agents of managed
/// clusters.
///
/// It works on the ManagedProxyConfiguration `cluster-proxy`, whose definition it brings up to date
/// itself. Several may run with --leader-elect, of which one works. In a pod it uses the pod's
/// service account; elsewhere it needs --kubeconfig.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kubeconfig of the hub [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the manager itself [default: the pod's, or the kubeconfig's].
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        help_heading = "Hub"
    )]
    namespace: Option<String>,
    /// Who this manager is among its replicas [default: a new uuid].
    #[arg(long, env = "POD_NAME", value_name = "NAME", help_heading = "Hub")]
    identity: Option<String>,
    /// Work only while this manager holds the Lease `cluster-proxy-addon-manager`.
    #[arg(long, help_heading = "Hub")]
    leader_elect: bool,
    /// Namespace of the Secret with the CA.
    #[arg(
        long,
        default_value = "default",
        value_name = "NAMESPACE",
        help_heading = "Hub"
    )]
    signer_secret_namespace: String,
    /// Name of the Secret with the CA. It is made when it is not there.
    #[arg(
        long,
        default_value = "cluster-proxy-signer",
        value_name = "NAME",
        help_heading = "Hub"
    )]
    signer_secret_name: String,
    /// When images are pulled, on the hub and in managed clusters.
    #[arg(
        long,
        value_enum,
        default_value_t = PullPolicy::IfNotPresent,
        value_name = "POLICY",
        help_heading = "Hub"
    )]
    image_pull_policy: PullPolicy,
    /// Render NetworkPolicies around the programs on the hub and in managed clusters.
    #[arg(long, help_heading = "Hub")]
    enable_network_policies: bool,

    /// Image of the agents [default: the configuration's].
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "IMAGE",
        help_heading = "Agents"
    )]
    agent_image_name: String,
    /// Namespace of the agents, unless an AddOnDeploymentConfig names another.
    #[arg(
        long,
        default_value = "open-cluster-management-cluster-proxy",
        value_name = "NAMESPACE",
        help_heading = "Agents"
    )]
    agent_install_namespace: String,
    /// Let agents answer for their cluster's name, for clients of the tunnel itself.
    #[arg(long, default_value_t = true, help_heading = "Agents")]
    enable_kube_api_proxy: bool,
    /// Run a service-proxy in the agents' pods.
    #[arg(long, default_value_t = true, help_heading = "Agents")]
    enable_service_proxy: bool,

    /// What is off unless asked for: `ClusterProfile=true`.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME=BOOL,...",
        help_heading = "Features"
    )]
    feature_gates: FeatureGates,

    /// Address of /healthz and /readyz.
    #[arg(
        long,
        default_value = ":58081",
        value_name = "HOST:PORT",
        help_heading = "Operations"
    )]
    health_probe_bind_address: HostPort,
    /// Address of /metrics; 0 is none.
    #[arg(
        long,
        default_value = ":58080",
        value_name = "HOST:PORT",
        help_heading = "Operations"
    )]
    metrics_bind_address: OptionalAddress,

    #[command(flatten)]
    logs: LogFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// An address, or none.
#[derive(Debug, Clone)]
pub(super) struct OptionalAddress(pub(super) Option<HostPort>);

impl FromStr for OptionalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "0" => Ok(Self(None)),
            address => address
                .parse()
                .map(|address| Self(Some(address)))
                .map_err(|error| format!("{error}")),
        }
    }
}

/// Features that are off unless asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FeatureGates {
    cluster_profile: bool,
}

impl FromStr for FeatureGates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut gates = Self::default();
        for pair in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} is not NAME=BOOL"))?;
            let value = go_bool(value.trim())?;
            match name.trim() {
                // The second name is that of release 0.10.
                "ClusterProfile" | "ClusterProfileAccessProvider" => gates.cluster_profile = value,
                other => {
                    return Err(format!(
                        "there is no feature {other:?}, only ClusterProfile"
                    ));
                }
            }
        }
        Ok(gates)
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        kubeconfig,
        namespace,
        identity,
        leader_elect,
        signer_secret_namespace,
        signer_secret_name,
        image_pull_policy,
        enable_network_policies,
        agent_image_name,
        agent_install_namespace,
        enable_kube_api_proxy,
        enable_service_proxy,
        feature_gates,
        health_probe_bind_address,
        metrics_bind_address,
        logs,
    } = args;
    logs.init()?;
    let hub = Connection::from_flag(kubeconfig.as_deref().map(|path| file("--kubeconfig", path)))
        .map_err(StartError::failed)?;
    let config = ManagerConfig {
        duty: Duty::Addon,
        namespace: given(namespace).unwrap_or_else(|| hub.namespace().to_owned()),
        identity: self::identity(identity),
        leader_election: leader_elect,
        signer_secret_namespace,
        signer_secret_name,
        agent_image: agent_image_name,
        image_pull_policy: image_pull_policy.name().to_owned(),
        kube_api_proxy: enable_kube_api_proxy,
        service_proxy: enable_service_proxy,
        network_policies: enable_network_policies,
        agent_install_namespace,
        cluster_profile: feature_gates.cluster_profile,
    };
    let mut role = Role::new();
    let manager = Manager::new(hub, config, &mut role.registry, &role.readiness);
    let work = Box::pin(manager.run(role.drain.clone()));
    let mut addresses = vec![("--health-probe-bind-address", &health_probe_bind_address)];
    if let OptionalAddress(Some(address)) = &metrics_bind_address {
        addresses.push(("--metrics-bind-address", address));
    }
    role.run_at(&addresses, LIMITS, work).await
}

/// A value that is there and not empty.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Who this process is among its replicas. Unlike a pod's name, a uuid is another one after the
/// pod was replaced under its name.
pub(super) fn identity(name: Option<String>) -> String {
    match given(name) {
        Some(name) => format!("{name}_{}", uuid::Uuid::new_v4()),
        None => uuid::Uuid::new_v4().to_string(),
    }
}

/// Nobody is connected to a manager: it ends as soon as the object at hand is done.
pub(super) const LIMITS: DrainLimits = DrainLimits {
    min: Duration::ZERO,
    limit: Duration::from_secs(20),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_gates_are_read_under_both_names() {
        let gates = |text: &str| text.parse::<FeatureGates>();
        assert_eq!(gates(""), Ok(FeatureGates::default()));
        assert!(gates("ClusterProfile=true").unwrap().cluster_profile);
        let both = "ClusterProfile=true, ClusterProfileAccessProvider=false";
        assert!(!gates(both).unwrap().cluster_profile);
        assert!(gates("ClusterProfile").is_err());
        assert!(gates("ClusterProfile=maybe").is_err());
        assert!(gates("Other=true").unwrap_err().contains("Other"));
    }

    #[test]
    fn metrics_can_be_off() {
        assert!("0".parse::<OptionalAddress>().unwrap().0.is_none());
        assert!(":58080".parse::<OptionalAddress>().unwrap().0.is_some());
        assert!("58080".parse::<OptionalAddress>().is_err());
    }
}
