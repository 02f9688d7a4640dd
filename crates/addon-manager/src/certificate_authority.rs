//! The addon's CA: made once, kept in one Secret, never replaced by this program.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster_proxy_identity::ca::{CaError, CertificateAuthority};
use cluster_proxy_identity::certificate::{CertificateFacts, UnreadableCertificate};
use futures_util::Stream;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use tokio::sync::watch;

use crate::config::FIELD_MANAGER;
use crate::context::Context;
use crate::failure::RequestFailure;

/// The CA as it is now, for all controllers. Clones are the same handle.
#[derive(Debug, Clone)]
pub struct CaHandle(Arc<watch::Sender<Option<Arc<CertificateAuthority>>>>);

impl CaHandle {
    /// No CA yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// The CA, or `None` while there is none that can be used.
    #[must_use]
    pub fn current(&self) -> Option<Arc<CertificateAuthority>> {
        self.0.borrow().clone()
    }

    /// Gives an item whenever the CA has come or changed, for `Controller::reconcile_all_on`.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        futures_util::stream::unfold(self.0.subscribe(), |mut receiver| async move {
            receiver.changed().await.ok()?;
            Some(((), receiver))
        })
    }

    /// The CA from now on; those who look for changes learn of it if it is another one.
    pub fn set(&self, authority: Option<Arc<CertificateAuthority>>) {
        self.0.send_if_modified(|current| {
            let changed = match (&current, &authority) {
                (Some(current), Some(new)) => current.cert_pem() != new.cert_pem(),
                (None, None) => false,
                _ => true,
            };
            *current = authority;
            changed
        });
    }
}

impl Default for CaHandle {
    fn default() -> Self {
        Self::new()
    }
}

/// Brings the Secret and the context's handle together, and gives the CA.
///
/// A Secret that is absent is created, with the CA in memory if there is one and `owner` as its
/// owner; when another manager is faster, its CA is the one. A Secret that is there is read and
/// left as it is.
///
/// # Errors
/// [`AuthorityFailure`]: the hub did not let us, or what is kept there cannot be used.
pub async fn ensure(
    context: &Context,
    owner: &OwnerReference,
) -> Result<Arc<CertificateAuthority>, AuthorityFailure> {
    let secrets = Secrets::of(context);
    let authority = match secrets.read().await? {
        Some(secret) => secrets.authority(context, &secret)?,
        None => secrets.create(context, owner).await?,
    };
    context.ca.set(Some(Arc::clone(&authority)));
    Ok(authority)
}

/// The CA that somebody else keeps, or `None` while there is none.
///
/// # Errors
/// [`AuthorityFailure`]: the hub did not let us, or what is kept there cannot be used.
pub async fn find(
    context: &Context,
) -> Result<Option<Arc<CertificateAuthority>>, AuthorityFailure> {
    let secrets = Secrets::of(context);
    let secret = secrets.read().await?;
    secret
        .map(|secret| secrets.authority(context, &secret))
        .transpose()
}

struct Secrets<'a> {
    api: Api<Secret>,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Secrets<'a> {
    fn of(context: &'a Context) -> Self {
        let namespace = &context.config.signer_secret_namespace;
        Self {
            api: Api::namespaced(context.client.clone(), namespace),
            namespace,
            name: &context.config.signer_secret_name,
        }
    }

    fn object(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.name)
    }

    async fn read(&self) -> Result<Option<Secret>, RequestFailure> {
        let read = self.api.get_opt(self.name).await;
        read.map_err(RequestFailure::of("read", self.object()))
    }

    async fn create(
        &self,
        context: &Context,
        owner: &OwnerReference,
    ) -> Result<Arc<CertificateAuthority>, AuthorityFailure> {
        let authority = match context.ca.current() {
            Some(authority) => authority,
            // RSA keys take up to seconds.
            None => Arc::new(
                tokio::task::spawn_blocking(CertificateAuthority::generate)
                    .await
                    .map_err(|_| AuthorityFailure::Interrupted)??,
            ),
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                namespace: Some(self.namespace.to_owned()),
                owner_references: Some(vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([
                (
                    CERTIFICATE.to_owned(),
                    ByteString(authority.cert_pem().into()),
                ),
                (KEY.to_owned(), ByteString(authority.key_pem().into())),
            ])),
            ..Secret::default()
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let created = self.api.create(&params, &secret).await;
        match created.map_err(RequestFailure::of("create", self.object())) {
            Ok(_) => {
                tracing::info!(
                    namespace = self.namespace,
                    name = self.name,
                    "certificate authority created"
                );
                Ok(authority)
            }
            Err(error) if error.is_already_exists() => match self.read().await? {
                Some(secret) => self.authority(context, &secret),
                None => Err(AuthorityFailure::Interrupted),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn authority(
        &self,
        context: &Context,
        secret: &Secret,
    ) -> Result<Arc<CertificateAuthority>, AuthorityFailure> {
        let (cert, key) = pair(secret).map_err(|problem| self.unusable(problem))?;
        if let Some(current) = context.ca.current()
            && current.cert_pem() == cert
            && current.key_pem() == key
        {
            return Ok(current);
        }
        parse(cert, key)
            .map(Arc::new)
            .map_err(|problem| self.unusable(problem))
    }

    fn unusable(&self, problem: SecretProblem) -> AuthorityFailure {
        AuthorityFailure::Unusable {
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            problem,
        }
    }
}

fn pair(secret: &Secret) -> Result<(&str, &str), SecretProblem> {
    Ok((field(secret, CERTIFICATE)?, field(secret, KEY)?))
}

fn field<'a>(secret: &'a Secret, name: &'static str) -> Result<&'a str, SecretProblem> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    let bytes = bytes.ok_or(SecretProblem::Missing { field: name })?;
    match std::str::from_utf8(&bytes.0) {
        Ok("") => Err(SecretProblem::Missing { field: name }),
        Ok(text) => Ok(text),
        Err(_) => Err(SecretProblem::NotText { field: name }),
    }
}

fn parse(cert: &str, key: &str) -> Result<CertificateAuthority, SecretProblem> {
    let facts = CertificateFacts::of_pem(cert.as_bytes()).map_err(SecretProblem::Certificate)?;
    if !facts.is_ca {
        return Err(SecretProblem::NotAnAuthority);
    }
    if facts.not_after <= std::time::SystemTime::now() {
        return Err(SecretProblem::Expired);
    }
    // The library's own text may quote what it read.
    let authority = CertificateAuthority::from_pem(cert, key).map_err(|_| SecretProblem::Key)?;
    if !facts.has_key(key) {
        return Err(SecretProblem::KeyMismatch);
    }
    Ok(authority)
}

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityFailure {
    /// The hub did not answer as hoped.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// No key could be made.
    #[error(transparent)]
    Generate(#[from] CaError),
    /// The Secret went while it was made; the next try will tell.
    #[error("making the CA was interrupted")]
    Interrupted,
    /// The Secret is there and holds no CA that can be used. A person has to decide: replacing it
    /// would shut out every agent.
    #[error(
        "the CA in Secret {namespace}/{name} cannot be used and is left as it is: {problem}; \
         restore it, or delete the Secret to have a new CA (agents will enrol again)"
    )]
    Unusable {
        /// Namespace of the Secret.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong with its content.
        problem: SecretProblem,
    },
}

impl AuthorityFailure {
    /// The reason of an Event, for what stays until a person acts; what the hub did not let us do
    /// is not among it.
    pub(crate) fn for_people(&self) -> Option<&'static str> {
        match self {
            Self::Unusable { .. } => Some("CertificateAuthorityUnusable"),
            Self::Request(_) | Self::Generate(_) | Self::Interrupted => None,
        }
    }
}

/// What is wrong with a Secret that should hold the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// A field is absent or empty.
    #[error("it has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field is no text.
    #[error("its {field} is no PEM")]
    NotText {
        /// The field.
        field: &'static str,
    },
    /// The certificate cannot be read.
    #[error("its ca.crt holds {0}")]
    Certificate(UnreadableCertificate),
    /// The certificate may not sign others.
    #[error("its ca.crt is not the certificate of a CA")]
    NotAnAuthority,
    /// The certificate is past its time.
    #[error("its ca.crt has expired")]
    Expired,
    /// The key cannot be read.
    #[error("its ca.key holds no private key that can be read")]
    Key,
    /// The key is another's.
    #[error("its ca.key does not belong to its ca.crt")]
    KeyMismatch,
}

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

#[cfg(test)]
mod tests;
