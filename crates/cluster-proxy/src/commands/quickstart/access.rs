//! An administrator's way into a cluster, and what quickstart needs to be allowed there.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_embedded_kube::{self as embedded_kube, EmbeddedKube, Listener, LocalAddress};
use cluster_proxy_kube_client::{Address, Connection, ConnectionParts, TokenSource};
use cluster_proxy_runtime::drain::Drain;
use cluster_proxy_runtime::error::StartError;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use super::folder::Folder;

/// A name in every kube-apiserver's certificate.
const API_SERVER_NAME: &str = "kubernetes.default.svc";

/// How long the accounts' tokens are good for; they are renewed well before.
const TOKEN_SECONDS: i64 = 3600;

/// A cluster that quickstart may change.
#[derive(Clone)]
pub(super) struct Access {
    /// `hub` or `managed`, for messages.
    pub(super) name: &'static str,
    pub(super) client: Client,
    /// Where roles find the kube-apiserver: `https://…` or `unix://…`.
    pub(super) server: String,
    pub(super) tls_server_name: Option<String>,
    pub(super) ca_pem: Vec<u8>,
}

impl Access {
    /// An embedded hub, on a port of the loopback address.
    pub(super) async fn embedded_hub(drain: &Drain) -> Result<Self> {
        Self::embedded(
            "hub",
            Listener::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            drain,
        )
        .await
    }

    /// An embedded managed cluster, on a Unix socket in `folder`.
    pub(super) async fn embedded_managed(folder: &Folder, drain: &Drain) -> Result<Self> {
        let socket = folder.path().join("managed.sock");
        Self::embedded("managed", Listener::Unix(socket), drain).await
    }

    async fn embedded(name: &'static str, listener: Listener, drain: &Drain) -> Result<Self> {
        let config = embedded_kube::Config {
            listener,
            ..embedded_kube::Config::new(name)
        };
        let cluster = EmbeddedKube::start(config, drain).await?;
        let (address, server) = match cluster.local_address() {
            LocalAddress::Tcp(address) => (
                Address::Tcp {
                    host: address.ip().to_string(),
                    port: address.port(),
                },
                cluster.url(),
            ),
            LocalAddress::Unix(path) => (
                Address::Unix(path.clone()),
                format!("unix://{}", path.display()),
            ),
        };
        let admin = cluster.admin_certificate();
        let ca_pem = cluster.ca_pem().as_bytes().to_vec();
        let connection = Connection::from_parts(ConnectionParts {
            address,
            server_name: API_SERVER_NAME.to_owned(),
            ca: ca_pem.clone(),
            client_certificate: Some((
                admin.cert_pem.clone().into_bytes(),
                admin.key_pem.clone().into_bytes(),
            )),
            token: TokenSource::none(),
        })?;
        Ok(Self {
            name,
            client: connection.client(),
            server,
            tls_server_name: Some(API_SERVER_NAME.to_owned()),
            ca_pem,
        })
    }

    /// A real cluster, with whatever credentials its kubeconfig has.
    pub(super) async fn existing(
        name: &'static str,
        flag: &'static str,
        path: &Path,
    ) -> Result<Self, StartError> {
        let fail = |cause: &dyn fmt::Display| {
            StartError::failed(format_args!("{flag} {}: {cause}", path.display()))
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| fail(&error))?;
        let (server, tls_server_name, ca_pem) =
            server_of(&kubeconfig).map_err(|error| fail(&format_args!("{error:#}")))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| fail(&error))?;
        let client = Client::try_from(config).map_err(|error| fail(&error))?;
        client
            .apiserver_version()
            .await
            .map_err(|error| fail(&format_args!("the {name} cluster does not answer: {error}")))?;
        Ok(Self {
            name,
            client,
            server,
            tls_server_name,
            ca_pem,
        })
    }

    /// A kubeconfig for a role whose token is kept in `token_file`.
    pub(super) fn kubeconfig(&self, token_file: &Path) -> String {
        let mut cluster = json!({
            "server": self.server,
            "certificate-authority-data": STANDARD.encode(&self.ca_pem),
        });
        if let Some(name) = &self.tls_server_name {
            cluster["tls-server-name"] = json!(name);
        }
        // JSON is YAML.
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": self.name, "cluster": cluster }],
            "users": [{ "name": "role", "user": { "tokenFile": token_file } }],
            "contexts": [{ "name": "role", "context": { "cluster": self.name, "user": "role" } }],
            "current-context": "role",
        })
        .to_string()
    }

    /// A token of a service account, as `kubectl create token` makes it.
    pub(super) async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let made = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("{}: a token for {namespace}/{account}", self.name))?;
        let token = made
            .status
            .context("the token request has no answer")?
            .token;
        ensure!(
            !token.is_empty(),
            "the token request was answered with no token"
        );
        Ok(token)
    }

    /// Those of `rights` that these credentials lack.
    pub(super) async fn lacking<'r>(&self, rights: &'r [Right]) -> Result<Vec<&'r Right>> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let mut lacking = Vec::new();
        for right in rights {
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        group: Some(right.group.to_owned()),
                        resource: Some(right.resource.to_owned()),
                        subresource: right.subresource.map(str::to_owned),
                        verb: Some(right.verb.to_owned()),
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let answer = reviews
                .create(&PostParams::default(), &review)
                .await
                .with_context(|| format!("{}: asking for rights", self.name))?;
            if !answer.status.is_some_and(|status| status.allowed) {
                lacking.push(right);
            }
        }
        Ok(lacking)
    }
}

/// One thing that quickstart's credentials must be allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(subresource) = self.subresource {
            write!(f, "/{subresource}")?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

const fn right(verb: &'static str, group: &'static str, resource: &'static str) -> Right {
    Right {
        verb,
        group,
        resource,
        subresource: None,
    }
}

/// What is needed on both: to make and remove accounts and their rights, and to hold the rights
/// that are handed on (RBAC lets nobody give what they lack).
pub(super) const RIGHTS_ON_BOTH: &[Right] = &[
    right("create", "", "namespaces"),
    right("delete", "", "namespaces"),
    right("create", "", "serviceaccounts"),
    right("delete", "", "serviceaccounts"),
    Right {
        verb: "create",
        group: "",
        resource: "serviceaccounts",
        subresource: Some("token"),
    },
    right("create", RBAC, "clusterroles"),
    right("delete", RBAC, "clusterroles"),
    right("create", RBAC, "clusterrolebindings"),
    right("delete", RBAC, "clusterrolebindings"),
    right("create", "authentication.k8s.io", "tokenreviews"),
];

/// What is needed on the managed cluster beyond that.
pub(super) const RIGHTS_ON_MANAGED: &[Right] = &[
    right("create", RBAC, "roles"),
    right("delete", RBAC, "roles"),
    right("create", RBAC, "rolebindings"),
    right("delete", RBAC, "rolebindings"),
    right("impersonate", "", "users"),
    right("impersonate", "", "groups"),
];

/// Server, name to verify and CA of a kubeconfig's current context.
fn server_of(kubeconfig: &Kubeconfig) -> Result<(String, Option<String>, Vec<u8>)> {
    let current = kubeconfig
        .current_context
        .as_deref()
        .context("it has no current-context")?;
    let context = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == current)
        .and_then(|context| context.context.as_ref())
        .with_context(|| format!("it has no context {current:?}"))?;
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.as_ref())
        .with_context(|| format!("it has no cluster {:?}", context.cluster))?;
    let server = cluster
        .server
        .clone()
        .context("its cluster has no server")?;
    let ca = if let Some(data) = &cluster.certificate_authority_data {
        STANDARD
            .decode(data)
            .context("its certificate-authority-data is not base64")?
    } else if let Some(file) = &cluster.certificate_authority {
        std::fs::read(file).with_context(|| file.clone())?
    } else {
        anyhow::bail!("its cluster has no certificate-authority")
    };
    Ok((server, cluster.tls_server_name.clone(), ca))
}
