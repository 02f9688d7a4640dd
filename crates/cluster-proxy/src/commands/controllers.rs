//! `controllers`: what a Go manager needs beside it.

use std::path::PathBuf;
use std::process::ExitCode;

use cluster_proxy_addon_manager::{Duty, Manager, ManagerConfig};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::error::StartError;

use super::manager::{LIMITS, OptionalAddress, given, identity};
use crate::flags::{LogFlags, file};
use crate::foreign_flags::{ForeignFlag, ForeignFlags, Kind, Table, ignored};
use crate::role::Role;

/// The certificate that all service-proxies of a Go installation share, for its manager.
///
/// Charts of the Go cluster-proxy run this beside the user-server. It makes and renews the Secret
/// `cluster-proxy-service-proxy-server-cert`, which their manager hands to the agents. `manager`
/// does not need it: its agents have a certificate for each cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kubeconfig of the hub [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the Lease [default: the pod's, or the kubeconfig's].
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        help_heading = "Hub"
    )]
    namespace: Option<String>,
    /// Who this process is among its replicas [default: a new uuid].
    #[arg(long, env = "POD_NAME", value_name = "NAME", help_heading = "Hub")]
    identity: Option<String>,
    /// Work only while this process holds the Lease `cluster-proxy-service-proxy`.
    #[arg(long, help_heading = "Hub")]
    enable_leader_election: bool,
    /// Namespace of the Secret with the certificate.
    #[arg(
        long,
        default_value = "default",
        value_name = "NAMESPACE",
        help_heading = "Hub"
    )]
    certificates_namespace: String,
    /// Namespace of the Secret with the CA.
    #[arg(
        long,
        default_value = "default",
        value_name = "NAMESPACE",
        help_heading = "Hub"
    )]
    signer_secret_namespace: String,
    /// Name of the Secret with the CA. The manager makes it; this waits for it.
    #[arg(
        long,
        default_value = "cluster-proxy-signer",
        value_name = "NAME",
        help_heading = "Hub"
    )]
    signer_secret_name: String,

    /// Address of /healthz and /readyz; 0 is none.
    #[arg(
        long,
        default_value = ":8081",
        value_name = "HOST:PORT",
        help_heading = "Operations"
    )]
    health_probe_addr: OptionalAddress,
    /// Address of /metrics; 0 is none.
    #[arg(
        long,
        default_value = ":8080",
        value_name = "HOST:PORT",
        help_heading = "Operations"
    )]
    metrics_addr: OptionalAddress,

    #[command(flatten)]
    logs: LogFlags,
    #[command(flatten)]
    go: ForeignFlags<GoControllers>,
}

/// Flags of the Go `controllers`.
#[derive(Debug, Clone)]
struct GoControllers;

impl Table for GoControllers {
    const HEADING: &'static str = "Go cluster-proxy";
    const FLAGS: &'static [ForeignFlag] = &[ignored(
        "agent-image",
        Kind::Text,
        "Image of the agents, which its manager knows by itself",
    )];
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        kubeconfig,
        namespace,
        identity: own_name,
        enable_leader_election,
        certificates_namespace,
        signer_secret_namespace,
        signer_secret_name,
        health_probe_addr,
        metrics_addr,
        logs,
        go,
    } = args;
    logs.init()?;
    go.check()?;
    let hub = Connection::from_flag(kubeconfig.as_deref().map(|path| file("--kubeconfig", path)))
        .map_err(StartError::failed)?;
    let namespace = given(namespace).unwrap_or_else(|| hub.namespace().to_owned());
    let config = ManagerConfig {
        duty: Duty::SharedCertificate {
            namespace: certificates_namespace,
        },
        leader_election: enable_leader_election,
        signer_secret_namespace,
        signer_secret_name,
        ..ManagerConfig::new(namespace, identity(own_name))
    };
    let mut role = Role::new();
    let manager = Manager::new(hub, config, &mut role.registry, &role.readiness);
    let work = Box::pin(manager.run(role.drain.clone()));
    let addresses = [
        ("--health-probe-addr", health_probe_addr.0.as_ref()),
        ("--metrics-addr", metrics_addr.0.as_ref()),
    ];
    let addresses: Vec<_> = addresses
        .into_iter()
        .filter_map(|(flag, address)| Some((flag, address?)))
        .collect();
    role.run_at(&addresses, LIMITS, work).await
}
