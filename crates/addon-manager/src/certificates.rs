//! The TLS Secrets on the hub: issued by the addon's CA, renewed in good time and when what they
//! should say has changed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use cluster_proxy_identity::ca::{CaError, CertificateAuthority, Issued, Leaf};
use cluster_proxy_identity::certificate::{CertificateFacts, UnreadableCertificate};
use cluster_proxy_kube_api::names::SHARED_SERVICE_PROXY_SECRET;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};

use crate::config::FIELD_MANAGER;
use crate::context::Context;
use crate::failure::RequestFailure;

/// A certificate that should be in a Secret.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it is for, in metrics and logs.
    pub purpose: &'static str,
    /// The Secret's name.
    pub secret: String,
    /// What it should say.
    pub leaf: Leaf,
    /// From when on before its end it is renewed.
    pub renew_before: Duration,
}

impl Wanted {
    /// A certificate that lives for 180 days, as upstream's do, and is renewed when a third of
    /// that is left.
    #[must_use]
    pub fn new(purpose: &'static str, secret: impl Into<String>, leaf: Leaf) -> Self {
        Self {
            purpose,
            secret: secret.into(),
            leaf: leaf.valid_for(VALIDITY),
            renew_before: VALIDITY / 3,
        }
    }
}

/// A certificate that is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// When it expires.
    pub expires: SystemTime,
    /// When it is to be looked at again.
    pub renew_at: SystemTime,
    /// Whether it was issued just now.
    pub renewed: bool,
}

/// Puts `wanted` into its Secret in `namespace`, unless what is there still serves.
///
/// # Errors
/// [`CertificateFailure`]: the hub did not let us, a name that no certificate can have, or a
/// Secret that another program keeps.
pub async fn ensure(
    context: &Context,
    namespace: &str,
    authority: &CertificateAuthority,
    wanted: &Wanted,
    metadata: ObjectMeta,
) -> Result<Signed, CertificateFailure> {
    let name = wanted.secret.as_str();
    let object = format!("Secret {namespace}/{name}");
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let read = api.get_opt(name).await;
    let kept = read.map_err(RequestFailure::of("read", object.clone()))?;
    if let Some(keeper) = kept.as_ref().and_then(other_keeper) {
        return Err(CertificateFailure::KeptByOther { object, keeper });
    }
    let now = SystemTime::now();
    let reason = match judge(kept.as_ref(), wanted, authority, now) {
        Verdict::Serves(facts) => {
            context
                .metrics
                .certificate_expires(wanted.purpose, facts.not_after);
            return Ok(signed(&facts, wanted, false));
        }
        Verdict::Issue(reason) => reason,
    };
    let issued = authority
        .issue(&wanted.leaf)
        .map_err(|source| CertificateFailure::Issue {
            purpose: wanted.purpose,
            source,
        })?;
    let facts = CertificateFacts::of_pem(issued.cert_pem.as_bytes()).map_err(|source| {
        CertificateFailure::Unreadable {
            purpose: wanted.purpose,
            source,
        }
    })?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..metadata
        },
        // Immutable: a Secret that came into being as another kind stays one.
        type_: match &kept {
            Some(kept) => kept.type_.clone(),
            None => Some(TLS_TYPE.to_owned()),
        },
        data: Some(data(&issued, authority)),
        ..Secret::default()
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &params, &Patch::Apply(&secret))
        .await
        .map_err(RequestFailure::of("apply", object))?;
    tracing::info!(
        namespace,
        secret = name,
        purpose = wanted.purpose,
        %reason,
        "certificate issued"
    );
    context
        .metrics
        .certificate_expires(wanted.purpose, facts.not_after);
    Ok(signed(&facts, wanted, true))
}

fn signed(facts: &CertificateFacts, wanted: &Wanted, renewed: bool) -> Signed {
    Signed {
        expires: facts.not_after,
        renew_at: facts.not_after - wanted.renew_before,
        renewed,
    }
}

fn data(issued: &Issued, authority: &CertificateAuthority) -> BTreeMap<String, ByteString> {
    let fields = [
        (CERTIFICATE, issued.cert_pem.as_str()),
        (KEY, issued.key_pem.as_str()),
        (AUTHORITY, authority.cert_pem()),
    ];
    fields
        .map(|(field, text)| (field.to_owned(), ByteString(text.into())))
        .into()
}

enum Verdict {
    Serves(CertificateFacts),
    Issue(Reason),
}

/// Why a certificate is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("there is none")]
    Absent,
    #[error("its Secret holds no certificate and key that belong together")]
    Damaged,
    #[error("another CA signed it")]
    OtherAuthority,
    #[error("it should say something else")]
    OtherContent,
    #[error("it expires soon")]
    Due,
}

fn judge(
    kept: Option<&Secret>,
    wanted: &Wanted,
    authority: &CertificateAuthority,
    now: SystemTime,
) -> Verdict {
    let Some(secret) = kept else {
        return Verdict::Issue(Reason::Absent);
    };
    let field = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        bytes.map_or("", |bytes| std::str::from_utf8(&bytes.0).unwrap_or(""))
    };
    let Ok(facts) = CertificateFacts::of_pem(field(CERTIFICATE).as_bytes()) else {
        return Verdict::Issue(Reason::Damaged);
    };
    if !facts.has_key(field(KEY)) {
        return Verdict::Issue(Reason::Damaged);
    }
    let signer = CertificateFacts::of_pem(authority.cert_pem().as_bytes());
    if !signer.is_ok_and(|signer| facts.is_signed_by(&signer))
        || field(AUTHORITY) != authority.cert_pem()
    {
        return Verdict::Issue(Reason::OtherAuthority);
    }
    if !facts.says(&wanted.leaf) {
        return Verdict::Issue(Reason::OtherContent);
    }
    if now + wanted.renew_before >= facts.not_after {
        return Verdict::Issue(Reason::Due);
    }
    Verdict::Serves(facts)
}

/// The program that keeps this Secret, if it is not this one: two that renew the same Secret would
/// do so for ever.
fn other_keeper(secret: &Secret) -> Option<&'static str> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations
        .contains_key(CERT_MANAGER_ANNOTATION)
        .then_some("cert-manager")
}

/// The certificate of upstream's service-proxies, all of which share one: its Secret is what a Go
/// manager hands to its agents. For `controllers`, which runs beside such a manager; ours has a
/// certificate for each cluster.
#[must_use]
pub fn shared_service_proxy() -> Wanted {
    let sans = [
        "*",
        "localhost",
        "127.0.0.1",
        "*.open-cluster-management.proxy",
    ];
    Wanted::new(
        "service-proxy",
        SHARED_SERVICE_PROXY_SECRET,
        Leaf::server(sans.map(str::to_owned).to_vec()),
    )
}

/// Why a certificate is not in place.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFailure {
    /// The hub did not answer as hoped.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// A name that no certificate can have, mostly.
    #[error("the {purpose} certificate cannot be issued (look at additionalSANs): {source}")]
    Issue {
        /// What it is for.
        purpose: &'static str,
        /// What the library says.
        source: CaError,
    },
    /// What was issued cannot be read back.
    #[error("the {purpose} certificate cannot be read back: {source}")]
    Unreadable {
        /// What it is for.
        purpose: &'static str,
        /// What is wrong.
        source: UnreadableCertificate,
    },
    /// Another program keeps the Secret.
    #[error(
        "{object} is kept by {keeper} and is left as it is: remove its Certificate, or take \
         userServer out of the configuration"
    )]
    KeptByOther {
        /// The Secret.
        object: String,
        /// Who keeps it.
        keeper: &'static str,
    },
}

impl CertificateFailure {
    /// The reason of an Event, for what stays until a person acts; what the hub did not let us do
    /// is not among it.
    pub(crate) fn for_people(&self) -> Option<&'static str> {
        match self {
            Self::Issue { .. } | Self::KeptByOther { .. } => Some("CertificateNotSigned"),
            Self::Request(_) | Self::Unreadable { .. } => None,
        }
    }
}

/// As upstream's certificates; a third of it is two months to notice what goes wrong.
const VALIDITY: Duration = Duration::from_hours(24 * 180);

const TLS_TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// On every Secret that cert-manager writes.
const CERT_MANAGER_ANNOTATION: &str = "cert-manager.io/certificate-name";

#[cfg(test)]
mod tests;
