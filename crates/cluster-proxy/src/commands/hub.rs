//! The hub as its user reaches it: by a kubeconfig, with whatever credentials that has.

mod plugin;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_identity::Token;
use cluster_proxy_identity::tls::FlagFile;
use cluster_proxy_kube_client::Connection;
use cluster_proxy_runtime::error::StartError;
use jiff::Timestamp;
use kube::config::{AuthInfo, Cluster, Kubeconfig, KubeconfigError};
use serde_json::json;

use self::plugin::{PluginAnswer, PluginCredential};

/// Which kubeconfig is the hub's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HubFlags {
    /// Kubeconfig of the hub [default: $KUBECONFIG, or ~/.kube/config].
    #[arg(
        id = "hub_kubeconfig",
        long = "kubeconfig",
        value_name = "FILE",
        help_heading = "Hub"
    )]
    kubeconfig: Option<PathBuf>,

    /// Context of the hub in --kubeconfig [default: the current one].
    #[arg(long, value_name = "NAME", help_heading = "Hub")]
    context: Option<String>,
}

/// A context of a kubeconfig, resolved.
pub(crate) struct Hub {
    pub(crate) files: HubFiles,
    /// The name of the context.
    pub(crate) context: String,
    cluster: Cluster,
    user: AuthInfo,
}

/// Where the hub's kubeconfig is. More than one file comes from `$KUBECONFIG` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubFiles {
    flag: &'static str,
    pub(crate) paths: Vec<PathBuf>,
}

/// How a user proves itself to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    Token,
    TokenFile,
    Plugin,
    Certificate,
}

/// A token for the hub, and until when it is good, where that is known.
pub(crate) struct HubToken {
    pub(crate) token: Token,
    pub(crate) expires: Option<Timestamp>,
}

impl HubFlags {
    /// Reads the kubeconfig.
    pub(crate) fn load(self) -> Result<Hub, StartError> {
        let Self {
            kubeconfig,
            context,
        } = self;
        let files = HubFiles::find(kubeconfig, std::env::var_os(KUBECONFIG))?;
        let kubeconfig = files.read()?;
        Hub::of(files, kubeconfig, context)
    }
}

impl HubFiles {
    /// The file that was asked for, else those of `variable` that are there, else the usual one.
    fn find(flag: Option<PathBuf>, variable: Option<OsString>) -> Result<Self, StartError> {
        if let Some(path) = flag {
            return Ok(Self {
                flag: FLAG,
                paths: vec![absolute(&path)?],
            });
        }
        let listed = listed(variable)?;
        if !listed.is_empty() {
            let there: Vec<_> = listed
                .iter()
                .filter(|path| path.exists())
                .cloned()
                .collect();
            let paths = if there.is_empty() { listed } else { there };
            return Ok(Self {
                flag: "$KUBECONFIG",
                paths,
            });
        }
        Ok(Self {
            flag: FLAG,
            paths: vec![usual()?],
        })
    }

    /// All of it, as client-go merges several files.
    fn read(&self) -> Result<Kubeconfig, StartError> {
        let mut merged = Kubeconfig::default();
        for path in &self.paths {
            let read = Kubeconfig::read_from(path).map_err(|error| {
                StartError::failed(format_args!(
                    "{} {}: {}",
                    self.flag,
                    path.display(),
                    harmless(&error)
                ))
            })?;
            merged = merged
                .merge(read)
                .map_err(|error| self.failed(&harmless(&error)))?;
        }
        Ok(merged)
    }

    fn failed(&self, cause: &dyn fmt::Display) -> StartError {
        StartError::failed(format_args!("{}: {cause}", self.as_flag_file()))
    }

    fn as_flag_file(&self) -> FlagFile {
        // Of several, the list as the variable has it.
        let path = std::env::join_paths(&self.paths).unwrap_or_default();
        FlagFile::new(self.flag, path)
    }
}

impl Hub {
    fn of(
        files: HubFiles,
        kubeconfig: Kubeconfig,
        context: Option<String>,
    ) -> Result<Self, StartError> {
        let name = context
            .or(kubeconfig.current_context)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| files.failed(&"it sets no current-context: name one with --context"))?;
        let context = kubeconfig.contexts.into_iter().find(|it| it.name == name);
        let context = context
            .and_then(|named| named.context)
            .ok_or_else(|| files.failed(&format_args!("it has no context {name:?}")))?;
        let wanted = context.cluster;
        let cluster = kubeconfig.clusters.into_iter().find(|it| it.name == wanted);
        let cluster = cluster.and_then(|named| named.cluster).ok_or_else(|| {
            files.failed(&format_args!(
                "context {name:?} names the cluster {wanted:?}, which it does not have"
            ))
        })?;
        let wanted = context.user.unwrap_or_default();
        let mut users = kubeconfig.auth_infos.into_iter();
        let user = users
            .find(|it| it.name == wanted)
            .and_then(|named| named.auth_info)
            .ok_or_else(|| {
                files.failed(&format_args!(
                    "context {name:?} names the user {wanted:?}, which it does not have"
                ))
            })?;
        Ok(Self {
            files,
            context: name,
            cluster,
            user,
        })
    }

    /// The user's exec plugin, if that is what proves it.
    pub(crate) fn plugin_args(&self) -> Option<&[String]> {
        self.user.exec.as_ref()?.args.as_deref()
    }

    /// How the user proves itself. What would make it somebody else (impersonation) or gives no
    /// token and no certificate is refused.
    pub(crate) fn credentials(&self) -> Result<Credentials, StartError> {
        let user = &self.user;
        let filled = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        if filled(user.impersonate.as_deref())
            || filled(user.impersonate_uid.as_deref())
            || user.impersonate_groups.is_some()
            || user.impersonate_user_extra.is_some()
        {
            return Err(self.failed(
                "impersonation (as, as-uid, as-groups) is not supported: a token would be the \
                 user's own",
            ));
        }
        if user.auth_provider.is_some() {
            return Err(self.failed("auth-provider is not supported: use an exec plugin"));
        }
        if user.username.is_some() || user.password.is_some() {
            return Err(self.failed("username and password are not supported"));
        }
        // In the order of client-go; `kube` hides the token itself.
        let token = self.secret("token");
        if filled(token.as_deref()) {
            return Ok(Credentials::Token);
        }
        if filled(user.token_file.as_deref()) {
            return Ok(Credentials::TokenFile);
        }
        if user.exec.is_some() {
            return Ok(Credentials::Plugin);
        }
        let certificate = user.client_certificate_data.as_deref();
        if filled(certificate) || filled(user.client_certificate.as_deref()) {
            return Ok(Credentials::Certificate);
        }
        Err(self.failed("its user has no credentials"))
    }

    /// The user's own token.
    pub(crate) async fn own_token(&self) -> Result<HubToken, StartError> {
        let parsed = |text: &str, place: &str| {
            Token::parse(text).map_err(|error| self.failed(format_args!("{place}: {error}")))
        };
        match self.credentials()? {
            Credentials::Token => Ok(HubToken {
                token: parsed(&self.secret("token").unwrap_or_default(), "token")?,
                expires: None,
            }),
            Credentials::TokenFile => {
                let path = self.user.token_file.as_deref().unwrap_or_default();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| self.failed(format_args!("tokenFile {path}: {error}")))?;
                Ok(HubToken {
                    token: parsed(&text, &format!("tokenFile {path}"))?,
                    // It may be replaced at any time, and clients keep what has no end.
                    expires: Timestamp::now().checked_add(TOKEN_FILE_AGE).ok(),
                })
            }
            Credentials::Plugin => {
                let PluginAnswer {
                    credential,
                    expires,
                } = self.plugin().await?;
                match credential {
                    PluginCredential::Token(token) => Ok(HubToken { token, expires }),
                    PluginCredential::Certificate { .. } => {
                        Err(self.no_token("its exec plugin gives a client certificate"))
                    }
                }
            }
            Credentials::Certificate => Err(self.no_token("its user has a client certificate")),
        }
    }

    /// What there is instead of a token, and what to do.
    pub(crate) fn no_token(&self, instead: &str) -> StartError {
        self.failed(format_args!(
            "context {:?}: {instead} and no token, which the user-server needs: name a service \
             account of the hub with --service-account NAMESPACE/NAME",
            self.context
        ))
    }

    /// The hub itself, with these credentials. Runs the exec plugin if there is one.
    pub(crate) async fn connect(&self) -> Result<Connection, StartError> {
        let mut user = self.user.clone();
        let mut document = match self.credentials()? {
            Credentials::Plugin => {
                user.exec = None;
                let mut document = self.document(&user)?;
                let own = &mut document["users"][0]["user"];
                match self.plugin().await?.credential {
                    PluginCredential::Token(token) => own["token"] = json!(token.expose()),
                    PluginCredential::Certificate { certificate, key } => {
                        own["client-certificate-data"] = json!(STANDARD.encode(certificate));
                        own["client-key-data"] = json!(STANDARD.encode(key));
                    }
                }
                document
            }
            Credentials::Token | Credentials::TokenFile | Credentials::Certificate => {
                user.exec = None;
                self.document(&user)?
            }
        };
        // Kept in memory only. JSON is YAML.
        let text = document.take().to_string();
        Connection::from_kubeconfig_text(self.files.as_flag_file(), &text, None)
            .map_err(StartError::failed)
    }

    /// This context as a kubeconfig of its own.
    fn document(&self, user: &AuthInfo) -> Result<serde_json::Value, StartError> {
        let name = &self.context;
        let user = serde_json::to_value(user).map_err(|_| self.failed("its user is damaged"))?;
        Ok(json!({
            "clusters": [{"name": name, "cluster": self.cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }))
    }

    async fn plugin(&self) -> Result<PluginAnswer, StartError> {
        let config = self.user.exec.clone().unwrap_or_default();
        let command = config.command.clone().unwrap_or_default();
        plugin::run(config, &self.cluster)
            .await
            .map_err(|cause| self.failed(format_args!("its exec plugin {command}: {cause}")))
    }

    /// A field that `kube` keeps from view.
    fn secret(&self, field: &str) -> Option<String> {
        let user = serde_json::to_value(&self.user).ok()?;
        user[field].as_str().map(str::to_owned)
    }

    /// A failure of this kubeconfig.
    pub(crate) fn failed(&self, cause: impl fmt::Display) -> StartError {
        self.files.failed(&cause)
    }
}

/// The files of `$KUBECONFIG`.
pub(crate) fn listed(variable: Option<OsString>) -> Result<Vec<PathBuf>, StartError> {
    let variable = variable.unwrap_or_default();
    std::env::split_paths(&variable)
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| absolute(&path))
        .collect()
}

/// The kubeconfig of who names none.
pub(crate) fn usual() -> Result<PathBuf, StartError> {
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let home = home.ok_or_else(|| {
        StartError::failed("no kubeconfig: there is neither $KUBECONFIG nor $HOME")
    })?;
    absolute(&home.join(".kube/config"))
}

fn absolute(path: &Path) -> Result<PathBuf, StartError> {
    std::path::absolute(path)
        .map_err(|error| StartError::failed(format_args!("{}: {error}", path.display())))
}

/// What is wrong, without a word of the file: a parser quotes the values that it stumbles over.
fn harmless(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) if error.kind() == std::io::ErrorKind::NotFound => {
            "no such file".to_owned()
        }
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        KubeconfigError::Parse(error) => {
            let place = error.location().map_or_else(String::new, |location| {
                format!(" (line {}, column {})", location.line(), location.column())
            });
            format!("not a kubeconfig: wrong YAML or a value of a wrong type{place}")
        }
        KubeconfigError::KindMismatch | KubeconfigError::ApiVersionMismatch => {
            "its files are of different kinds".to_owned()
        }
        _ => "not a kubeconfig".to_owned(),
    }
}

/// The variable that kubeconfigs are listed in.
pub(crate) const KUBECONFIG: &str = "KUBECONFIG";

const FLAG: &str = "--kubeconfig";

/// For one exchange with the hub, connection included.
pub(crate) const HUB_LIMIT: Duration = Duration::from_secs(30);

/// client-go reads token files again every minute; the `kube` crate asks again a minute early.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(120);

#[cfg(test)]
pub(crate) mod tests;
