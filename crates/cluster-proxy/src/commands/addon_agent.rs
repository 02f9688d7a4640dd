//! `addon-agent`: the managed end of the addon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cluster_proxy_addon_agent::{AddonAgent, Config, LeaseConfig, PortForwardConfig};
use cluster_proxy_http_proxy::Proxies;
use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_client::{Connection, FollowedKubeconfig};
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{GoDuration, HostPort};
use cluster_proxy_runtime::listen::listen;

use crate::flags::{LogFlags, file};
use crate::role::Role;

/// The managed end of the addon: tells the hub that it lives, and can be the agents' way to it.
///
/// It renews the Lease `cluster-proxy` for as long as the proxy-agent in its pod is ready; Open
/// Cluster Management shows the addon as available by it. With --enable-port-forward-proxy it also
/// listens on 127.0.0.1:8091 and carries what the proxy-agent sends there to a proxy-server's pod,
/// through the hub's kube-apiserver: then no other port of the hub has to be open.
///
/// If HTTPS_PROXY is set, the hub's kube-apiserver is reached through that HTTP proxy, unless
/// NO_PROXY names it: `http://[user:password@]host[:port]`, or https:// for one that speaks TLS
/// itself, whose certificate must come from a CA of this machine, of the kubeconfig or of the file
/// ROOT_CA_CERT. Both variables mean what they mean to Go programs, in lower case too. A proxy-url
/// in the kubeconfig wins. The pod's own kube-apiserver is never reached through a proxy.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of this cluster on the hub, for the log.
    #[arg(long, value_name = "NAME", help_heading = "Lease")]
    cluster_name: Option<ClusterName>,
    /// Namespace of the Lease [default: the pod's, or the kubeconfig's].
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        help_heading = "Lease"
    )]
    namespace: Option<String>,
    /// Kubeconfig of this cluster [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Lease")]
    kubeconfig: Option<PathBuf>,
    /// Renew the Lease only while the proxy-agent is ready.
    #[arg(long, default_value_t = true, help_heading = "Lease")]
    enable_proxy_agent_health_check: bool,
    /// Where the proxy-agent answers /readyz.
    #[arg(
        long,
        default_value = "127.0.0.1:8093",
        value_name = "HOST:PORT",
        help_heading = "Lease"
    )]
    proxy_agent_health_address: HostPort,

    /// Carry the proxy-agent's connections through the hub's kube-apiserver.
    #[arg(long, help_heading = "Port-forward")]
    enable_port_forward_proxy: bool,
    /// Kubeconfig of the hub. It is read again when it changes, and so are the files it names.
    #[arg(long, value_name = "FILE", help_heading = "Port-forward")]
    hub_kubeconfig: Option<PathBuf>,
    /// Namespace of the proxy-servers on the hub.
    #[arg(
        long,
        default_value = "open-cluster-management-addon",
        value_name = "NAMESPACE",
        help_heading = "Port-forward"
    )]
    proxy_server_namespace: String,
    /// The proxy-servers' port for agents.
    #[arg(
        long,
        default_value_t = 8091,
        value_parser = clap::value_parser!(u16).range(1..),
        value_name = "PORT",
        help_heading = "Port-forward"
    )]
    proxy_server_agent_port: u16,
    /// Where the proxy-agent dials. Whoever reaches it reaches the proxy-servers.
    #[arg(
        long,
        default_value = "127.0.0.1:8091",
        value_name = "HOST:PORT",
        help_heading = "Port-forward"
    )]
    port_forward_bind_address: HostPort,
    /// After SIGTERM, let open connections run for this long before they are cut: longer than the
    /// proxy-agent's own time, so that it ends first.
    #[arg(
        long,
        default_value = "22s",
        value_name = "DURATION",
        help_heading = "Port-forward"
    )]
    drain_timeout: GoDuration,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(
        long,
        default_value = ":8888",
        value_name = "HOST:PORT",
        help_heading = "Operations"
    )]
    health_probe_bind_address: HostPort,

    #[command(flatten)]
    logs: LogFlags,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        cluster_name,
        namespace,
        kubeconfig,
        enable_proxy_agent_health_check,
        proxy_agent_health_address,
        enable_port_forward_proxy,
        hub_kubeconfig,
        proxy_server_namespace,
        proxy_server_agent_port,
        port_forward_bind_address,
        drain_timeout,
        health_probe_bind_address,
        logs,
    } = args;
    logs.init()?;
    // Looked at whether or not it is used: a pod that starts says that its settings make sense.
    let proxies = Proxies::from_environment()?;
    let managed =
        Connection::from_flag(kubeconfig.as_deref().map(|path| file("--kubeconfig", path)))
            .map_err(StartError::failed)?;
    let namespace = namespace
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| managed.namespace().to_owned());
    check_namespace("--namespace", &namespace)?;
    let port_forward = if enable_port_forward_proxy {
        check_namespace("--proxy-server-namespace", &proxy_server_namespace)?;
        let kubeconfig = hub_kubeconfig.ok_or_else(|| {
            StartError::usage(
                "--enable-port-forward-proxy",
                "needs --hub-kubeconfig to reach the proxy-servers with",
            )
        })?;
        Some(PortForwardConfig {
            hub: FollowedKubeconfig::load_through(file("--hub-kubeconfig", &kubeconfig), proxies)?,
            listener: listen("--port-forward-bind-address", &port_forward_bind_address).await?,
            namespace: proxy_server_namespace,
            port: proxy_server_agent_port,
        })
    } else {
        None
    };
    tracing::info!(
        cluster = cluster_name.as_ref().map(tracing::field::display),
        namespace,
        port_forward = port_forward.is_some(),
        "addon-agent starts"
    );
    let config = Config {
        lease: LeaseConfig {
            managed,
            namespace,
            proxy_agent: enable_proxy_agent_health_check.then_some(proxy_agent_health_address),
        },
        port_forward,
    };
    let mut role = Role::new();
    let agent = AddonAgent::new(config, &mut role.registry, &role.readiness);
    let work = Box::pin(agent.run(role.drain.clone()));
    let limits = DrainLimits {
        min: Duration::ZERO,
        limit: drain_timeout.0,
    };
    role.run(
        ("--health-probe-bind-address", &health_probe_bind_address),
        limits,
        work,
    )
    .await
}

/// Refuses what no namespace can be called (RFC 1123 label): it becomes part of a path.
fn check_namespace(flag: &str, name: &str) -> Result<(), StartError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=MAX_LABEL).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(StartError::usage(
        flag,
        format_args!("{name:?} is not the name of a namespace"),
    ))
}

/// The longest name of a namespace (RFC 1123 label).
const MAX_LABEL: usize = 63;
