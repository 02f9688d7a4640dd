//! Certificates of agents: what OCM's registration agents ask for is approved and, for the
//! addon's own signers, signed.
//!
//! What is signed is what design and registration say, whatever was asked: of a request only the
//! key is taken. A request that somebody approved by hand is signed only if it would have been
//! approved here.

mod decision;
mod request;

use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_identity::ca::{CaError, CertificateAuthority, Leaf};
use cluster_proxy_kube_api::names::{ADDON_NAME, ADDON_NAME_LABEL};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use serde_json::json;

pub use decision::{Claim, Refusal, Standing, judge};
pub use request::{Request, RequestProblem};

use crate::addon;
use crate::config::FIELD_MANAGER;
use crate::context::Context;
use crate::controller;
use crate::failure::RequestFailure;
use crate::registration::{CERTIFICATE_ANNOTATION, Registrations, Signer};

/// Looks at every request of the addon until the context's drain, and at those of a cluster again
/// when the cluster or its addon changes.
pub async fn run(context: Arc<Context>) {
    let client = &context.watch_client;
    let selector = format!("{ADDON_NAME_LABEL}={ADDON_NAME}");
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    let controller = Controller::new(requests, watcher::Config::default().labels(&selector));
    let (of_cluster, of_addon) = (controller.store(), controller.store());
    let ca = context.ca.changes();
    let controller = controller
        .watches_with(
            addon::clusters(client),
            addon::cluster_resource(),
            watcher::Config::default(),
            move |cluster| about(&of_cluster, &cluster.name_any()),
        )
        .watches_with(
            addon::addons(client),
            addon::addon_resource(),
            watcher::Config::default().fields(addon::SELECTOR),
            move |object: DynamicObject| about(&of_addon, &object.namespace().unwrap_or_default()),
        )
        .reconcile_all_on(ca);
    controller::run(context, "csr", controller, reconcile).await;
}

/// Approves or signs one request, or leaves it. Doing it twice changes nothing.
///
/// # Errors
/// [`Error`]; a conflict with somebody else's write is none.
pub async fn reconcile(
    csr: Arc<CertificateSigningRequest>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    match work(&csr, &context).await {
        Err(Error::Request(failure)) if failure.is_conflict() => {
            Ok(Action::requeue(AFTER_CONFLICT))
        }
        outcome => outcome,
    }
}

async fn work(csr: &CertificateSigningRequest, context: &Context) -> Result<Action, Error> {
    let done = Action::await_change();
    let Some(claim) = Claim::of(csr) else {
        return Ok(done);
    };
    let stage = Stage::of(csr, claim.signer);
    if stage == Stage::Done {
        return Ok(done);
    }
    let Some(ca) = context.ca.current() else {
        // The controller looks at everything again when the CA comes.
        return Ok(done);
    };
    let standing = standing(context, &claim.cluster).await?;
    let registrations = Registrations::new(&claim.cluster, ca.cert_pem());
    let request = match judge(csr, &claim, standing, &registrations) {
        Ok(request) => request,
        Err(refusal) => {
            left_alone(csr, &claim, &refusal);
            return Ok(done);
        }
    };
    let requests = Api::<CertificateSigningRequest>::all(context.client.clone());
    match stage {
        Stage::Done => {}
        Stage::Approve => approve(&requests, csr).await?,
        Stage::Sign => {
            let signed = sign(&ca, &claim, &registrations, &request);
            let certificate = signed.map_err(|source| Error::Sign {
                csr: csr.name_any(),
                source,
            })?;
            // First the note: once the request is answered it is not looked at again.
            if claim.signer == Signer::ProxyAgent {
                note_certificate(context, &claim.cluster).await?;
            }
            answer(&requests, csr, &certificate).await?;
        }
    }
    let stage = stage.past();
    tracing::info!(
        csr = csr.name_any(),
        cluster = %claim.cluster,
        signer = claim.signer.name(),
        "certificate signing request {stage}"
    );
    Ok(done)
}

/// What can pass is the way of every new cluster; anything else is a fault, or an attack.
fn left_alone(csr: &CertificateSigningRequest, claim: &Claim, refusal: &Refusal) {
    let (csr, cluster, signer) = (csr.name_any(), &claim.cluster, claim.signer.name());
    if refusal.may_pass() {
        tracing::info!(csr, %cluster, signer, "certificate signing request waits: {refusal}");
    } else {
        tracing::warn!(csr, %cluster, signer, "certificate signing request refused: {refusal}");
    }
}

/// Why a request could be neither approved nor signed for now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hub did not let us.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// The key is one that cannot be signed.
    #[error("CertificateSigningRequest {csr} cannot be signed: {source}")]
    Sign {
        /// Whose.
        csr: String,
        /// Why.
        #[source]
        source: CaError,
    },
}

/// What is left to be done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Approve,
    Sign,
    Done,
}

impl Stage {
    fn of(csr: &CertificateSigningRequest, signer: Signer) -> Self {
        let status = csr.status.as_ref();
        let conditions = status.and_then(|it| it.conditions.as_deref());
        let has = |kind| {
            let mut conditions = conditions.unwrap_or_default().iter();
            conditions.any(|it| it.type_ == kind)
        };
        let is_answered = status.is_some_and(|it| it.certificate.is_some());
        if has("Denied") || has("Failed") || is_answered {
            Self::Done
        } else if !has(APPROVED) {
            Self::Approve
        } else if signer == Signer::KubeClient {
            // The kube-controller-manager signs it.
            Self::Done
        } else {
            Self::Sign
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Sign => "signed",
            Self::Done => "done",
        }
    }
}

async fn standing(context: &Context, cluster: &ClusterName) -> Result<Standing, RequestFailure> {
    let Some(object) = addon::read_cluster(&context.client, cluster).await? else {
        return Ok(Standing::Unknown);
    };
    if addon::is_leaving(&object) {
        return Ok(Standing::Leaving);
    }
    if !addon::is_accepted(&object) {
        return Ok(Standing::NotAccepted);
    }
    Ok(match addon::read_addon(&context.client, cluster).await? {
        None => Standing::WithoutAddon,
        Some(addon) if addon::is_leaving(&addon) => Standing::Leaving,
        Some(_) => Standing::Member,
    })
}

async fn approve(
    requests: &Api<CertificateSigningRequest>,
    csr: &CertificateSigningRequest,
) -> Result<(), RequestFailure> {
    let status = csr.status.as_ref();
    let conditions = status.and_then(|it| it.conditions.as_deref());
    let mut conditions = json!(conditions.unwrap_or_default());
    if let Some(conditions) = conditions.as_array_mut() {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        conditions.push(json!({
            "type": APPROVED,
            "status": "True",
            "reason": "ApprovedByClusterProxy",
            "message": "Asked by the managed cluster's own registration agent, as registered",
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }));
    }
    let patch = json!({
        "metadata": {"resourceVersion": csr.resource_version()},
        "status": {"conditions": conditions},
    });
    let name = csr.name_any();
    requests
        .patch_approval(&name, &params(), &Patch::Merge(patch))
        .await
        .map_err(RequestFailure::of("approve", describe(&name)))?;
    Ok(())
}

fn sign(
    ca: &CertificateAuthority,
    claim: &Claim,
    registrations: &Registrations,
    request: &Request,
) -> Result<String, CaError> {
    let leaf = match claim.signer {
        Signer::ServiceProxy => Leaf::service_proxy(&claim.cluster),
        Signer::ProxyAgent | Signer::KubeClient => Leaf::proxy_agent(&claim.cluster),
    };
    // OCM asks for ever unless the subject comes back as it was registered.
    let leaf = leaf.about(registrations.of(claim.signer).subject.clone());
    ca.sign(&leaf.valid_for(VALIDITY), &request.public_key)
}

async fn answer(
    requests: &Api<CertificateSigningRequest>,
    csr: &CertificateSigningRequest,
    certificate: &str,
) -> Result<(), RequestFailure> {
    let patch = json!({
        "metadata": {"resourceVersion": csr.resource_version()},
        "status": {"certificate": ByteString(certificate.as_bytes().to_vec())},
    });
    let name = csr.name_any();
    requests
        .patch_status(&name, &params(), &Patch::Merge(patch))
        .await
        .map_err(RequestFailure::of("sign", describe(&name)))?;
    Ok(())
}

/// Notes when the cluster's agent first had its own certificate signed. It stands in an annotation
/// since the status is the agent's to write.
async fn note_certificate(context: &Context, cluster: &ClusterName) -> Result<(), RequestFailure> {
    let addon = addon::read_addon(&context.client, cluster).await?;
    let Some(addon) = addon.filter(|it| !it.annotations().contains_key(CERTIFICATE_ANNOTATION))
    else {
        return Ok(());
    };
    let now = Timestamp::now().to_string();
    let patch = json!({
        "metadata": {"uid": addon.uid(), "annotations": {CERTIFICATE_ANNOTATION: now}},
    });
    addon::in_cluster(&context.client, cluster.as_str())
        .patch(ADDON_NAME, &params(), &Patch::Merge(patch))
        .await
        .map_err(RequestFailure::of(
            "annotate",
            addon::describe(cluster.as_str()),
        ))?;
    Ok(())
}

/// The requests of a cluster with which something is left to be done.
fn about(
    requests: &Store<CertificateSigningRequest>,
    cluster: &str,
) -> Vec<ObjectRef<CertificateSigningRequest>> {
    let is_about = |csr: &&Arc<CertificateSigningRequest>| {
        Claim::of(csr).is_some_and(|claim| {
            claim.cluster.as_str() == cluster && Stage::of(csr, claim.signer) != Stage::Done
        })
    };
    let requests = requests.state();
    requests
        .iter()
        .filter(is_about)
        .map(|csr| ObjectRef::from_obj(csr.as_ref()))
        .collect()
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn describe(name: &str) -> String {
    format!("CertificateSigningRequest {name}")
}

const APPROVED: &str = "Approved";

/// As upstream signs. OCM asks anew in the last fifth.
const VALIDITY: Duration = Duration::from_hours(24 * 180);

/// The change that was in the way usually brings the object here by itself.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) use tests::asked_by_an_agent;

#[cfg(test)]
mod tests;
