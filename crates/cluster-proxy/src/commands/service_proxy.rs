//! `service-proxy`: the managed cluster's HTTPS front.

mod oidc_flags;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cluster_proxy_forward::PoolSettings;
use cluster_proxy_identity::tls::{ClientAuth, ClientTls, ServerTls, ServerTlsFiles};
use cluster_proxy_kube_client::{Connection, SERVICE_ACCOUNT_DIR};
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{GoDuration, HostPort};
use cluster_proxy_runtime::listen::listen;
use cluster_proxy_service_proxy::{Config, Impersonation, ServiceProxy, ServiceProxyMetrics};

use self::oidc_flags::OidcFlags;
use super::tls_profile;
use crate::flags::{DrainFlags, LogFlags, file};
use crate::foreign_flags::{ForeignFlag, ForeignFlags, Kind, Table, ignored};
use crate::role::Role;

/// The managed cluster's HTTPS front: decides as whom a request goes to the kube-apiserver.
///
/// A user whom the hub's user-server states (over mutual TLS; nobody else's word counts) is
/// impersonated, within bounds that not even the user-server can widen. A token of this cluster is
/// reviewed here and passed on as it is. An ID token of --oidc-issuer-url is verified and its user
/// impersonated. A request for a Service goes there as it came. In a pod it uses the pod's service account; elsewhere it
/// needs --kubeconfig.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Certificate for this cluster's tunnel host.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    cert: PathBuf,
    /// Private key of --cert.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    key: PathBuf,
    /// CA that the user-server's client certificate must come from. Without it nobody's statement
    /// about a user counts.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    client_ca_cert: Option<PathBuf>,
    /// Address to listen on: the proxy-agent dials it.
    #[arg(
        long,
        default_value = ":7443",
        value_name = "HOST:PORT",
        help_heading = "Clients"
    )]
    bind_address: HostPort,

    /// Kubeconfig of this cluster [default: the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the hub, for hub tokens that come here unreviewed (--token-review=managed at
    /// the user-server, or a user-server of the Go cluster-proxy).
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    hub_kubeconfig: Option<PathBuf>,
    /// How long answers about tokens are kept; 0 reviews every request.
    #[arg(
        long,
        default_value = "10s",
        value_name = "DURATION",
        help_heading = "Authentication"
    )]
    token_review_cache_ttl: GoDuration,

    #[command(flatten)]
    oidc: OidcFlags,

    /// Impersonate hub users. If false, their requests are refused and every other token is passed
    /// on, unreviewed unless --oidc-issuer-url is set.
    #[arg(long, default_value_t = true, help_heading = "Impersonation")]
    enable_impersonation: bool,
    /// Impersonate uids too: the service account may impersonate `uids`.
    #[arg(long, help_heading = "Impersonation")]
    impersonate_uid: bool,
    /// A key of extra to impersonate: the service account may impersonate `userextras/<key>`;
    /// repeat for more. Extra that narrows rights refuses the request unless it is listed.
    #[arg(long, value_name = "KEY", help_heading = "Impersonation")]
    impersonate_extra_key: Vec<String>,
    /// Leave the groups system:serviceaccounts* of hub users as they are, as the Go cluster-proxy
    /// does: what this cluster grants to its own service accounts then holds for the hub's.
    #[arg(long, help_heading = "Impersonation")]
    raw_service_account_groups: bool,

    /// CA of Services, beside the one of the kube-apiserver; it may be missing, and come later.
    #[arg(long, value_name = "FILE", help_heading = "Services")]
    additional_service_ca: Option<PathBuf>,

    /// After this long an idle connection to the kube-apiserver closes.
    #[arg(
        long,
        default_value = "90s",
        value_name = "DURATION",
        help_heading = "Kube-apiserver"
    )]
    idle_conn_timeout: GoDuration,
    /// How long a request with `Expect: 100-continue` waits before its body is sent.
    #[arg(
        long,
        default_value = "1s",
        value_name = "DURATION",
        help_heading = "Kube-apiserver"
    )]
    expect_continue_timeout: GoDuration,

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
    go: ForeignFlags<GoServiceProxy>,
}

/// Flags of the Go service-proxy.
#[derive(Debug, Clone)]
struct GoServiceProxy;

impl Table for GoServiceProxy {
    const HEADING: &'static str = "Go cluster-proxy";
    const FLAGS: &'static [ForeignFlag] = &[
        ignored(
            "max-idle-conns",
            Kind::Number,
            "Idle connections to keep; the pool keeps few by itself",
        ),
        ignored(
            "tls-handshake-timeout",
            Kind::Duration,
            "Limit for TLS; it is 10s",
        ),
        ignored(
            "kube-api-qps",
            Kind::Number,
            "Reviews a second; those at once are bounded",
        ),
        ignored("kube-api-burst", Kind::Number, "Reviews in a burst"),
    ];
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        cert,
        key,
        client_ca_cert,
        bind_address,
        kubeconfig,
        hub_kubeconfig,
        token_review_cache_ttl,
        oidc,
        enable_impersonation,
        impersonate_uid,
        impersonate_extra_key,
        raw_service_account_groups,
        additional_service_ca,
        idle_conn_timeout,
        expect_continue_timeout,
        health_probe_bind_address,
        drain,
        logs,
        go,
    } = args;
    logs.init()?;
    go.check()?;
    let oidc = oidc.settings()?;
    let client_auth = if client_ca_cert.is_some() {
        ClientAuth::Optional
    } else {
        ClientAuth::Off
    };
    let tls = ServerTls::load(ServerTlsFiles {
        cert: file("--cert", &cert),
        key: file("--key", &key),
        client_ca: client_ca_cert
            .as_deref()
            .map(|path| file("--client-ca-cert", path)),
        client_auth,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    })
    .map_err(StartError::failed)?;
    let managed =
        Connection::from_flag(kubeconfig.as_deref().map(|path| file("--kubeconfig", path)))
            .map_err(StartError::failed)?;
    let hub = hub_kubeconfig
        .as_deref()
        .map(|path| Connection::from_kubeconfig(file("--hub-kubeconfig", path), None))
        .transpose()
        .map_err(StartError::failed)?;
    let oidc = oidc.map(|oidc| oidc.config(&managed)).transpose()?;

    // A file that is empty in name is none: charts pass the flag without a value.
    let additional = additional_service_ca.filter(|path| !path.as_os_str().is_empty());
    let cas = [
        Some(file(
            "the pod's",
            &Path::new(SERVICE_ACCOUNT_DIR).join("ca.crt"),
        )),
        additional.map(|path| file("--additional-service-ca", &path)),
    ];
    let services_tls = ClientTls::load_cas(cas.into_iter().flatten().collect(), Vec::new())
        .map_err(StartError::failed)?;

    let mut role = Role::new();
    role.refresh_server(&tls);
    // Elsewhere than in a pod it has no namespace of its own.
    if kubeconfig.is_none() {
        let namespace = managed.namespace().to_owned();
        role.background(tls_profile::follow(tls.clone(), managed.clone(), namespace));
    }
    role.refresh_client(&services_tls);
    let config = Config {
        services_tls,
        hub,
        oidc,
        impersonation: Impersonation {
            enabled: enable_impersonation,
            uid: impersonate_uid,
            extra_keys: impersonate_extra_key.into_iter().collect(),
            raw_service_account_groups,
            ..Impersonation::default()
        },
        review_cache_ttl: token_review_cache_ttl.0,
        pool: PoolSettings {
            idle_timeout: idle_conn_timeout.0,
            expect_timeout: expect_continue_timeout.0,
            ..PoolSettings::default()
        },
        ..Config::new(tls, managed)
    };
    let listener = listen("--bind-address", &bind_address).await?;
    let metrics = ServiceProxyMetrics::default();
    metrics.register(&mut role.registry);
    let proxy = ServiceProxy::new(&config, metrics, role.drain.clone())
        .map_err(|error| StartError::failed(format_args!("--kubeconfig: {error}")))?;
    let work = Box::pin(proxy.run(listener));
    role.run(
        ("--health-probe-bind-address", &health_probe_bind_address),
        drain.limits(),
        work,
    )
    .await
}
