//! Kubeconfig files: what a connection needs of them, and nothing that runs programs.
//!
//! The format is that of `k8s.io/client-go/tools/clientcmd/api/v1`. Read with types of our own
//! rather than kube's, so that an error never quotes a line with a credential in it, and that what
//! a server must not do (exec plugins, basic authentication, plain HTTP) is refused by name.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_http_proxy::ProxyUrl;
use cluster_proxy_identity::Token;
use cluster_proxy_identity::tls::FlagFile;
use serde::Deserialize;

use crate::connection::{Server, Source};
use crate::error::ConnectionError;
use crate::tls::{PemSource, Trust};
use crate::token_source::TokenSource;

/// Reads the kubeconfig that `file` names, in `context` or in its current one.
pub(crate) fn load(file: FlagFile, context: Option<&str>) -> Result<Source, ConnectionError> {
    let text =
        std::fs::read_to_string(&file.path).map_err(|source| ConnectionError::Unreadable {
            file: file.clone(),
            source,
        })?;
    parse(file, &text, context)
}

/// Reads the kubeconfig `text`. `file` stands in errors, and relative paths are beside it.
pub(crate) fn parse(
    file: FlagFile,
    text: &str,
    context: Option<&str>,
) -> Result<Source, ConnectionError> {
    let reader = Reader { file };
    let kubeconfig = reader.parse(text)?;
    reader.resolve(&kubeconfig, context)
}

/// The contents by themselves, for errors and relative paths the file stands beside.
struct Reader {
    file: FlagFile,
}

impl Reader {
    fn parse(&self, text: &str) -> Result<Kubeconfig, ConnectionError> {
        serde_saphyr::from_str(text).map_err(|error| {
            // The parser's own words may quote values, which are credentials here.
            let place = error.location().map_or_else(String::new, |location| {
                format!(" (line {}, column {})", location.line(), location.column())
            });
            self.unusable(format!(
                "not a kubeconfig: wrong YAML or a value of a wrong type{place}"
            ))
        })
    }

    fn resolve(
        &self,
        kubeconfig: &Kubeconfig,
        context: Option<&str>,
    ) -> Result<Source, ConnectionError> {
        let name = match (context, kubeconfig.current_context.as_deref()) {
            (Some(name), _) => name,
            (None, Some(name)) if !name.is_empty() => name,
            (None, _) => return Err(self.unusable("it sets no current-context")),
        };
        let context = find(&kubeconfig.contexts, name)
            .and_then(|named| named.context.as_ref())
            .ok_or_else(|| self.unusable(format!("it has no context {name:?}")))?;
        let cluster = find(&kubeconfig.clusters, &context.cluster)
            .and_then(|named| named.cluster.as_ref())
            .ok_or_else(|| {
                self.unusable(format!(
                    "context {name:?} names the cluster {:?}, which it does not have",
                    context.cluster
                ))
            })?;
        // Like client-go, a context without a user is an anonymous one; a user who is named but
        // absent is an error here, since nobody means that.
        let nobody = User::default();
        let user = match context.user.as_deref() {
            None | Some("") => &nobody,
            Some(user) => find(&kubeconfig.users, user)
                .and_then(|named| named.user.as_ref())
                .ok_or_else(|| {
                    self.unusable(format!(
                        "context {name:?} names the user {user:?}, which it does not have"
                    ))
                })?,
        };
        Ok(Source {
            server: self.server(cluster)?,
            proxy: self.proxy(cluster)?,
            trust: self.trust(cluster)?,
            identity: self.identity(user)?,
            token: self.token(user)?,
            namespace: context
                .namespace
                .clone()
                .filter(|namespace| !namespace.is_empty()),
            owner: self.file.clone(),
        })
    }

    fn server(&self, cluster: &Cluster) -> Result<Server, ConnectionError> {
        let url = cluster.server.as_deref().unwrap_or_default();
        let server_name = cluster
            .tls_server_name
            .as_deref()
            .filter(|name| !name.is_empty());
        Server::parse(url, server_name)
            .map_err(|cause| self.unusable(format!("server {url:?}: {cause}")))
    }

    /// `proxy-url`. It may hold a password, and what is wrong with it is told without its text.
    fn proxy(&self, cluster: &Cluster) -> Result<Option<ProxyUrl>, ConnectionError> {
        match cluster.proxy_url.as_deref() {
            None | Some("") => Ok(None),
            Some(url) => ProxyUrl::parse(url)
                .map(Some)
                .map_err(|error| self.unusable(format!("proxy-url: {error}"))),
        }
    }

    fn trust(&self, cluster: &Cluster) -> Result<Trust, ConnectionError> {
        let authority = self.pem(
            "certificate-authority",
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
        )?;
        match (
            cluster.insecure_skip_tls_verify.unwrap_or_default(),
            authority,
        ) {
            (true, Some(_)) => Err(self.unusable(
                "insecure-skip-tls-verify and a certificate-authority exclude each other",
            )),
            (true, None) => {
                tracing::warn!(
                    file = %self.file,
                    "insecure-skip-tls-verify: whoever answers at the server's address is believed"
                );
                Ok(Trust::Insecure)
            }
            (false, Some(authority)) => Ok(Trust::Roots(authority)),
            (false, None) => Ok(Trust::System),
        }
    }

    fn identity(&self, user: &User) -> Result<Option<(PemSource, PemSource)>, ConnectionError> {
        let certificate = self.pem(
            "client-certificate",
            user.client_certificate_data.as_deref(),
            user.client_certificate.as_deref(),
        )?;
        let key = self.pem(
            "client-key",
            user.client_key_data.as_deref(),
            user.client_key.as_deref(),
        )?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.unusable("a client-certificate without a client-key")),
            (None, Some(_)) => Err(self.unusable("a client-key without a client-certificate")),
        }
    }

    fn token(&self, user: &User) -> Result<TokenSource, ConnectionError> {
        if user.exec.is_some() {
            return Err(self.unusable(
                "the user's credentials come from an exec plugin, which is not supported: \
                 use a token, a tokenFile or a client certificate",
            ));
        }
        if user.auth_provider.is_some() {
            return Err(self.unusable("auth-provider is not supported"));
        }
        if user.username.is_some() || user.password.is_some() {
            return Err(self.unusable("username and password are not supported"));
        }
        if user.r#as.is_some() || user.as_uid.is_some() || user.as_groups.is_some() {
            return Err(self.unusable("impersonation (as, as-uid, as-groups) is not supported"));
        }
        match (user.token.as_deref(), user.token_file.as_deref()) {
            (Some(token), _) if !token.is_empty() => Token::parse(token)
                .map(TokenSource::fixed)
                .map_err(|error| self.unusable(format!("token: {error}"))),
            (_, Some(path)) if !path.is_empty() => TokenSource::file(self.beside(path)),
            _ => Ok(TokenSource::none()),
        }
    }

    /// PEM from `…-data`, which wins as in client-go, or from a file.
    fn pem(
        &self,
        field: &str,
        data: Option<&str>,
        path: Option<&str>,
    ) -> Result<Option<PemSource>, ConnectionError> {
        match (data, path) {
            (Some(data), _) if !data.is_empty() => STANDARD
                .decode(data.trim())
                .map(|pem| Some(PemSource::Inline(pem)))
                .map_err(|_| self.unusable(format!("{field}-data is not base64"))),
            (_, Some(path)) if !path.is_empty() => Ok(Some(PemSource::File(self.beside(path)))),
            _ => Ok(None),
        }
    }

    /// A path as a kubeconfig means it: relative to its own directory.
    fn beside(&self, path: &str) -> FlagFile {
        let directory = self.file.path.parent().unwrap_or_else(|| Path::new(""));
        FlagFile::new(self.file.flag, directory.join(path))
    }

    fn unusable(&self, cause: impl Into<String>) -> ConnectionError {
        ConnectionError::Unusable {
            file: self.file.clone(),
            cause: cause.into(),
        }
    }
}

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(rename = "current-context")]
    current_context: Option<String>,
    #[serde(default)]
    contexts: Option<Vec<NamedContext>>,
    #[serde(default)]
    clusters: Option<Vec<NamedCluster>>,
    #[serde(default)]
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Option<Context>,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    cluster: String,
    user: Option<String>,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    r#as: Option<String>,
    as_uid: Option<String>,
    as_groups: Option<Vec<String>>,
    username: Option<String>,
    password: Option<String>,
    auth_provider: Option<Present>,
    exec: Option<Present>,
}

/// A mapping of which only the presence counts.
#[derive(Deserialize)]
struct Present {}

trait Named {
    fn name(&self) -> &str;
}

impl Named for NamedContext {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for NamedCluster {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for NamedUser {
    fn name(&self) -> &str {
        &self.name
    }
}

fn find<'a, T: Named>(list: &'a Option<Vec<T>>, name: &str) -> Option<&'a T> {
    list.iter().flatten().find(|named| named.name() == name)
}

#[cfg(test)]
mod tests;
