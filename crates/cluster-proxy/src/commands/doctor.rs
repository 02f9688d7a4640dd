//! `doctor`: walks the way to a managed cluster and says where it breaks.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use cluster_proxy_identity::{ClusterName, Token};
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::GoDuration;

use crate::commands::hub::{Hub, HubFlags};
use crate::commands::kubeconfig::user_server::{ServerUrl, authority_of_file};

mod answers;
mod hub_objects;
mod steps;
mod user_server;

use self::steps::{Report, Step};
use self::user_server::Way;

/// Walk the way to a managed cluster and say where it breaks.
///
/// From this machine to the user-server, through the tunnel to the cluster's
/// service-proxy and its kube-apiserver. Each step says whether it works, whose
/// fault it is if not, and what to do. With the hub's kubeconfig it looks at the
/// cluster's objects on the hub, too.
///
///   cluster-proxy doctor cluster1 --server https://user-server.example.com
///   cluster-proxy doctor cluster1 --server https://127.0.0.1:9092 \
///     --certificate-authority ca.crt --token-file token -o json
///
/// Ends with 0 if every step that was tried works, with 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The managed cluster, by its name on the hub.
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,

    /// Where the user-server is reached.
    #[arg(long, value_name = "URL", help_heading = "User-server")]
    server: ServerUrl,

    /// CA that the user-server's certificate must come from [default: the system's].
    #[arg(long, value_name = "FILE", help_heading = "User-server")]
    certificate_authority: Option<String>,

    /// The name that the user-server's certificate has, where it is not that of --server.
    #[arg(long, value_name = "NAME", help_heading = "User-server")]
    tls_server_name: Option<String>,

    #[command(flatten)]
    hub: HubFlags,

    /// Token of a hub user [default: that of the hub's kubeconfig].
    #[arg(long, value_name = "FILE", help_heading = "Hub")]
    token_file: Option<PathBuf>,

    /// How long each step may take.
    #[arg(long, default_value = "15s", value_name = "DURATION")]
    timeout: GoDuration,

    /// How the steps are printed.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        cluster,
        server,
        certificate_authority,
        tls_server_name,
        hub,
        token_file,
        timeout,
        output,
    } = args;
    let ca = match certificate_authority.as_deref() {
        None | Some("") => None,
        Some(file) => Some(authority_of_file(file)?),
    };
    let hub = hub.load();
    let token = match &token_file {
        Some(path) => Some(read_token(path)?),
        None => None,
    };
    let printed = output == Output::Table;
    let mut report = Report::new(printed, std::io::stdout().is_terminal());
    let limit = timeout.0;
    let token = token_step(&mut report, token, hub.as_ref(), limit).await;
    match &hub {
        Ok(hub) => hub_objects::look(&mut report, hub, &cluster, limit).await,
        Err(error) => report.add(Step::skipped("hub objects", error.to_string())),
    }
    let way = Way {
        server: &server,
        ca: ca.as_deref(),
        name: tls_server_name.as_deref(),
        cluster: &cluster,
        limit,
    };
    user_server::walk(&mut report, &way, token.as_ref()).await;

    let well = report.is_well();
    let text = match output {
        Output::Table => report.summary(),
        Output::Json => report.to_json(&cluster),
    };
    // Whoever closes the pipe has read enough.
    drop(std::io::stdout().write_all(text.as_bytes()));
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read_token(path: &std::path::Path) -> Result<Token, StartError> {
    let failed = |cause: &dyn std::fmt::Display| {
        StartError::failed(format_args!("--token-file {}: {cause}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    Token::parse(text.trim()).map_err(|error| failed(&error))
}

/// The token to come with: the given one, or that of the hub's kubeconfig.
async fn token_step(
    report: &mut Report,
    given: Option<Token>,
    hub: Result<&Hub, &StartError>,
    limit: Duration,
) -> Option<Token> {
    if given.is_some() {
        report.add(Step::ok("token", "from --token-file"));
        return given;
    }
    let hub = match hub {
        Ok(hub) => hub,
        Err(error) => {
            report.add(Step::skipped(
                "token",
                format!("no --token-file, and {error}"),
            ));
            return None;
        }
    };
    report.doing("token");
    match tokio::time::timeout(limit, hub.own_token()).await {
        Ok(Ok(token)) => {
            report.add(Step::ok(
                "token",
                format!("of the hub's context {:?}", hub.context),
            ));
            Some(token.token)
        }
        Ok(Err(error)) => {
            report.add(Step::failed("token", error.to_string()).by(
                "you",
                "name a file with a token of a hub user by --token-file",
            ));
            None
        }
        Err(_elapsed) => {
            report.add(
                Step::failed("token", format!("no token within {} s", limit.as_secs()))
                    .by("your hub kubeconfig", "run its exec plugin by hand"),
            );
            None
        }
    }
}
