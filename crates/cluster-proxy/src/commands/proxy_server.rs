//! `proxy-server`: the hub end of the tunnel.

use std::path::PathBuf;
use std::process::ExitCode;

use cluster_proxy_identity::tls::{ClientAuth, ServerTls, ServerTlsFiles};
use cluster_proxy_proxy_server::{AgentIdentity, AgentTableFile, Config, Port, ProxyServer, ProxyStrategies};
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{GoDuration, HostPort};
use cluster_proxy_runtime::listen::listen;
use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::frontend::FRONTEND_ALPN;
use cluster_proxy_tunnel::lane::LANE_ALPN;

use crate::flags::{LogFlags, file};
use crate::role::Role;

/// The hub end of the tunnel: agents connect to it, and the user-server asks it for connections.
///
/// Agents dial --agent-port and stay connected; whoever shows a client certificate at
/// --server-port may open connections through them (an agent may not). With
/// --agent-identity=cluster an agent is found under its own cluster's names only, whatever it
/// announces.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Certificate shown to clients of the tunnel.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    server_cert: PathBuf,
    /// Its private key.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    server_key: PathBuf,
    /// CA that clients' certificates must come from.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    server_ca_cert: PathBuf,
    /// Port for clients.
    #[arg(
        long,
        default_value_t = 8090,
        value_name = "PORT",
        help_heading = "Clients"
    )]
    server_port: u16,
    /// Address to listen on for clients; empty is all.
    #[arg(
        long,
        default_value = "",
        value_name = "ADDRESS",
        help_heading = "Clients"
    )]
    server_bind_address: String,

    /// Certificate shown to agents.
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    cluster_cert: PathBuf,
    /// Its private key.
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    cluster_key: PathBuf,
    /// CA that agents' certificates must come from.
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    cluster_ca_cert: PathBuf,
    /// Port for agents.
    #[arg(
        long,
        default_value_t = 8091,
        value_name = "PORT",
        help_heading = "Agents"
    )]
    agent_port: u16,
    /// Address to listen on for agents; empty is all.
    #[arg(
        long,
        default_value = "",
        value_name = "ADDRESS",
        help_heading = "Agents"
    )]
    agent_bind_address: String,
    /// What an agent's certificate must prove: `cluster` (its own cluster, and it is found under
    /// that cluster's names only), `prefer` (as cluster, but agents that prove nothing serve names
    /// that no proven agent serves), `any` (nothing: konnectivity's way).
    #[arg(
        long,
        default_value_t = AgentIdentity::Any,
        value_name = "RULE",
        help_heading = "Agents"
    )]
    agent_identity: AgentIdentity,
    /// File that names the accepted clusters, their agents' namespaces and the rule, instead of
    /// --agent-identity; read again when it changes:
    /// `{agentIdentity: cluster, clusters: [{name: a, agentNamespace: n, certificate: true}]}`.
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    agent_table_file: Option<PathBuf>,
    /// How an agent is chosen, in this order: destHost, defaultRoute, default.
    #[arg(
        long,
        default_value_t = ProxyStrategies::default(),
        value_name = "LIST",
        help_heading = "Agents"
    )]
    proxy_strategies: ProxyStrategies,

    /// This server's id, distinct for each server of a hub.
    #[arg(
        long,
        env = "PROXY_SERVER_ID",
        value_name = "ID",
        help_heading = "Servers"
    )]
    server_id: Option<String>,
    /// How many servers the hub has: agents connect to that many.
    #[arg(
        long,
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N",
        help_heading = "Servers"
    )]
    server_count: u32,

    /// Port of /healthz, /readyz and /metrics.
    #[arg(long, default_value_t = 8092, value_name = "PORT")]
    health_port: u16,
    /// Address of the same; empty is all.
    #[arg(long, default_value = "", value_name = "ADDRESS")]
    health_bind_address: String,
    /// After SIGTERM, let open connections run for this long before they are cut.
    #[arg(long, default_value = "20s", value_name = "DURATION")]
    graceful_shutdown_timeout: GoDuration,

    #[command(flatten)]
    logs: LogFlags,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        server_cert,
        server_key,
        server_ca_cert,
        server_port,
        server_bind_address,
        cluster_cert,
        cluster_key,
        cluster_ca_cert,
        agent_port,
        agent_bind_address,
        agent_identity,
        agent_table_file,
        proxy_strategies,
        server_id,
        server_count,
        health_port,
        health_bind_address,
        graceful_shutdown_timeout,
        logs,
    } = args;
    logs.init()?;
    let frontend_tls = ServerTls::load(ServerTlsFiles {
        cert: file("--server-cert", &server_cert),
        key: file("--server-key", &server_key),
        client_ca: Some(file("--server-ca-cert", &server_ca_cert)),
        client_auth: ClientAuth::Required,
        alpn: vec![FRONTEND_ALPN.to_vec()],
    })
    .map_err(StartError::failed)?;
    let agents_tls = ServerTls::load(ServerTlsFiles {
        cert: file("--cluster-cert", &cluster_cert),
        key: file("--cluster-key", &cluster_key),
        client_ca: Some(file("--cluster-ca-cert", &cluster_ca_cert)),
        client_auth: ClientAuth::Required,
        alpn: vec![LANE_ALPN.to_vec()],
    })
    .map_err(StartError::failed)?;
    let frontend = HostPort::new(server_bind_address, server_port);
    let agents = HostPort::new(agent_bind_address, agent_port);

    let mut role = Role::new();
    role.refresh_server(&frontend_tls);
    role.refresh_server(&agents_tls);
    let mut agent_table = None;
    if let Some(path) = agent_table_file {
        let (file, table) = AgentTableFile::load(&path).map_err(|error| {
            StartError::failed(format_args!("--agent-table-file {error}"))
        })?;
        role.background(file.keep_fresh());
        agent_table = Some(table);
    }
    let config = Config {
        frontend: Port {
            listener: listen("--server-port", &frontend).await?,
            tls: frontend_tls,
        },
        agents: Port {
            listener: listen("--agent-port", &agents).await?,
            tls: agents_tls,
        },
        server_id: server_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        server_count,
        strategies: proxy_strategies,
        agent_identity,
        agent_table,
        http2: Http2Settings::default(),
    };
    let server = ProxyServer::new(config, &mut role.registry, &role.readiness);
    let limits = DrainLimits {
        min: std::time::Duration::ZERO,
        limit: graceful_shutdown_timeout.0,
    };
    let health = HostPort::new(health_bind_address, health_port);
    let work = Box::pin(server.run(role.drain.clone()));
    role.run(("--health-port", &health), limits, work).await
}
