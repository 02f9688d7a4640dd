//! `proxy-agent`: the managed end of the tunnel.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cluster_proxy_http_proxy::Proxies;
use cluster_proxy_identity::tls::{ClientTls, ClientTlsFiles};
use cluster_proxy_identity::{AnnouncedIdentifiers, PeerIdentity, ProvenAgent, TunnelHost};
use cluster_proxy_proxy_agent::{Config, ProxyAgent};
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{GoDuration, HostPort};
use cluster_proxy_tunnel::Target;
use cluster_proxy_tunnel::lane::LANE_ALPN;

use crate::flags::{LogFlags, UnreadFlags, file};
use crate::foreign_flags::{ForeignFlag, ForeignFlags, Kind, Table, ignored, refused};
use crate::role::Role;

/// The managed end of the tunnel: dials the hub's proxy-server and serves what comes back.
///
/// Nothing has to reach this program but its own cluster's health checks. It announces the tunnel
/// host of the cluster that its certificate proves, and hands connections for that host to the
/// service-proxy; other targets are dialled as they are named.
///
/// If HTTPS_PROXY is set, the hub is reached through that HTTP proxy, unless NO_PROXY names the
/// hub: `http://[user:password@]host[:port]`, or https:// for one that speaks TLS itself, whose
/// certificate must come from a CA of this machine, of --ca-cert or of the file ROOT_CA_CERT.
/// Both variables mean what they mean to Go programs, in lower case too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Certificate that proves this agent's cluster.
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    agent_cert: PathBuf,
    /// Private key of --agent-cert.
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    agent_key: PathBuf,
    /// CA that the proxy-server's certificate must come from.
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    ca_cert: PathBuf,
    /// Host of the proxy-server.
    #[arg(
        long,
        default_value = "127.0.0.1",
        value_name = "HOST",
        help_heading = "Hub"
    )]
    proxy_server_host: String,
    /// The proxy-server's port for agents.
    #[arg(
        long,
        default_value_t = 8091,
        value_name = "PORT",
        help_heading = "Hub"
    )]
    proxy_server_port: u16,
    /// Where this cluster's service-proxy listens.
    #[arg(
        long,
        default_value = "127.0.0.1:7443",
        value_name = "HOST:PORT",
        help_heading = "Cluster"
    )]
    service_proxy_address: HostPort,

    /// This agent's id [default: a new uuid].
    #[arg(long, env = "PROXY_AGENT_ID", value_name = "ID", help_heading = "Hub")]
    agent_id: Option<String>,
    /// More names under which it wants to be found, as a URL query:
    /// `host=a&ipv4=1.2.3.4&default-route=true`.
    #[arg(long, default_value = "", value_name = "QUERY", help_heading = "Hub")]
    agent_identifiers: String,
    /// More protocols to offer in TLS (ALPN), for a load balancer that routes by them. A server
    /// that picks one speaks konnectivity.
    #[arg(long, value_delimiter = ',', value_name = "LIST", help_heading = "Hub")]
    alpn_proto: Vec<String>,
    /// First wait between two attempts to connect.
    #[arg(
        long,
        default_value = "1s",
        value_name = "DURATION",
        help_heading = "Hub"
    )]
    sync_interval: GoDuration,
    /// Longest wait between two attempts to connect.
    #[arg(
        long,
        default_value = "10s",
        value_name = "DURATION",
        help_heading = "Hub"
    )]
    sync_interval_cap: GoDuration,
    /// Go on looking for servers beyond the count they state.
    #[arg(long, help_heading = "Hub")]
    sync_forever: bool,

    /// Address of /healthz, /readyz and /metrics; empty is all.
    #[arg(
        long,
        default_value = "",
        value_name = "ADDRESS",
        help_heading = "Operations"
    )]
    health_server_host: String,
    /// Port of /healthz, /readyz and /metrics.
    #[arg(
        long,
        default_value_t = 8093,
        value_name = "PORT",
        help_heading = "Operations"
    )]
    health_server_port: u16,
    /// After SIGTERM, let open connections run for this long before they are cut.
    #[arg(
        long,
        default_value = "20s",
        value_name = "DURATION",
        help_heading = "Operations"
    )]
    drain_timeout: GoDuration,

    #[command(flatten)]
    unread: UnreadFlags,
    #[command(flatten)]
    logs: LogFlags,
    #[command(flatten)]
    konnectivity: ForeignFlags<Konnectivity>,
}

/// Flags of konnectivity's agent.
#[derive(Debug, Clone)]
struct Konnectivity;

impl Table for Konnectivity {
    const HEADING: &'static str = "konnectivity";
    const FLAGS: &'static [ForeignFlag] = &[
        refused(
            "service-account-token-path",
            Kind::Text,
            &[""],
            "Token to show to the server",
        ),
        refused(
            "count-server-leases",
            Kind::Bool,
            &["false"],
            "Count the servers by their Leases",
        ),
        ignored(
            "server-count-source",
            Kind::Text,
            "How both ways of counting servers are combined",
        ),
        ignored(
            "lease-namespace",
            Kind::Text,
            "Where the servers' Leases are",
        ),
        ignored("lease-label-selector", Kind::Text, "Which Leases those are"),
        ignored("lease-label", Kind::Text, "Which Leases those are"),
        ignored("kubeconfig", Kind::Text, "Kubeconfig for reading Leases"),
        ignored(
            "kube-api-content-type",
            Kind::Text,
            "Encoding for reading Leases",
        ),
        ignored(
            "admin-bind-address",
            Kind::Text,
            "Address of the admin listener",
        ),
        ignored(
            "admin-server-port",
            Kind::Number,
            "Port of the admin listener",
        ),
        ignored(
            "enable-profiling",
            Kind::Bool,
            "Profiles on the admin listener",
        ),
        ignored(
            "enable-contention-profiling",
            Kind::Bool,
            "More profiles on the admin listener",
        ),
        ignored(
            "probe-interval",
            Kind::Duration,
            "How often connections are looked at; lanes tell by themselves",
        ),
        ignored(
            "keepalive-time",
            Kind::Duration,
            "Time between pings; lanes find a dead server within 30s",
        ),
        ignored("xfr-channel-size", Kind::Number, "Packets in a queue"),
        ignored("warn-on-channel-limit", Kind::Bool, "Warn of full queues"),
    ];
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        agent_cert,
        agent_key,
        ca_cert,
        proxy_server_host,
        proxy_server_port,
        service_proxy_address,
        agent_id,
        agent_identifiers,
        alpn_proto,
        sync_interval,
        sync_interval_cap,
        sync_forever,
        health_server_host,
        health_server_port,
        drain_timeout,
        unread,
        logs,
        konnectivity,
    } = args;
    logs.init()?;
    konnectivity.check()?;
    let tls = ClientTls::load(ClientTlsFiles {
        ca: file("--ca-cert", &ca_cert),
        cert: Some((
            file("--agent-cert", &agent_cert),
            file("--agent-key", &agent_key),
        )),
        alpn: vec![LANE_ALPN.to_vec()],
    })
    .map_err(StartError::failed)?;
    let mut identifiers: AnnouncedIdentifiers = agent_identifiers
        .parse()
        .map_err(|error| StartError::usage("--agent-identifiers", error))?;
    if let PeerIdentity::Agent(ProvenAgent { cluster }) = own_identity(&agent_cert)? {
        let host = TunnelHost::of(&cluster).as_str().to_owned();
        if !identifiers.hosts.contains(&host) {
            identifiers.hosts.push(host);
        }
    }
    let server = target("--proxy-server-host", &proxy_server_host, proxy_server_port)?;
    let proxies = Proxies::from_environment()?.trusting(ca_cert);
    let http_proxy = proxies.towards(&server.host(), server.port()).cloned();
    if let Some(proxy) = &http_proxy {
        tracing::info!(proxy = %proxy.url(), "the hub is reached through an HTTP proxy");
    }
    let service_proxy = &service_proxy_address;
    let config = Config {
        http_proxy,
        identifiers,
        more_alpn: alpn_protocols(alpn_proto)?,
        service_proxy: target(
            "--service-proxy-address",
            &service_proxy.host,
            service_proxy.port,
        )?,
        sync_interval: sync_interval.0,
        sync_interval_cap: sync_interval_cap.0,
        sync_forever,
        unread_limit: unread.bytes(),
        ..Config::new(
            server,
            tls.clone(),
            agent_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        )
    };
    let mut role = Role::new();
    role.refresh_client(&tls);
    let agent = ProxyAgent::new(config, &mut role.registry, &role.readiness)
        .map_err(|error| StartError::usage("--proxy-server-host", error))?;
    let work = Box::pin(agent.run(role.drain.clone()));
    let health = HostPort::new(health_server_host, health_server_port);
    let limits = DrainLimits {
        min: Duration::ZERO,
        limit: drain_timeout.0,
    };
    role.run(("--health-server-port", &health), limits, work)
        .await
}

fn alpn_protocols(names: Vec<String>) -> Result<Vec<String>, StartError> {
    let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    // RFC 7301 section 3.1: its length is one byte.
    if let Some(name) = names.iter().find(|name| name.len() > 255) {
        let error = format!("{name:?} is longer than 255 bytes");
        return Err(StartError::usage("--alpn-proto", error));
    }
    Ok(names)
}

/// What this agent's own certificate proves.
fn own_identity(agent_cert: &PathBuf) -> Result<PeerIdentity, StartError> {
    let pem = std::fs::read(agent_cert).map_err(|error| {
        StartError::failed(format_args!(
            "--agent-cert {}: {error}",
            agent_cert.display()
        ))
    })?;
    Ok(PeerIdentity::of_pem(&pem))
}

fn target(flag: &str, host: &str, port: u16) -> Result<Target, StartError> {
    Target::new(host, port).map_err(|error| StartError::usage(flag, error))
}
