//! `agents`: which agents are connected to a proxy-server.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use cluster_proxy_proxy_server::ServerStatus;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::HostPort;
use http::{Request, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::commands::http_request::exchange;

mod table;

/// List the agents that are connected to a proxy-server.
///
/// Asks the proxy-server's admin port, which listens where the proxy-server runs: in its pod, or
/// through a port-forward to it. Each server has its own agents; ask each one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the admin port of the proxy-server is.
    #[arg(long, default_value = "127.0.0.1:8095", value_name = "HOST:PORT")]
    admin_address: HostPort,

    /// How the agents are printed.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Where the status is on the admin port.
pub(crate) const STATUS_PATH: &str = "/agents";

pub(crate) async fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        admin_address,
        output,
    } = args;
    let status = ask(&admin_address).await.map_err(StartError::failed)?;
    let text = match output {
        Output::Table => table::of(&status, Timestamp::now()),
        Output::Json => {
            let json = serde_json::to_string_pretty(&status).map_err(StartError::failed)?;
            format!("{json}\n")
        }
    };
    // Whoever closes the pipe has read enough.
    drop(std::io::stdout().write_all(text.as_bytes()));
    Ok(ExitCode::SUCCESS)
}

/// The status of the server at `address`.
async fn ask(address: &HostPort) -> Result<ServerStatus, String> {
    let at = |cause: &dyn fmt::Display| format!("--admin-address {address}: {cause}");
    let target = (address.host.as_str(), address.port);
    let socket = match timeout(LIMIT, TcpStream::connect(target)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            let cause = format!(
                "{error}; the admin port is reached where the proxy-server runs (kubectl exec, or \
                 port-forward), if --admin-port is not another there"
            );
            return Err(at(&cause));
        }
        Err(_) => return Err(at(&"no connection within 10 s")),
    };
    let request = Request::get(STATUS_PATH)
        .header(http::header::HOST, address.to_string())
        .header(http::header::CONNECTION, "close")
        .body(Full::default())
        .map_err(|error| at(&error))?;
    let (status, body) = timeout(LIMIT, exchange(socket, request, MAX_BODY_BYTES))
        .await
        .map_err(|_| at(&"it took the connection and did not answer within 10 s"))?
        .map_err(|error| {
            at(&format_args!(
                "what answers there is no admin port: {error}"
            ))
        })?;
    if status != StatusCode::OK {
        return Err(at(&format_args!(
            "what answers there is no proxy-server's admin port, or of an older version: \
             {STATUS_PATH} is answered {status}"
        )));
    }
    serde_json::from_slice(&body).map_err(|error| {
        at(&format_args!(
            "what answers there is no proxy-server's admin port, or of another version: {error}"
        ))
    })
}

/// To connect, and again to answer: it is on this machine, or a port-forward away.
const LIMIT: Duration = Duration::from_secs(10);

/// 10,000 agents are 5 MB.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
