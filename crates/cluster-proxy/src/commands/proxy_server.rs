//! `proxy-server`: the hub end of the tunnel.

use std::path::PathBuf;
use std::process::ExitCode;

use cluster_proxy_identity::tls::{
    ClientAuth, ServerTls, ServerTlsFiles, TlsProfile, TlsProfileError,
};
use cluster_proxy_kube_client::{ConfigMapName, Connection};
use cluster_proxy_proxy_server::{
    AGENT_ALPN, AgentIdentity, AgentTableConfigMap, AgentTableFile, AgentTokens, Config,
    DIAL_LIMIT, Port, ProxyServer, ProxyStrategies, ServerLeaseConfig,
};
use cluster_proxy_runtime::admin::Page;
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{GoDuration, HostPort};
use cluster_proxy_runtime::listen::listen;
use cluster_proxy_runtime::unix_socket::UnixSocket;
use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::frontend::FRONTEND_ALPN;

use crate::commands::admin_flags::AdminFlags;
use crate::commands::agents::STATUS_PATH;
use crate::commands::lease_flags;
use crate::flags::{LogFlags, UnreadFlags, file};
use crate::foreign_flags::{ForeignFlag, ForeignFlags, Kind, Table, go_bool, ignored};
use crate::role::Role;

/// The hub end of the tunnel: agents connect to it, and the user-server asks it for connections.
///
/// Agents dial --agent-port and stay connected; whoever shows a client certificate at
/// --server-port may open connections through them (an agent may not). With
/// --agent-identity=cluster an agent is found under its own cluster's names only, whatever it
/// announces.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Certificate shown to clients of the tunnel; needed unless --server-port is 0.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    server_cert: Option<PathBuf>,
    /// Private key of --server-cert; needed unless --server-port is 0.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    server_key: Option<PathBuf>,
    /// CA that clients' certificates must come from; needed unless --server-port is 0.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    server_ca_cert: Option<PathBuf>,
    /// Port for clients of the tunnel: the user-server, and whoever else has a certificate for it.
    /// 0 is none, for a server that has --uds-name alone.
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
    /// Unix socket for clients on this machine, without TLS: whoever may write to the file (its
    /// owner and group) may open connections. A kube-apiserver's egress selector dials it.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    uds_name: Option<PathBuf>,
    /// Replace a socket that is there at --uds-name already. Other files are never removed.
    #[arg(
        long,
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = go_bool,
        action = clap::ArgAction::Set,
        value_name = "BOOL",
        help_heading = "Clients"
    )]
    delete_existing_uds_file: bool,
    /// Accepted for konnectivity's command lines: clients of both modes are always served, on the
    /// port and on the Unix socket, and told apart by what they say.
    #[arg(
        long,
        default_value = "grpc",
        value_name = "MODE",
        help_heading = "Clients"
    )]
    mode: ClientMode,

    /// Certificate shown to agents.
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    cluster_cert: PathBuf,
    /// Private key of --cluster-cert.
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    cluster_key: PathBuf,
    /// CA that agents' certificates must come from. Needed unless agents show tokens: then a
    /// certificate is only asked for where this is given, and an agent may come without.
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    cluster_ca_cert: Option<PathBuf>,
    /// Port that proxy-agents dial.
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
    /// ConfigMap that says the same (keys `agent-identity` and `clusters`), watched. Nobody is let
    /// in before it was read.
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        conflicts_with = "agent_table_file",
        help_heading = "Agents"
    )]
    agent_table_configmap: Option<NamespacedName>,
    /// Kubeconfig of the hub, for --agent-table-configmap, --agent-namespace and
    /// --enable-lease-controller [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Agents")]
    kubeconfig: Option<PathBuf>,
    /// Take only agents that show a token of their service account in this namespace; the hub
    /// reviews it. With it go --agent-service-account and --authentication-audience. A token proves
    /// no cluster: --agent-identity asks for certificates all the same.
    #[arg(
        long,
        default_value = "",
        value_name = "NAMESPACE",
        help_heading = "Agents' tokens"
    )]
    agent_namespace: String,
    /// Name of that service account.
    #[arg(
        long,
        default_value = "",
        value_name = "NAME",
        help_heading = "Agents' tokens"
    )]
    agent_service_account: String,
    /// Audience that the tokens must be for.
    #[arg(
        long,
        default_value = "",
        value_name = "AUDIENCE",
        help_heading = "Agents' tokens"
    )]
    authentication_audience: String,
    /// How an agent is chosen, in this order: destHost (one found under the name that was asked
    /// for), defaultRoute (one that announced `default-route=true`), default (any). A cluster's
    /// tunnel host is found by its name alone, whatever stands here.
    #[arg(
        long,
        default_value_t = ProxyStrategies::default(),
        value_name = "LIST",
        help_heading = "Agents"
    )]
    proxy_strategies: ProxyStrategies,

    /// Limit for an agent to connect a target; 0 is 8s. Agents give up by themselves after 5s.
    #[arg(
        long,
        default_value = "0s",
        value_name = "DURATION",
        help_heading = "Agents"
    )]
    backend_dial_timeout: GoDuration,

    /// This server's id, distinct for each server of a hub [default: a new uuid].
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

    /// Keep a Lease for this server while it takes agents, for those that count servers by Leases
    /// (--count-server-leases); and delete Leases that have run out.
    #[arg(long, help_heading = "Servers")]
    enable_lease_controller: bool,
    /// Namespace of the servers' Leases.
    #[arg(
        long,
        default_value = "kube-system",
        value_name = "NAMESPACE",
        help_heading = "Servers"
    )]
    lease_namespace: String,
    /// Labels of the servers' Leases: key=value, more after commas.
    #[arg(
        long,
        default_value = "k8s-app=konnectivity-server",
        value_name = "LABELS",
        help_heading = "Servers"
    )]
    lease_label: String,

    /// The oldest TLS that clients and agents may speak: VersionTLS12 or VersionTLS13. Older ones
    /// are never spoken.
    #[arg(
        long,
        default_value = "VersionTLS12",
        value_name = "VERSION",
        help_heading = "TLS"
    )]
    tls_min_version: String,
    /// Cipher suites of TLS 1.2, as Go and IANA name them; unknown ones are skipped, and those of
    /// TLS 1.3 are always on [default: all good ones].
    #[arg(long, value_delimiter = ',', value_name = "LIST", help_heading = "TLS")]
    cipher_suites: Vec<String>,

    /// Port of /healthz, /readyz and /metrics.
    #[arg(
        long,
        default_value_t = 8092,
        value_name = "PORT",
        help_heading = "Operations"
    )]
    health_port: u16,
    /// Address of /healthz, /readyz and /metrics; empty is all.
    #[arg(
        long,
        default_value = "",
        value_name = "ADDRESS",
        help_heading = "Operations"
    )]
    health_bind_address: String,
    /// Port of the admin listener, which tells the connected agents (see `cluster-proxy agents`),
    /// health and metrics; 0 is none. Nothing is changed by it and nothing there is a secret
    /// [default: 8095].
    #[arg(long, value_name = "PORT", help_heading = "Operations")]
    admin_port: Option<u16>,
    #[command(flatten)]
    admin: AdminFlags,
    /// After SIGTERM, let open connections run for this long before they are cut.
    #[arg(
        long,
        default_value = "20s",
        value_name = "DURATION",
        help_heading = "Operations"
    )]
    graceful_shutdown_timeout: GoDuration,

    #[command(flatten)]
    unread: UnreadFlags,
    #[command(flatten)]
    logs: LogFlags,
    #[command(flatten)]
    konnectivity: ForeignFlags<Konnectivity>,
}

/// What konnectivity's server is told that its clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientMode {
    Grpc,
    HttpConnect,
}

impl std::str::FromStr for ClientMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http-connect" => Ok(Self::HttpConnect),
            _ => Err("expected grpc or http-connect"),
        }
    }
}

/// `namespace/name` of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamespacedName {
    namespace: String,
    name: String,
}

impl std::str::FromStr for NamespacedName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && is_object_name(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err("expected namespace/name of a ConfigMap"),
        }
    }
}

/// Also what a field selector can carry.
fn is_object_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !name.is_empty() && name.bytes().all(allowed)
}

/// Flags of konnectivity's server.
#[derive(Debug, Clone)]
struct Konnectivity;

impl Table for Konnectivity {
    const HEADING: &'static str = "konnectivity";
    const FLAGS: &'static [ForeignFlag] = &[
        ignored(
            "kubeconfig-qps",
            Kind::Number,
            "Requests a second with --kubeconfig; 32 TokenReviews are in flight at most",
        ),
        ignored(
            "kubeconfig-burst",
            Kind::Number,
            "Requests in a burst with --kubeconfig",
        ),
        ignored(
            "kube-api-content-type",
            Kind::Text,
            "Encoding of requests with --kubeconfig",
        ),
        ignored(
            "enable-contention-profiling",
            Kind::Bool,
            "More profiles on the admin listener",
        ),
        ignored(
            "keepalive-time",
            Kind::Duration,
            "Time between pings to agents; lanes find a dead agent within 30s, and Go agents are pinged every 35s",
        ),
        ignored(
            "frontend-keepalive-time",
            Kind::Duration,
            "Time between pings to clients; a dead one is found within 30s",
        ),
        ignored(
            "xfr-channel-size",
            Kind::Number,
            "Packets in an agent's queue; HTTP/2 bounds it here",
        ),
        ignored(
            "frontend-write-channel-size",
            Kind::Number,
            "Packets in a client's queue; HTTP/2 bounds it here",
        ),
        ignored("warn-on-channel-limit", Kind::Bool, "Warn of full queues"),
    ];
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        server_cert,
        server_key,
        server_ca_cert,
        server_port,
        server_bind_address,
        uds_name,
        delete_existing_uds_file,
        mode: _,
        cluster_cert,
        cluster_key,
        cluster_ca_cert,
        agent_port,
        agent_bind_address,
        agent_identity,
        agent_table_file,
        agent_table_configmap,
        kubeconfig,
        agent_namespace,
        agent_service_account,
        authentication_audience,
        proxy_strategies,
        backend_dial_timeout,
        server_id,
        server_count,
        enable_lease_controller,
        lease_namespace,
        lease_label,
        tls_min_version,
        cipher_suites,
        health_port,
        health_bind_address,
        admin_port,
        admin,
        graceful_shutdown_timeout,
        unread,
        logs,
        konnectivity,
    } = args;
    logs.init()?;
    konnectivity.check()?;
    let profile = tls_profile(&tls_min_version, &cipher_suites)?;
    // A flag set to nothing is Go's way to leave it out.
    let uds_name = given(uds_name);
    if server_port == 0 && uds_name.is_none() {
        let why = "clients could connect nowhere: give --uds-name, or a port";
        return Err(StartError::usage("--server-port=0", why));
    }
    let frontend_tls = if server_port == 0 {
        None
    } else {
        let frontend = ServerTlsFiles {
            cert: file("--server-cert", &needed("--server-cert", server_cert)?),
            key: file("--server-key", &needed("--server-key", server_key)?),
            client_ca: Some(file(
                "--server-ca-cert",
                &needed("--server-ca-cert", server_ca_cert)?,
            )),
            client_auth: ClientAuth::Required,
            alpn: FRONTEND_ALPN.map(<[u8]>::to_vec).to_vec(),
        };
        let tls = ServerTls::load_with(frontend, profile.clone()).map_err(StartError::failed)?;
        Some(tls)
    };
    let cluster_ca_cert = given(cluster_ca_cert);
    let kubeconfig = given(kubeconfig);
    let token_account = TokenAccount::of(
        agent_namespace,
        agent_service_account,
        authentication_audience,
    )?;
    let agents = ServerTlsFiles {
        cert: file("--cluster-cert", &cluster_cert),
        key: file("--cluster-key", &cluster_key),
        client_auth: client_auth(
            cluster_ca_cert.as_ref(),
            token_account.is_some(),
            agent_identity,
        )?,
        client_ca: cluster_ca_cert
            .as_ref()
            .map(|path| file("--cluster-ca-cert", path)),
        alpn: AGENT_ALPN.map(<[u8]>::to_vec).to_vec(),
    };
    let agents_tls = ServerTls::load_with(agents, profile).map_err(StartError::failed)?;
    let frontend = HostPort::new(server_bind_address, server_port);
    let agents = HostPort::new(agent_bind_address, agent_port);

    let mut role = Role::new();
    if let Some(tls) = &frontend_tls {
        role.refresh_server(tls);
    }
    role.refresh_server(&agents_tls);
    let mut agent_table = None;
    if let Some(path) = agent_table_file {
        let (file, table) = AgentTableFile::load(&path)
            .map_err(|error| StartError::failed(format_args!("--agent-table-file {error}")))?;
        role.background(file.keep_fresh());
        agent_table = Some(table);
    }
    let hub = || {
        let kubeconfig = kubeconfig.as_deref();
        Connection::from_flag(kubeconfig.map(|path| file("--kubeconfig", path)))
            .map_err(StartError::failed)
    };
    if let Some(NamespacedName { namespace, name }) = agent_table_configmap {
        let (watched, table) = AgentTableConfigMap::new(ConfigMapName { namespace, name });
        role.background(watched.keep_fresh(hub()?));
        agent_table = Some(table);
    }
    let agent_tokens = match token_account {
        Some(account) => Some(account.tokens(&hub()?)),
        None => None,
    };
    let server_id = server_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let server_lease = if enable_lease_controller {
        if !is_object_name(&server_id) {
            let cause = format!("{server_id:?} cannot be part of a Lease's name");
            return Err(StartError::usage("--server-id", cause));
        }
        let labels = lease_flags::labels("--lease-label", &lease_label)?;
        Some(ServerLeaseConfig {
            hub: hub()?,
            namespace: lease_namespace,
            labels,
        })
    } else {
        None
    };
    let frontend = match frontend_tls {
        Some(tls) => Some(Port {
            listener: listen("--server-port", &frontend).await?,
            tls,
        }),
        None => None,
    };
    let frontend_socket = uds_name
        .map(|path| UnixSocket::bind("--uds-name", &path, delete_existing_uds_file))
        .transpose()?;
    let config = Config {
        frontend,
        frontend_socket,
        agents: Port {
            listener: listen("--agent-port", &agents).await?,
            tls: agents_tls,
        },
        server_id,
        server_count,
        strategies: proxy_strategies,
        agent_identity,
        agent_table,
        agent_tokens,
        server_lease,
        dial_limit: if backend_dial_timeout.0.is_zero() {
            DIAL_LIMIT
        } else {
            backend_dial_timeout.0
        },
        http2: Http2Settings::default(),
        unread_limit: unread.bytes(),
    };
    let server = ProxyServer::new(config, &mut role.registry, &role.readiness);
    let (status, drain) = (server.status(), role.drain.clone());
    let agents = Page::json(STATUS_PATH, move || {
        serde_json::to_string(&status.read(&drain)).unwrap_or_default()
    });
    admin.serve(("--admin-port", admin_port, 8095), vec![agents], &mut role);
    let limits = DrainLimits {
        min: std::time::Duration::ZERO,
        limit: graceful_shutdown_timeout.0,
    };
    let health = HostPort::new(health_bind_address, health_port);
    let work = Box::pin(server.run(role.drain.clone()));
    role.run(("--health-port", &health), limits, work).await
}

fn given(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Whose tokens agents have to show.
struct TokenAccount {
    namespace: String,
    service_account: String,
    audience: String,
}

impl TokenAccount {
    /// As konnectivity reads the three flags: all of them, or none.
    fn of(
        namespace: String,
        service_account: String,
        audience: String,
    ) -> Result<Option<Self>, StartError> {
        let flags = [
            ("--agent-namespace", &namespace),
            ("--agent-service-account", &service_account),
            ("--authentication-audience", &audience),
        ];
        if flags.iter().all(|(_, value)| value.is_empty()) {
            return Ok(None);
        }
        if let Some((missing, _)) = flags.iter().find(|(_, value)| value.is_empty()) {
            let cause = "agents' tokens are reviewed only with this one too";
            return Err(StartError::usage(missing, cause));
        }
        Ok(Some(Self {
            namespace,
            service_account,
            audience,
        }))
    }

    fn tokens(self, hub: &Connection) -> AgentTokens {
        AgentTokens::new(hub, &self.namespace, &self.service_account, self.audience)
    }
}

/// Whether agents show certificates: where they show tokens instead, only who wants to.
fn client_auth(
    ca: Option<&PathBuf>,
    tokens: bool,
    identity: AgentIdentity,
) -> Result<ClientAuth, StartError> {
    match (ca, tokens) {
        (Some(_), false) => Ok(ClientAuth::Required),
        (Some(_), true) => Ok(ClientAuth::Optional),
        (None, true) if identity != AgentIdentity::Cluster => Ok(ClientAuth::Off),
        (None, true) => Err(StartError::usage(
            "--cluster-ca-cert",
            "needed for --agent-identity=cluster: a token proves no cluster",
        )),
        (None, false) => Err(StartError::usage(
            "--cluster-ca-cert",
            "needed unless agents show tokens (--agent-namespace)",
        )),
    }
}

/// A file that is needed for the port.
fn needed(flag: &'static str, path: Option<PathBuf>) -> Result<PathBuf, StartError> {
    given(path).ok_or_else(|| {
        let why = "needed for --server-port; --server-port=0 with --uds-name does without";
        StartError::usage(flag, why)
    })
}

/// What the two TLS flags ask for, and a warning about what is not known of it.
fn tls_profile(min_version: &str, cipher_suites: &[String]) -> Result<TlsProfile, StartError> {
    let (profile, unknown) =
        TlsProfile::parse(min_version, cipher_suites).map_err(|error| match &error {
            TlsProfileError::Version { .. } => StartError::usage("--tls-min-version", error),
            TlsProfileError::CipherSuites { .. } => StartError::usage("--cipher-suites", error),
        })?;
    if !unknown.is_empty() {
        tracing::warn!(
            skipped = unknown.join(","),
            "--cipher-suites: unknown names"
        );
    }
    Ok(profile)
}
