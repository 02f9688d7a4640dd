//! What a kubeconfig has for one managed cluster: a cluster, a user and a context of one name.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_identity::ClusterName;
use cluster_proxy_runtime::error::StartError;
use serde_json::{Value, json};

use super::user_server::UserServer;
use crate::commands::credential::{EXEC_API_VERSION, ServiceAccountName};
use crate::commands::hub::{Credentials, Hub, KUBECONFIG};

/// How the entries are made.
pub(super) struct Entries<'a> {
    /// The hub's context.
    pub(super) hub: &'a str,
    pub(super) prefix: &'a str,
    pub(super) user_server: &'a UserServer,
    pub(super) credential: &'a Credential,
}

impl Entries<'_> {
    /// The name of all three entries of a cluster.
    pub(super) fn name(&self, cluster: &ClusterName) -> String {
        format!("{}{cluster}", self.prefix)
    }

    /// What stands under `cluster`.
    pub(super) fn cluster(&self, cluster: &ClusterName) -> Value {
        let mut entry = json!({"server": format!("{}/{cluster}", self.user_server.url)});
        if let Some(ca) = &self.user_server.ca {
            entry["certificate-authority-data"] = json!(STANDARD.encode(ca));
        }
        if let Some(name) = &self.user_server.tls_server_name {
            entry["tls-server-name"] = json!(name);
        }
        entry
    }

    /// What stands under `user`.
    pub(super) fn user(&self) -> Value {
        json!({"exec": self.credential.0})
    }

    /// What stands under `context`.
    pub(super) fn context(&self, cluster: &ClusterName) -> Value {
        let name = self.name(cluster);
        json!({"cluster": name, "user": name})
    }

    /// What each of the three carries, so that a later run knows them again.
    pub(super) fn mark(&self, cluster: &ClusterName) -> Value {
        json!({"hub": self.hub, "cluster": cluster.as_str()})
    }
}

/// The name of the extension that marks what is ours.
pub(super) const MARK: &str = "proxy.open-cluster-management.io/kubeconfig";

/// The exec credential of the users.
pub(super) struct Credential(Value);

impl Credential {
    /// This program, with what it needs to find the same hub from anywhere.
    pub(super) fn new(
        hub: &Hub,
        service_account: Option<&ServiceAccountName>,
    ) -> Result<Self, StartError> {
        let program = program()
            .map_err(|error| StartError::failed(format_args!("where this program is: {error}")))?;
        let interactive = hub.credentials()? == Credentials::Plugin;
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| {
                StartError::failed(format_args!(
                    "{}: a path that is not UTF-8 cannot stand in a kubeconfig",
                    path.display()
                ))
            })
        };
        let mut args = vec![SUBCOMMAND.to_owned()];
        let mut env = Value::Null;
        if let [file] = hub.files.paths.as_slice() {
            args.extend(["--kubeconfig".to_owned(), text(file)?]);
        } else {
            let joined = std::env::join_paths(&hub.files.paths).map_err(StartError::failed)?;
            env = json!([{"name": KUBECONFIG, "value": text(Path::new(&joined))?}]);
        }
        args.extend(["--context".to_owned(), hub.context.clone()]);
        if let Some(account) = service_account {
            args.extend(["--service-account".to_owned(), account.to_string()]);
        }
        // With every field that kubectl writes, so that what it has rewritten is the same.
        Ok(Self(json!({
            "apiVersion": EXEC_API_VERSION,
            "command": text(&program)?,
            "args": args,
            "env": env,
            "installHint": INSTALL_HINT,
            // Only a plugin of the hub's may have something to ask.
            "interactiveMode": if interactive { "IfAvailable" } else { "Never" },
            "provideClusterInfo": false,
        })))
    }
}

/// Whether an exec plugin of these arguments is this program.
pub(super) fn is_ours(args: Option<&[String]>) -> bool {
    args.is_some_and(|args| {
        args.first().is_some_and(|first| first == SUBCOMMAND)
            && args.iter().any(|arg| arg == "--context")
    })
}

/// Where this program is: by the search path if that finds it, whose name outlives an update.
fn program() -> std::io::Result<PathBuf> {
    let running = std::env::current_exe()?;
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_name);
    let found = name.and_then(|name| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|candidate| candidate.canonicalize().is_ok_and(|it| it == running))
    });
    Ok(found.unwrap_or(running))
}

const SUBCOMMAND: &str = "credential";

const INSTALL_HINT: &str = "cluster-proxy is no longer where this kubeconfig expects it: install it \
    there, or run `cluster-proxy kubeconfig --merge` again";
