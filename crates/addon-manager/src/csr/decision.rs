//! Whether a CertificateSigningRequest is approved.
//!
//! OCM's registration agent makes one for each of the addon's registrations, as the managed
//! cluster's own identity, with the subject that was registered, the usages of every OCM request
//! and one DNS name that is always the same (`pkg/registration/register/csr` of OCM 1.0). Exactly
//! that is approved. The subject is compared with what we render, not with what stands in the
//! addon's status: the agent may write that.

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::names::{ADDON_NAME, ADDON_NAME_LABEL, CLUSTER_NAME_LABEL};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::ResourceExt;

use super::request::{Request, RequestProblem};
use crate::registration::{Registrations, Signer};

/// Whom a CertificateSigningRequest says to be about. Its labels are hints that anybody may set;
/// [`judge`] finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster: ClusterName,
    /// The signer that is asked.
    pub signer: Signer,
}

impl Claim {
    /// What `csr` claims, or `None` if it is none of the addon's.
    #[must_use]
    pub fn of(csr: &CertificateSigningRequest) -> Option<Self> {
        let labels = csr.labels();
        if labels.get(ADDON_NAME_LABEL).map(String::as_str) != Some(ADDON_NAME) {
            return None;
        }
        Some(Self {
            cluster: labels.get(CLUSTER_NAME_LABEL)?.parse().ok()?,
            signer: Signer::of_name(&csr.spec.signer_name)?,
        })
    }
}

/// What the hub knows of the claimed cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No ManagedCluster of that name.
    Unknown,
    /// `spec.hubAcceptsClient` is not true.
    NotAccepted,
    /// The ManagedCluster or the addon is being deleted.
    Leaving,
    /// The cluster has no ManagedClusterAddOn `cluster-proxy`.
    WithoutAddon,
    /// Accepted, and has the addon.
    Member,
}

/// Whether `csr` may be approved, and the custom signers' ones signed.
///
/// # Errors
/// [`Refusal`], the first reason why not.
pub fn judge(
    csr: &CertificateSigningRequest,
    claim: &Claim,
    standing: Standing,
    registrations: &Registrations,
) -> Result<Request, Refusal> {
    match standing {
        Standing::Member => {}
        Standing::Unknown => return Err(Refusal::UnknownCluster),
        Standing::NotAccepted => return Err(Refusal::NotAccepted),
        Standing::Leaving => return Err(Refusal::Leaving),
        Standing::WithoutAddon => return Err(Refusal::WithoutAddon),
    }
    require_own_agent(csr, &claim.cluster)?;
    require_usages(csr)?;
    let request = Request::parse(&csr.spec.request.0)?;
    let registered = &registrations.of(claim.signer).subject;
    if request.subject.common_name != registered.common_name {
        return Err(Refusal::CommonName);
    }
    if !same(&request.subject.organizations, &registered.organizations) {
        return Err(Refusal::Organizations);
    }
    if !same(
        &request.subject.organizational_units,
        &registered.organizational_units,
    ) {
        return Err(Refusal::OrganizationalUnits);
    }
    match request.dns_names.as_slice() {
        [] => {}
        [name] if name == DNS_NAME => {}
        _ => return Err(Refusal::AlternativeNames),
    }
    Ok(request)
}

/// Why a CertificateSigningRequest is left alone. It is never denied: what a person approves by
/// hand is the person's decision, and OCM asks again when a reason has passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// See [`Standing::Unknown`].
    #[error("there is no such managed cluster")]
    UnknownCluster,
    /// See [`Standing::NotAccepted`].
    #[error("the managed cluster is not accepted (spec.hubAcceptsClient)")]
    NotAccepted,
    /// See [`Standing::Leaving`].
    #[error("the managed cluster, or its addon, is being deleted")]
    Leaving,
    /// See [`Standing::WithoutAddon`].
    #[error("the managed cluster has no addon cluster-proxy")]
    WithoutAddon,
    /// Another cluster, another program, a person.
    #[error("requested by {0:?}, which is not the managed cluster's own registration agent")]
    Requester(String),
    /// More than OCM asks for, or no use as a client.
    #[error("asks for usages {0:?}, where OCM asks for a client's")]
    Usages(Vec<String>),
    /// The request itself.
    #[error(transparent)]
    Request(#[from] RequestProblem),
    /// Not the registered user.
    #[error("the common name is not the one registered for this cluster and signer")]
    CommonName,
    /// Not the registered groups.
    #[error("the organizations are not the ones registered for this cluster and signer")]
    Organizations,
    /// Not the registered units: most often a request from before the CA changed.
    #[error(
        "the organizational units are not the ones registered for this cluster and signer; \
         requests from before a change of the CA end here, and the agent asks again"
    )]
    OrganizationalUnits,
    /// Names beside OCM's.
    #[error("asks for other alternative names than {DNS_NAME}")]
    AlternativeNames,
}

impl Refusal {
    /// Whether the hub may come to think otherwise while the request stays as it is.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::UnknownCluster | Self::NotAccepted | Self::Leaving | Self::WithoutAddon
        )
    }
}

/// `spec.username` and `spec.groups` are set by the kube-apiserver to who made the object.
fn require_own_agent(
    csr: &CertificateSigningRequest,
    cluster: &ClusterName,
) -> Result<(), Refusal> {
    let user = csr.spec.username.as_deref().unwrap_or_default();
    let of_cluster = format!("{AGENT_PREFIX}{cluster}");
    let agent = user
        .strip_prefix(of_cluster.as_str())
        .and_then(|rest| rest.strip_prefix(':'));
    // Further colons belong to identities of other kinds, an addon's of a cluster named `cluster`
    // for one.
    let is_agent = agent.is_some_and(|name| !name.is_empty() && !name.contains(':'));
    let groups = csr.spec.groups.as_deref().unwrap_or_default();
    if is_agent && groups.contains(&of_cluster) {
        Ok(())
    } else {
        Err(Refusal::Requester(user.to_owned()))
    }
}

fn require_usages(csr: &CertificateSigningRequest) -> Result<(), Refusal> {
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    let known = usages.iter().all(|it| USAGES.contains(&it.as_str()));
    if known && usages.iter().any(|it| it == CLIENT_AUTH) {
        Ok(())
    } else {
        Err(Refusal::Usages(usages.to_vec()))
    }
}

/// Whether both have the same members as often, in any order.
fn same(asked: &[String], registered: &[String]) -> bool {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    sorted(asked) == sorted(registered)
}

/// How the names of all registration agents begin, and of the group of each cluster's.
const AGENT_PREFIX: &str = "system:open-cluster-management:";

/// The one DNS name that OCM puts into every request of this addon.
const DNS_NAME: &str = "cluster-proxy.addon.open-cluster-management.io";

const CLIENT_AUTH: &str = "client auth";

/// What OCM asks for, for every signer.
const USAGES: [&str; 3] = [CLIENT_AUTH, "digital signature", "key encipherment"];

#[cfg(test)]
mod tests;
