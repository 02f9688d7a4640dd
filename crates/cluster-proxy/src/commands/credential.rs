//! `credential`: a token of a hub user for kubectl and the like, as an exec plugin gives it.

use std::io::Write as _;
use std::process::ExitCode;

use cluster_proxy_identity::Token;
use cluster_proxy_runtime::error::{StartError, with_sources};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::time::timeout;

use crate::commands::hub::{HUB_LIMIT, Hub, HubFlags, HubToken};

mod expiry;
mod service_account;

pub(crate) use self::service_account::ServiceAccountName;

/// Print a hub user's token, for the kubeconfigs that `kubeconfig` writes.
///
/// An exec plugin (client.authentication.k8s.io/v1): kubectl, k9s, Helm and
/// client-go programs run it, and again when the token is about to expire.
///
///   cluster-proxy credential --context hub
///   cluster-proxy credential --context hub --service-account tools/viewer
///
/// The token is the hub kubeconfig's own (token, tokenFile, or its exec plugin),
/// or with --service-account one that the hub is asked for (TokenRequest).
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    hub: HubFlags,

    /// Service account of the hub whose token is asked for, for one hour.
    #[arg(long, value_name = "NAMESPACE/NAME", help_heading = "Hub")]
    service_account: Option<ServiceAccountName>,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        hub,
        service_account,
    } = args;
    let hub = hub.load()?;
    let HubToken { token, expires } = match &service_account {
        Some(account) => request(&hub, account).await?,
        None => hub.own_token().await?,
    };
    let expires = expiry::earlier(expires, expiry::of_jwt(&token));
    let expires = expiry::to_renew(expires, Timestamp::now()).map_err(|expired| {
        hub.failed(format_args!(
            "the token of context {:?} expired at {expired}: log in to the hub again",
            hub.context
        ))
    })?;
    let mut status = json!({"token": token.expose()});
    if let Some(expires) = expires {
        status["expirationTimestamp"] = json!(expires.to_string());
    }
    let credential = json!({
        "apiVersion": EXEC_API_VERSION, "kind": "ExecCredential", "status": status,
    });
    let text = format!("{credential}\n");
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| StartError::failed(format_args!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// A token of the account, from the hub.
async fn request(hub: &Hub, account: &ServiceAccountName) -> Result<HubToken, StartError> {
    let failed = |cause: String| {
        hub.failed(format_args!(
            "context {:?}: no token of the service account {account}: {cause}",
            hub.context
        ))
    };
    let wanted = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let client = hub.connect().await?.client();
    let accounts: Api<ServiceAccount> = Api::namespaced(client, account.namespace());
    let params = PostParams::default();
    let asked = accounts.create_token_request(account.name(), &params, &wanted);
    let made = timeout(HUB_LIMIT, asked)
        .await
        .map_err(|_| failed(format!("no answer within {} s", HUB_LIMIT.as_secs())))?
        .map_err(|error| failed(with_sources(&error)))?;
    let status = made
        .status
        .ok_or_else(|| failed("the answer has none".to_owned()))?;
    Ok(HubToken {
        token: Token::parse(&status.token).map_err(|error| failed(error.to_string()))?,
        expires: Some(status.expiration_timestamp.0),
    })
}

/// The version of exec plugins that this is.
pub(crate) const EXEC_API_VERSION: &str = "client.authentication.k8s.io/v1";

/// As long as `kubectl create token` asks for.
const TOKEN_SECONDS: i64 = 3600;
