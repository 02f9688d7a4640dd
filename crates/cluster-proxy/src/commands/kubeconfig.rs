//! `kubeconfig`: contexts that lead to managed clusters through the user-server.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use cluster_proxy_identity::ClusterName;
use cluster_proxy_runtime::error::StartError;
use serde_json::{Value, json};

use crate::commands::credential::ServiceAccountName;
use crate::commands::hub::{Credentials, Hub, HubFlags, KUBECONFIG};

mod clusters;
mod document;
mod entries;
mod file;
mod merge;
pub(crate) mod user_server;

use self::entries::{Credential, Entries};
use self::merge::Change;
use self::user_server::{ServerUrl, UserServer};

/// Write contexts for managed clusters, for kubectl, k9s, Helm and client-go.
///
/// Each context leads to https://USER-SERVER/CLUSTER. Its credential runs
/// `cluster-proxy credential`, which takes a token from the hub's kubeconfig and
/// renews it: no token is written.
///
/// Every cluster of the hub, into ~/.kube/config (or $KUBECONFIG):
///
///   cluster-proxy kubeconfig --all --merge --prefix hub- \
///     --server https://user-server.example.com
///   kubectl --context hub-cluster1 get pods
///
/// One cluster, in a file of its own, with a service account's token, through
/// a port-forward to the user-server:
///
///   cluster-proxy kubeconfig cluster1 --service-account tools/viewer \
///     --server https://127.0.0.1:9092 > cluster1.kubeconfig
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Managed clusters, by their names on the hub.
    #[arg(value_name = "CLUSTER")]
    cluster: Vec<ClusterName>,

    /// Every accepted ManagedCluster of the hub.
    #[arg(long)]
    all: bool,

    /// Text before each name that is written.
    #[arg(long, default_value = "", value_name = "TEXT")]
    prefix: String,

    /// Write into a kubeconfig, beside what is there, instead of printing one. Nothing of others is
    /// changed, and no current-context.
    #[arg(long)]
    merge: bool,

    /// The file that --merge writes into [default: the first of $KUBECONFIG, or ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// How the kubeconfig is printed, or with --merge what was done [default: yaml, or one line
    /// for each context].
    #[arg(long, short, value_enum)]
    output: Option<Output>,

    /// Where the user-server is reached [default: the address of its Service on the hub, if that is
    /// a load balancer].
    #[arg(long, value_name = "URL", help_heading = "User-server")]
    server: Option<ServerUrl>,

    /// CA that the user-server's certificate must come from; empty is the system's [default: read
    /// from the hub].
    #[arg(long, value_name = "FILE", help_heading = "User-server")]
    certificate_authority: Option<String>,

    /// The name that the user-server's certificate has, where it is not that of --server.
    #[arg(long, value_name = "NAME", help_heading = "User-server")]
    tls_server_name: Option<String>,

    /// Namespace of the user-server on the hub.
    #[arg(
        long,
        default_value = "open-cluster-management-addon",
        value_name = "NAMESPACE",
        help_heading = "User-server"
    )]
    namespace: String,

    #[command(flatten)]
    hub: HubFlags,

    /// Service account of the hub to come as; without it, the user of the hub's kubeconfig.
    #[arg(long, value_name = "NAMESPACE/NAME", help_heading = "Hub")]
    service_account: Option<ServiceAccountName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        mut cluster,
        all,
        prefix,
        merge,
        output_file,
        output,
        server,
        certificate_authority,
        tls_server_name,
        namespace,
        hub,
        service_account,
    } = args;
    if all && !cluster.is_empty() {
        return Err(StartError::usage("--all", "it excludes names of clusters"));
    }
    if !all && cluster.is_empty() {
        return Err(StartError::usage("CLUSTER", "name clusters, or --all"));
    }
    if output_file.is_some() && !merge {
        return Err(StartError::usage("--output-file", "it needs --merge"));
    }
    let hub = hub.load()?;
    check(&hub, service_account.as_ref())?;
    let mut connection = None;
    if all {
        cluster = clusters::accepted(connect(&hub, &mut connection).await?, &hub).await?;
    }
    cluster.sort();
    cluster.dedup();

    let server = match server {
        Some(server) => server,
        None => user_server::find(connect(&hub, &mut connection).await?, &hub, &namespace).await?,
    };
    let ca = match certificate_authority.as_deref() {
        Some("") => None,
        Some(file) => Some(user_server::authority_of_file(file)?),
        None => Some(
            user_server::authority(connect(&hub, &mut connection).await?, &hub, &namespace).await?,
        ),
    };
    let user_server = UserServer {
        url: server,
        ca,
        tls_server_name,
    };
    let credential = Credential::new(&hub, service_account.as_ref())?;
    let entries = Entries {
        hub: &hub.context,
        prefix: &prefix,
        user_server: &user_server,
        credential: &credential,
    };
    let text = if merge {
        let target = file::Target::find(output_file, std::env::var_os(KUBECONFIG))?;
        let names: Vec<_> = cluster.iter().map(|it| entries.name(it)).collect();
        target.hides_nothing(&names)?;
        let path = target.path;
        let changes = file::update(&path, |document| merge::into(document, &entries, &cluster))?;
        report(&path, &changes, output)?
    } else {
        printed(&entries, &cluster, output)?
    };
    // Whoever closes the pipe has read enough.
    drop(std::io::stdout().write_all(text.as_bytes()));
    Ok(ExitCode::SUCCESS)
}

/// Refuses a context that cannot give a token, or leads to a managed cluster itself.
fn check(hub: &Hub, service_account: Option<&ServiceAccountName>) -> Result<(), StartError> {
    if entries::is_ours(hub.plugin_args()) {
        return Err(hub.failed(format_args!(
            "context {:?} leads to a managed cluster: name the hub's with --context",
            hub.context
        )));
    }
    match hub.credentials()? {
        Credentials::Certificate if service_account.is_none() => {
            Err(hub.no_token("its user has a client certificate"))
        }
        Credentials::Certificate
        | Credentials::Token
        | Credentials::TokenFile
        | Credentials::Plugin => Ok(()),
    }
}

/// A client of the hub, made once and only if it is needed.
async fn connect<'c>(
    hub: &Hub,
    made: &'c mut Option<kube::Client>,
) -> Result<&'c kube::Client, StartError> {
    let client = match made.take() {
        Some(client) => client,
        None => hub.connect().await?.client(),
    };
    Ok(made.insert(client))
}

/// A kubeconfig with nothing else in it.
fn printed(
    entries: &Entries<'_>,
    clusters: &[ClusterName],
    output: Option<Output>,
) -> Result<String, StartError> {
    let mut document = Value::Null;
    merge::into(&mut document, entries, clusters).map_err(StartError::failed)?;
    // With several, none is more current than the others.
    if let [only] = clusters {
        document["current-context"] = json!(entries.name(only));
    }
    as_text(&document, output.unwrap_or(Output::Yaml))
}

fn report(
    path: &std::path::Path,
    changes: &[Change],
    output: Option<Output>,
) -> Result<String, StartError> {
    let Some(output) = output else {
        let line = |change: &Change| {
            let Change { context, state, .. } = change;
            format!("context {context} {state} ({})\n", path.display())
        };
        return Ok(changes.iter().map(line).collect());
    };
    let contexts: Vec<_> = changes
        .iter()
        .map(|change| {
            json!({
                "context": change.context,
                "cluster": change.cluster.as_str(),
                "state": change.state.to_string(),
            })
        })
        .collect();
    as_text(&json!({"file": path, "contexts": contexts}), output)
}

fn as_text(document: &Value, output: Output) -> Result<String, StartError> {
    match output {
        Output::Yaml => document::to_yaml(document).map_err(StartError::failed),
        Output::Json => serde_json::to_string_pretty(document)
            .map(|text| text + "\n")
            .map_err(StartError::failed),
    }
}
