//! The subcommands: each one's flags, the configuration they make, and its run.

mod addon_agent;
mod admin_flags;
mod agents;
mod certs;
mod completion;
mod controllers;
mod credential;
mod doctor;
mod http_request;
mod hub;
mod kubeconfig;
mod lease_flags;
mod manager;
mod proxy_agent;
mod proxy_server;
mod quickstart;
mod service_proxy;
mod tls_profile;
mod user_server;

use std::process::ExitCode;

use clap::Subcommand;
use cluster_proxy_runtime::error::StartError;

/// What the program can be.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Quickstart(quickstart::Args),
    ProxyServer(proxy_server::Args),
    UserServer(user_server::Args),
    ProxyAgent(proxy_agent::Args),
    ServiceProxy(service_proxy::Args),
    AddonAgent(addon_agent::Args),
    Manager(manager::Args),
    Controllers(controllers::Args),
    Agents(agents::Args),
    Doctor(doctor::Args),
    Kubeconfig(kubeconfig::Args),
    Credential(credential::Args),
    Certs(certs::Args),
    Completion(completion::Args),
}

impl Command {
    /// The subcommand as the user types it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Quickstart(_) => "quickstart",
            Self::ProxyServer(_) => "proxy-server",
            Self::UserServer(_) => "user-server",
            Self::ProxyAgent(_) => "proxy-agent",
            Self::ServiceProxy(_) => "service-proxy",
            Self::AddonAgent(_) => "addon-agent",
            Self::Manager(_) => "manager",
            Self::Controllers(_) => "controllers",
            Self::Agents(_) => "agents",
            Self::Doctor(_) => "doctor",
            Self::Kubeconfig(_) => "kubeconfig",
            Self::Credential(_) => "credential",
            Self::Certs(_) => "certs",
            Self::Completion(_) => "completion",
        }
    }

    /// Runs until it is done or asked to end.
    pub(crate) async fn run(self) -> Result<ExitCode, StartError> {
        match self {
            Self::Quickstart(args) => Box::pin(quickstart::run(args)).await,
            Self::ProxyServer(args) => Box::pin(proxy_server::run(args)).await,
            Self::UserServer(args) => Box::pin(user_server::run(args)).await,
            Self::ProxyAgent(args) => Box::pin(proxy_agent::run(args)).await,
            Self::ServiceProxy(args) => Box::pin(service_proxy::run(args)).await,
            Self::AddonAgent(args) => Box::pin(addon_agent::run(args)).await,
            Self::Manager(args) => Box::pin(manager::run(args)).await,
            Self::Controllers(args) => Box::pin(controllers::run(args)).await,
            Self::Agents(args) => agents::run(args).await,
            Self::Doctor(args) => Box::pin(doctor::run(args)).await,
            Self::Kubeconfig(args) => Box::pin(kubeconfig::run(args)).await,
            Self::Credential(args) => Box::pin(credential::run(args)).await,
            Self::Certs(args) => certs::run(args),
            Self::Completion(args) => completion::run(args),
        }
    }
}
