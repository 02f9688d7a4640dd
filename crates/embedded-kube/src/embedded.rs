//! The cluster as the program that embeds it sees it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::ca::{CaError, CertificateAuthority, Issued, Leaf};
use cluster_proxy_identity::tls::{ClientAuth, ServerTls, TlsError};
use cluster_proxy_identity::{Token, User};
use cluster_proxy_kube_api::names::MASTERS_GROUP;
use cluster_proxy_runtime::drain::Drain;
use serde_json::{Value, json};

use crate::authentication::tokens::TokenSigner;
use crate::authentication::{ADMINISTRATOR, Authenticator};
use crate::cluster::Cluster;
use crate::config::{Config, Listener};
use crate::controllers;
use crate::failure::Failure;
use crate::handlers;
use crate::kubeconfig::{Credentials, kubeconfig};
use crate::object;
use crate::objects::{DeleteOptions, Patch, Scope};
use crate::patch::PatchType;
use crate::pods;
use crate::resources::PODS;
use crate::server::{Bound, LocalAddress, Server};

/// A running embedded cluster. It runs until its drain ends; dropping this handle changes nothing.
pub struct EmbeddedKube {
    name: String,
    address: LocalAddress,
    ca: CertificateAuthority,
    admin: Issued,
    cluster: Arc<Cluster>,
}

impl EmbeddedKube {
    /// Makes a CA and keys, binds the listener and serves. When this returns, requests are
    /// answered.
    ///
    /// # Errors
    /// [`Error`] when the address cannot be had, or the client CA cannot be read.
    pub async fn start(config: Config, drain: &Drain) -> Result<Self, Error> {
        let ca = CertificateAuthority::generate()?;
        let leaf = Leaf::client(ADMINISTRATOR, vec![MASTERS_GROUP.to_owned()]);
        let admin = ca.issue(&leaf)?;
        let tls = server_tls(&config, &ca)?;
        let (bound, address) =
            Bound::bind(&config.listener)
                .await
                .map_err(|source| Error::Listen {
                    listener: config.listener.clone(),
                    source,
                })?;
        let signer = TokenSigner::generate(config.issuer).map_err(|error| Error::Signer {
            cause: error.to_string(),
        })?;
        let (cluster, kubelet) = Cluster::new(
            &config.name,
            ca.cert_pem().to_owned(),
            Authenticator::new(signer, config.admin_token),
            format!("{}/openid/v1/jwks", url(&address)),
            drain.clone(),
        );
        drain.spawn_until_ended(controllers::run(Arc::clone(&cluster), kubelet));
        let server = Server {
            cluster: Arc::clone(&cluster),
            tls,
        };
        drain.spawn_until_ended(bound.serve(server));
        Ok(Self {
            name: config.name,
            address,
            ca,
            admin,
            cluster,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> &LocalAddress {
        &self.address
    }

    /// `https://<address>`. Over a Unix socket the host is a name of the certificate, for clients
    /// that connect by a path and still name a host.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.address)
    }

    /// The CA that signed the serving certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca.cert_pem()
    }

    /// The certificate of `kubernetes-admin`, in the group `system:masters`.
    #[must_use]
    pub fn admin_certificate(&self) -> &Issued {
        &self.admin
    }

    /// A client certificate of any user, in any groups.
    ///
    /// # Errors
    /// [`Error::Ca`] for a name that no certificate can have.
    pub fn client_certificate(&self, user: &str, groups: Vec<String>) -> Result<Issued, Error> {
        Ok(self.ca.issue(&Leaf::client(user, groups))?)
    }

    /// A kubeconfig with the administrator's certificate.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> String {
        let credentials = Credentials::Certificate(&self.admin);
        kubeconfig(
            &self.name,
            ADMINISTRATOR,
            &self.url(),
            self.ca_pem(),
            &credentials,
        )
    }

    /// A kubeconfig with a bearer token.
    #[must_use]
    pub fn kubeconfig_for_token(&self, token: &Token) -> String {
        let credentials = Credentials::Token(token.expose());
        kubeconfig(
            &self.name,
            "token",
            &self.url(),
            self.ca_pem(),
            &credentials,
        )
    }

    /// Creates or changes an object, as server-side apply by the administrator. Answers with the
    /// object as it is then.
    ///
    /// # Errors
    /// [`Error::Refused`] as the API would refuse it.
    pub fn apply(&self, wanted: &Value) -> Result<Value, Error> {
        let user = administrator();
        let applied = self.cluster.store.write(false, |state| {
            let (api_version, kind) = (
                object::text(wanted, "/apiVersion"),
                object::text(wanted, "/kind"),
            );
            let resource = self
                .cluster
                .registry
                .of_kind(state, api_version, kind)
                .filter(|it| it.is_stored())
                .ok_or_else(|| {
                    Failure::bad_request(format!("no kind {kind:?} in version {api_version:?}"))
                })?;
            let scope = Scope {
                resource: &resource,
                namespace: match object::namespace(wanted) {
                    "" if resource.namespaced => "default",
                    given => given,
                },
                user: &user,
                part: None,
            };
            let patch = Patch {
                kind: PatchType::Apply,
                document: wanted,
                manager: MANAGER,
                force: true,
            };
            let name = object::name(wanted);
            self.cluster.objects.patch(state, scope, name, patch)
        })?;
        Ok(Value::clone(&applied.0))
    }

    /// An object, if it is there. `namespace` is empty for kinds of the cluster.
    #[must_use]
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.cluster.store.read(|view| {
            let resource = self.cluster.registry.of_kind(view, api_version, kind)?;
            view.get(&resource.shelf, namespace, name)
                .map(|it| Value::clone(&it))
        })
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`Error::Refused`] as the API would refuse it.
    pub fn delete(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), Error> {
        let user = administrator();
        self.cluster.store.write(false, |state| {
            let resource = self
                .cluster
                .registry
                .of_kind(state, api_version, kind)
                .ok_or_else(Failure::unknown_path)?;
            let scope = Scope {
                resource: &resource,
                namespace,
                user: &user,
                part: None,
            };
            self.cluster
                .objects
                .delete(state, scope, name, &DeleteOptions::default())
        })?;
        Ok(())
    }

    /// A token of a service account, as TokenRequest gives. Without audiences it is for the API
    /// itself.
    ///
    /// # Errors
    /// [`Error::Refused`] for an account that is not there, or a lifetime below ten minutes.
    pub fn issue_token(
        &self,
        namespace: &str,
        account: &str,
        audiences: &[&str],
        lifetime: Duration,
    ) -> Result<Token, Error> {
        let wanted = json!({
            "spec": {"audiences": audiences, "expirationSeconds": lifetime.as_secs()},
        });
        let answered = self.cluster.store.read(|view| {
            let signer = &self.cluster.authenticator.signer;
            handlers::issue_token(view, signer, namespace, account, wanted)
        })?;
        Ok(Token::parse(object::text(&answered, "/status/token"))
            .expect("a signed token is a token"))
    }

    /// Writes into the log of a pod's container, the first one if none is named.
    ///
    /// # Errors
    /// [`Error::Refused`] for a pod or a container that is not there.
    pub fn append_pod_log(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        text: &str,
    ) -> Result<(), Error> {
        let about = crate::failure::Subject {
            resource: PODS,
            name: pod,
            ..Default::default()
        };
        let found = self
            .cluster
            .store
            .get(PODS, namespace, pod)
            .ok_or_else(|| Failure::not_found(&about))?;
        let container = pods::containers(&found)
            .find(|name| container.is_none_or(|wanted| wanted == *name))
            .ok_or_else(|| Failure::not_found(&about))?;
        self.cluster
            .logs
            .append(object::uid(&found), container, text);
        Ok(())
    }
}

impl fmt::Debug for EmbeddedKube {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedKube")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Why an embedded cluster does not start, or refuses its host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not allowed.
    #[error("an embedded cluster cannot listen on {listener:?}")]
    Listen {
        /// Where it should have listened.
        listener: Listener,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("an embedded cluster has no certificates")]
    Ca(#[from] CaError),
    /// The certificates cannot be used, or the client CA is none.
    #[error("an embedded cluster cannot serve TLS")]
    Tls(#[from] TlsError),
    /// No key for service account tokens could be made.
    #[error("an embedded cluster cannot sign tokens: {cause}")]
    Signer {
        /// What the library says.
        cause: String,
    },
    /// The API refuses, as it would over HTTP.
    #[error("{message}")]
    Refused {
        /// The HTTP status code.
        code: u16,
        /// The reason of the `Status`, e.g. `NotFound`.
        reason: &'static str,
        /// The message of the `Status`.
        message: String,
    },
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Refused {
            code: failure.code().as_u16(),
            reason: failure.reason(),
            message: failure.message().to_owned(),
        }
    }
}

fn url(address: &LocalAddress) -> String {
    match address {
        LocalAddress::Tcp(address) => format!("https://{address}"),
        LocalAddress::Unix(_) => format!("https://{SERVICE_NAME}"),
    }
}

fn server_tls(config: &Config, ca: &CertificateAuthority) -> Result<ServerTls, Error> {
    let mut sans: Vec<_> = SANS.iter().map(|&it| it.to_owned()).collect();
    if let Listener::Tcp(address) = &config.listener
        && !address.ip().is_unspecified()
        && !address.ip().is_loopback()
    {
        sans.push(address.ip().to_string());
    }
    sans.extend(config.sans.iter().cloned());
    let issued = ca.issue(&Leaf::server(sans))?;
    let mut client_ca = ca.cert_pem().to_owned();
    client_ca.push_str(config.client_ca.as_deref().unwrap_or_default());
    Ok(ServerTls::from_pem(
        issued.cert_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        Some(client_ca.as_bytes()),
        ClientAuth::Optional,
        vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    )?)
}

fn administrator() -> User {
    User {
        name: ADMINISTRATOR.to_owned(),
        groups: vec![MASTERS_GROUP.to_owned()],
        ..User::default()
    }
}

/// The field manager of what the host program applies.
const MANAGER: &str = "embedded-kube";

/// The name by which a cluster's own programs reach its API.
const SERVICE_NAME: &str = "kubernetes.default.svc";

const SANS: [&str; 7] = [
    SERVICE_NAME,
    "kubernetes.default.svc.cluster.local",
    "kubernetes.default",
    "kubernetes",
    "localhost",
    "127.0.0.1",
    "::1",
];
