//! `proxy-agent`: the managed end of the tunnel.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cluster_proxy_http_proxy::Proxies;
use cluster_proxy_identity::tls::{ClientTls, ClientTlsFiles};
use cluster_proxy_identity::{AnnouncedIdentifiers, PeerIdentity, ProvenAgent, TunnelHost};
use cluster_proxy_kube_client::Connection;
use cluster_proxy_proxy_agent::{
    Config, DEFAULT_LANES, ProxyAgent, ServerCountSource, ServerLeasesConfig,
};
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{GoDuration, HostPort};
use cluster_proxy_tunnel::lane::{LANE_ALPN, MAX_PING_INTERVAL};
use cluster_proxy_tunnel::{Http2Settings, Target};

use crate::commands::admin_flags::AdminFlags;
use crate::commands::lease_flags;
use crate::flags::{LogFlags, UnreadFlags, file};
use crate::foreign_flags::{ForeignFlag, ForeignFlags, Kind, Table, ignored};
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
    /// Certificate that proves this agent's cluster. Needed unless the agent shows a token instead
    /// (--service-account-token-path).
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    agent_cert: Option<PathBuf>,
    /// Private key of --agent-cert.
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    agent_key: Option<PathBuf>,
    /// File with a token of this agent's service account, for servers that review it; read anew at
    /// each connect.
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    service_account_token_path: Option<PathBuf>,
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
    /// Lanes (TLS connections) kept to each server. With more than one, a server gets up to 16
    /// while all of them are busy; with 1 it never gets more [default: 2, but 1 to a server on the
    /// loopback address, where a port-forward leads].
    #[arg(
        long,
        value_parser = clap::value_parser!(u8).range(1..=16),
        value_name = "N",
        help_heading = "Hub"
    )]
    lanes: Option<u8>,
    /// How long a lane may be idle before both ends ask each other for a sign of life. With 10s an
    /// idle lane moves about 4 MB a day; on a metered link `--ping-interval=5m --lanes=1` is a
    /// thirtieth of that for each lane. A dead peer is found 30s after this time at the latest, with
    /// 10s in 30s at most; NAT and firewalls on the way must keep idle connections for as long.
    #[arg(
        long,
        default_value = "10s",
        value_name = "DURATION",
        help_heading = "Hub"
    )]
    ping_interval: GoDuration,
    /// Go on looking for servers beyond the count they state.
    #[arg(long, help_heading = "Hub")]
    sync_forever: bool,

    /// Count the servers by their Leases (proxy-server --enable-lease-controller) instead of taking
    /// their word for it. While the Leases cannot be read, the last count holds.
    #[arg(long, help_heading = "Counting servers")]
    count_server_leases: bool,
    /// Namespace of the servers' Leases.
    #[arg(
        long,
        default_value = "kube-system",
        value_name = "NAMESPACE",
        help_heading = "Counting servers"
    )]
    lease_namespace: String,
    /// Labels of the servers' Leases: key=value, more after commas.
    #[arg(
        long,
        visible_alias = "lease-label",
        default_value = "k8s-app=konnectivity-server",
        value_name = "LABELS",
        help_heading = "Counting servers"
    )]
    lease_label_selector: String,
    /// Which count holds with --count-server-leases: `default` (the Leases'), or `max` (the larger
    /// of that and what the servers say).
    #[arg(
        long,
        default_value = "default",
        value_name = "SOURCE",
        help_heading = "Counting servers"
    )]
    server_count_source: String,
    /// Kubeconfig of the cluster that has the servers' Leases [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Counting servers")]
    kubeconfig: Option<PathBuf>,

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
    /// Port of the admin listener, which tells health and metrics too; 0 is none [default: 8094].
    #[arg(long, value_name = "PORT", help_heading = "Operations")]
    admin_server_port: Option<u16>,
    #[command(flatten)]
    admin: AdminFlags,
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
        ignored(
            "kube-api-content-type",
            Kind::Text,
            "Encoding for reading Leases",
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
        service_account_token_path,
        ca_cert,
        proxy_server_host,
        proxy_server_port,
        service_proxy_address,
        agent_id,
        agent_identifiers,
        alpn_proto,
        sync_interval,
        sync_interval_cap,
        lanes,
        ping_interval,
        sync_forever,
        count_server_leases,
        lease_namespace,
        lease_label_selector,
        server_count_source,
        kubeconfig,
        health_server_host,
        health_server_port,
        admin_server_port,
        admin,
        drain_timeout,
        unread,
        logs,
        konnectivity,
    } = args;
    logs.init()?;
    konnectivity.check()?;
    // A flag set to nothing is Go's way to leave it out.
    let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
    let token_file =
        given(service_account_token_path).map(|path| file("--service-account-token-path", &path));
    let pair = match (given(agent_cert), given(agent_key)) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) => {
            return Err(StartError::usage("--agent-key", "needed with --agent-cert"));
        }
        (None, Some(_)) => {
            return Err(StartError::usage("--agent-cert", "needed with --agent-key"));
        }
        (None, None) if token_file.is_some() => None,
        (None, None) => {
            let cause = "needed unless the agent shows a token (--service-account-token-path)";
            return Err(StartError::usage("--agent-cert", cause));
        }
    };
    let tls = ClientTls::load(ClientTlsFiles {
        ca: file("--ca-cert", &ca_cert),
        cert: pair
            .as_ref()
            .map(|(cert, key)| (file("--agent-cert", cert), file("--agent-key", key))),
        alpn: vec![LANE_ALPN.to_vec()],
    })
    .map_err(StartError::failed)?;
    let mut identifiers: AnnouncedIdentifiers = agent_identifiers
        .parse()
        .map_err(|error| StartError::usage("--agent-identifiers", error))?;
    if let Some((agent_cert, _)) = &pair
        && let PeerIdentity::Agent(ProvenAgent { cluster }) = own_identity(agent_cert)?
    {
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
    let source = count_source(&server_count_source)?;
    let server_leases = if count_server_leases {
        let labels = lease_flags::labels("--lease-label-selector", &lease_label_selector)?;
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let hub = Connection::from_flag(given(kubeconfig).map(|path| file("--kubeconfig", &path)));
        Some(ServerLeasesConfig {
            hub: hub.map_err(StartError::failed)?,
            namespace: lease_namespace,
            selector: labels.join(","),
            source,
        })
    } else {
        None
    };
    let service_proxy = &service_proxy_address;
    let config = Config {
        http_proxy,
        identifiers,
        token_file,
        server_leases,
        more_alpn: alpn_protocols(alpn_proto)?,
        service_proxy: target(
            "--service-proxy-address",
            &service_proxy.host,
            service_proxy.port,
        )?,
        sync_interval: sync_interval.0,
        sync_interval_cap: sync_interval_cap.0,
        lanes: lanes.map_or_else(|| usual_lanes(&server), usize::from),
        sync_forever,
        http2: Http2Settings {
            ping_interval: checked_ping_interval(ping_interval.0)?,
            ..Http2Settings::default()
        },
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
    let port = ("--admin-server-port", admin_server_port, 8094);
    admin.serve(port, Vec::new(), &mut role);
    let limits = DrainLimits {
        min: Duration::ZERO,
        limit: drain_timeout.0,
    };
    role.run(("--health-server-port", &health), limits, work)
        .await
}

fn count_source(text: &str) -> Result<ServerCountSource, StartError> {
    match text {
        "" | "default" => Ok(ServerCountSource::Default),
        "max" => Ok(ServerCountSource::Max),
        other => Err(StartError::usage(
            "--server-count-source",
            format!("{other:?} is neither default nor max"),
        )),
    }
}

fn checked_ping_interval(interval: Duration) -> Result<Duration, StartError> {
    if (MIN_PING_INTERVAL..=MAX_PING_INTERVAL).contains(&interval) {
        return Ok(interval);
    }
    let error = format!(
        "it must be between 1s and {} s",
        MAX_PING_INTERVAL.as_secs()
    );
    Err(StartError::usage("--ping-interval", error))
}

/// More often would only cost.
const MIN_PING_INTERVAL: Duration = Duration::from_secs(1);

/// Through a port-forward all lanes would share one connection, and each is a stream of the hub's
/// kube-apiserver.
fn usual_lanes(server: &Target) -> usize {
    let is_forwarded = match server.ip() {
        Some(ip) => ip.is_loopback(),
        None => server.host_is("localhost"),
    };
    if is_forwarded { 1 } else { DEFAULT_LANES }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_port_has_one_lane() {
        for (server, lanes) in [
            ("127.0.0.1:8091", 1),
            ("[::1]:8091", 1),
            ("localhost:8091", 1),
            ("hub.example.com:8091", 2),
            ("10.0.0.1:8091", 2),
        ] {
            assert_eq!(usual_lanes(&server.parse().unwrap()), lanes, "{server}");
        }
    }
}
