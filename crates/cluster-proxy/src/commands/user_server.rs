//! `user-server`: the hub's HTTPS front.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use cluster_proxy_identity::tls::{
    ClientAuth, ClientTls, ClientTlsFiles, ServerTls, ServerTlsFiles,
};
use cluster_proxy_kube_client::{ConfigMapName, Connection};
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{GoDuration, HostPort};
use cluster_proxy_runtime::listen::listen;
use cluster_proxy_tunnel::frontend::HTTP2_ALPN;
use cluster_proxy_tunnel::{DialerConfig, DialerMetrics, ProxyServerDialer, Target};
use cluster_proxy_user_server::{
    Config, ExposedServicesConfigMap, Limits, ServicesConfig, TokenReview, UserServer,
};

use super::tls_profile;
use crate::flags::{DrainFlags, LogFlags, file};
use crate::foreign_flags::{ForeignFlag, ForeignFlags, Kind, Table, ignored};
use crate::role::Role;

/// The hub's HTTPS front: `https://HOST:9092/CLUSTER/KUBERNETES-PATH` with a hub user's token.
///
/// The token is reviewed here, on the hub, and stays here; what travels to the managed cluster is
/// who the user is, over mutual TLS inside the tunnel. A token that the hub neither accepts nor has
/// signed travels on: it may be the managed cluster's own. In a pod it uses the pod's service
/// account for reviews; elsewhere it needs --kubeconfig.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Host of the proxy-server.
    #[arg(
        long,
        default_value = "127.0.0.1",
        value_name = "HOST",
        help_heading = "Tunnel"
    )]
    host: String,
    /// The proxy-server's port for clients.
    #[arg(
        long,
        default_value_t = 8090,
        value_name = "PORT",
        help_heading = "Tunnel"
    )]
    port: u16,
    /// CA that the proxy-server's certificate must come from.
    #[arg(long, value_name = "FILE", help_heading = "Tunnel")]
    proxy_ca_cert: PathBuf,
    /// This user-server's client certificate, shown to the proxy-server and to service-proxies.
    #[arg(long, value_name = "FILE", help_heading = "Tunnel")]
    proxy_cert: PathBuf,
    /// Private key of --proxy-cert.
    #[arg(long, value_name = "FILE", help_heading = "Tunnel")]
    proxy_key: PathBuf,
    /// CA that service-proxies' certificates must come from.
    #[arg(long, value_name = "FILE", help_heading = "Tunnel")]
    service_proxy_ca_cert: PathBuf,

    /// Certificate shown to users.
    #[arg(long, value_name = "FILE", help_heading = "Users")]
    server_cert: PathBuf,
    /// Private key of --server-cert.
    #[arg(long, value_name = "FILE", help_heading = "Users")]
    server_key: PathBuf,
    /// Port for users, HTTPS.
    #[arg(
        long,
        default_value_t = 9092,
        value_name = "PORT",
        help_heading = "Users"
    )]
    server_port: u16,
    /// Address to listen on for users; empty is all.
    #[arg(
        long,
        default_value = "",
        value_name = "ADDRESS",
        help_heading = "Users"
    )]
    bind_address: String,

    /// Kubeconfig of the hub [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    kubeconfig: Option<PathBuf>,
    /// Where tokens are reviewed.
    #[arg(
        long,
        value_enum,
        default_value_t = Review::Hub,
        value_name = "WHERE",
        help_heading = "Authentication"
    )]
    token_review: Review,
    /// How long answers about tokens are kept; 0 reviews every request.
    #[arg(
        long,
        default_value = "10s",
        value_name = "DURATION",
        help_heading = "Authentication"
    )]
    token_review_cache_ttl: GoDuration,
    /// Ask the hub, too, whether the user may use `managedclusters/proxy` of the cluster (group
    /// cluster.open-cluster-management.io), with the verb of the request; an upgrade is `create`.
    #[arg(long, help_heading = "Authentication")]
    authorize_on_hub: bool,

    /// ConfigMap on the hub that lists the Services of managed clusters that may be reached; empty
    /// exposes none.
    #[arg(
        long,
        default_value = "cluster-proxy-exposed-services",
        value_name = "NAME",
        help_heading = "Services"
    )]
    exposed_services_configmap: String,
    /// Namespace of that ConfigMap, and of `ocm-tls-profile` [default: the kubeconfig's or the
    /// pod's].
    #[arg(
        long,
        env = "POD_NAMESPACE",
        hide_env_values = true,
        value_name = "NAMESPACE",
        help_heading = "Services"
    )]
    namespace: Option<String>,
    /// Let anybody reach exposed Services, with a token or without, as the Go cluster-proxy does.
    #[arg(long, help_heading = "Services")]
    anonymous_services: bool,
    /// Let every exposed Service see the `Authorization` of the client, tokens of the hub included;
    /// without it those whose entry says `authorization: pass`.
    #[arg(long, help_heading = "Services")]
    pass_authorization_to_services: bool,
    /// Send cookies that a cluster sets back to the kube-apiserver or Service that set them only:
    /// all clusters share this server's origin.
    #[arg(long, default_value_t = true, help_heading = "Services")]
    confine_cookies: bool,

    /// Requests of one user under way at once, watches and upgraded connections included; 0 is no
    /// limit.
    #[arg(
        long,
        default_value_t = 2_000,
        value_name = "N",
        help_heading = "Limits"
    )]
    max_requests_per_user: u32,
    /// Requests for one cluster under way at once, of all users; 0 is no limit.
    #[arg(
        long,
        default_value_t = 4_000,
        value_name = "N",
        help_heading = "Limits"
    )]
    max_requests_per_cluster: u32,
    /// Requests of one user in a second, unused ones saved up for ten; 0 is no limit.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Limits")]
    max_requests_per_second_per_user: u32,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(
        long,
        default_value = ":8000",
        value_name = "HOST:PORT",
        help_heading = "Operations"
    )]
    health_probe_bind_address: HostPort,

    #[command(flatten)]
    drain: DrainFlags,
    #[command(flatten)]
    logs: LogFlags,
    #[command(flatten)]
    go: ForeignFlags<GoUserServer>,
}

/// Flags of the Go user-server.
#[derive(Debug, Clone)]
struct GoUserServer;

impl Table for GoUserServer {
    const HEADING: &'static str = "Go cluster-proxy";
    const FLAGS: &'static [ForeignFlag] = &[
        ignored(
            "agent-install-namespace",
            Kind::Text,
            "Namespace of the agents, which nothing depends on",
        ),
        ignored(
            "kube-api-qps",
            Kind::Number,
            "Reviews a second; those at once are bounded",
        ),
        ignored("kube-api-burst", Kind::Number, "Reviews in a burst"),
    ];
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Review {
    /// Here: hub tokens stay on the hub.
    Hub,
    /// On the managed cluster, in the order of the Go cluster-proxy: every token travels.
    Managed,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        host,
        port,
        proxy_ca_cert,
        proxy_cert,
        proxy_key,
        service_proxy_ca_cert,
        server_cert,
        server_key,
        server_port,
        bind_address,
        kubeconfig,
        token_review,
        token_review_cache_ttl,
        authorize_on_hub,
        exposed_services_configmap,
        namespace,
        anonymous_services,
        pass_authorization_to_services,
        confine_cookies,
        max_requests_per_user,
        max_requests_per_cluster,
        max_requests_per_second_per_user,
        health_probe_bind_address,
        drain,
        logs,
        go,
    } = args;
    logs.init()?;
    go.check()?;
    let pair = || {
        Some((
            file("--proxy-cert", &proxy_cert),
            file("--proxy-key", &proxy_key),
        ))
    };
    let tunnel_tls = ClientTls::load(ClientTlsFiles {
        ca: file("--proxy-ca-cert", &proxy_ca_cert),
        cert: pair(),
        alpn: vec![HTTP2_ALPN.to_vec()],
    })
    .map_err(StartError::failed)?;
    let service_proxy_tls = ClientTls::load(ClientTlsFiles {
        ca: file("--service-proxy-ca-cert", &service_proxy_ca_cert),
        cert: pair(),
        alpn: Vec::new(),
    })
    .map_err(StartError::failed)?;
    let tls = ServerTls::load(ServerTlsFiles {
        cert: file("--server-cert", &server_cert),
        key: file("--server-key", &server_key),
        client_ca: None,
        client_auth: ClientAuth::Off,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    })
    .map_err(StartError::failed)?;
    if authorize_on_hub && matches!(token_review, Review::Managed) {
        return Err(StartError::usage(
            "--authorize-on-hub",
            "needs --token-review=hub: who asks is not known here otherwise",
        ));
    }
    let hub = Connection::from_flag(kubeconfig.as_deref().map(|path| file("--kubeconfig", path)));
    let own_namespace = |hub: &Connection| {
        namespace
            .clone()
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| hub.namespace().to_owned())
    };
    let profile_of = hub
        .as_ref()
        .ok()
        .map(|hub| (hub.clone(), own_namespace(hub)));
    let exposed = |hub: Connection| {
        (!exposed_services_configmap.is_empty()).then(|| ExposedServicesConfigMap {
            map: ConfigMapName {
                namespace: own_namespace(&hub),
                name: exposed_services_configmap,
            },
            hub,
        })
    };
    let (token_review, exposed) = match (token_review, hub) {
        (Review::Hub, hub) => {
            let hub = hub.map_err(StartError::failed)?;
            let review = TokenReview::Hub {
                hub: hub.clone(),
                cache_ttl: token_review_cache_ttl.0,
                authorize: authorize_on_hub,
            };
            (review, exposed(hub))
        }
        (Review::Managed, Ok(hub)) => (TokenReview::Managed, exposed(hub)),
        // Nothing else is asked of the hub then.
        (Review::Managed, Err(error)) => {
            tracing::warn!("no Service is exposed: the hub's list of them cannot be read: {error}");
            (TokenReview::Managed, None)
        }
    };
    let server = Target::new(&host, port).map_err(|error| StartError::usage("--host", error))?;

    let mut role = Role::new();
    role.refresh_client(&tunnel_tls);
    role.refresh_client(&service_proxy_tls);
    role.refresh_server(&tls);
    if let Some((hub, namespace)) = profile_of {
        role.background(tls_profile::follow(tls.clone(), hub, namespace));
    }
    let metrics = DialerMetrics::default();
    metrics.register(&mut role.registry);
    let dialer = ProxyServerDialer::new(DialerConfig::new(server, tunnel_tls), metrics)
        .map_err(|error| StartError::usage("--host", error))?;
    let address = HostPort::new(bind_address, server_port);
    let config = Config {
        services: ServicesConfig {
            exposed,
            anonymous: anonymous_services,
            pass_authorization: pass_authorization_to_services,
        },
        confine_cookies,
        limits: Limits {
            requests_per_user: some(max_requests_per_user),
            requests_per_cluster: some(max_requests_per_cluster),
            rate_per_user: some(max_requests_per_second_per_user),
        },
        ..Config::new(
            listen("--server-port", &address).await?,
            tls,
            token_review,
            Arc::new(dialer),
            service_proxy_tls,
        )
    };
    let server = UserServer::new(config, &mut role.registry, &role.readiness);
    let work = Box::pin(server.run(role.drain.clone()));
    role.run(
        ("--health-probe-bind-address", &health_probe_bind_address),
        drain.limits(),
        work,
    )
    .await
}

/// A limit; 0 is none.
fn some(limit: u32) -> Option<u32> {
    (limit != 0).then_some(limit)
}
