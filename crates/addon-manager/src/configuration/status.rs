//! What became of a configuration, as its status.

use cluster_proxy_kube_api::managed_proxy_configuration::{
    AGENT_SERVER_SECRET_SIGNED, PROXY_CLIENT_SECRET_SIGNED, PROXY_SERVER_DEPLOYED,
    PROXY_SERVER_SECRET_SIGNED, SignerType,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::objects::Applied;
use super::{ConfigurationFailure, UNREADABLE, resource};
use crate::addon;
use crate::certificates::{CertificateFailure, Signed};
use crate::conditions::{condition, go_time, merged};
use crate::config::ManagerConfig;
use crate::context::Context;
use crate::entrypoint::{Entrypoint, EntrypointNotReady};
use crate::failure::RequestFailure;

/// Conditions as they come about.
#[derive(Debug)]
pub(super) struct Report {
    generation: Option<i64>,
    conditions: Vec<Condition>,
    /// Types of conditions that are of no interest any more.
    gone: Vec<&'static str>,
}

impl Report {
    /// Nothing to tell yet about this generation.
    pub(super) fn new(generation: Option<i64>) -> Self {
        Self {
            generation,
            conditions: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Of a configuration that cannot be parsed.
    pub(super) fn unreadable(generation: Option<i64>, message: &str) -> Self {
        let mut report = Self::new(generation);
        report.add(PROXY_SERVER_DEPLOYED, false, UNREADABLE, message);
        report
    }

    pub(super) fn signed(&mut self, kind: Option<&str>, signed: &Signed) {
        if let Some(kind) = kind {
            let message = format!("Expiry:{}", go_time(signed.expires));
            self.add(kind, true, "SuccessfullySigned", message);
        }
    }

    pub(super) fn not_signed(&mut self, kind: Option<&str>, failure: &CertificateFailure) {
        if let Some(kind) = kind {
            self.add(kind, false, "NotYetSigned", failure.to_string());
        }
    }

    pub(super) fn entrypoint(&mut self, found: &Result<Entrypoint, EntrypointNotReady>) {
        match found {
            Ok(Entrypoint::Address { host, port }) => {
                let message = format!("agents come to {host} port {port}");
                self.add(ENTRYPOINT_READY, true, "AddressKnown", message);
            }
            Ok(Entrypoint::PortForward) => {
                let message = "agents come through the hub's kube-apiserver";
                self.add(ENTRYPOINT_READY, true, "PortForward", message);
            }
            Err(cause) => self.add(ENTRYPOINT_READY, false, "NotReady", cause.to_string()),
        }
    }

    /// A condition that must not be there.
    pub(super) fn gone(&mut self, kind: &'static str) {
        self.gone.push(kind);
    }

    /// Of objects that an upgrade left without effect.
    pub(super) fn resolvers(&mut self, count: usize) {
        if count > 0 {
            let message = format!(
                "{count} ManagedProxyServiceResolvers have no effect: list what they made \
                 reachable among the exposed Services, then delete them"
            );
            self.add(RESOLVERS_IGNORED, true, "NoEffect", message);
        } else {
            self.gone(RESOLVERS_IGNORED);
        }
    }

    /// Of who should sign; gives what a person should know about it. As upstream, the addon's own
    /// CA signs whatever is asked for, and not in silence.
    pub(super) fn signer(&mut self, kind: SignerType, manager: &ManagerConfig) -> Option<String> {
        let asked = match kind {
            SignerType::SelfSigned => {
                self.gone(SIGNER_TYPE_UNSUPPORTED);
                return None;
            }
            SignerType::Provided => "Provided",
            SignerType::CertManager => "CertManager",
        };
        let message = format!(
            "authentication.signer.type {asked} has no effect: as with SelfSigned, the CA in Secret \
             {}/{} signs, and is made when there is none. For a CA of your own, put its ca.crt and \
             ca.key there before the addon is installed; then set the type to SelfSigned",
            manager.signer_secret_namespace, manager.signer_secret_name
        );
        self.add(
            SIGNER_TYPE_UNSUPPORTED,
            true,
            "NotImplemented",
            message.clone(),
        );
        Some(message)
    }

    pub(super) fn deployed(&mut self, applied: &Applied) {
        let Applied {
            replicas,
            available,
        } = applied;
        if *available >= (*replicas).min(1) {
            let message = format!("Replicas: {replicas}");
            self.add(PROXY_SERVER_DEPLOYED, true, "SuccessfullyDeployed", message);
        } else {
            let message = format!("Replicas: {replicas}, available: {available}");
            self.add(PROXY_SERVER_DEPLOYED, false, "NotYetDeployed", message);
        }
    }

    /// Of what stopped the work: what was not reached is told with its cause, unless the next try
    /// may well succeed.
    pub(super) fn failed(&mut self, failure: &ConfigurationFailure) {
        if failure.for_people().is_none() {
            return;
        }
        let message = failure.to_string();
        if let ConfigurationFailure::Authority(_) = failure {
            for kind in [
                PROXY_SERVER_SECRET_SIGNED,
                AGENT_SERVER_SECRET_SIGNED,
                PROXY_CLIENT_SECRET_SIGNED,
            ] {
                self.add(kind, false, "NotYetSigned", message.clone());
            }
        }
        let told = |condition: &Condition| condition.type_ == PROXY_SERVER_DEPLOYED;
        if !self.conditions.iter().any(told) {
            self.add(PROXY_SERVER_DEPLOYED, false, "NotYetDeployed", message);
        }
    }

    /// Writes what is news into the status of `object`.
    pub(super) async fn write(
        self,
        context: &Context,
        object: &DynamicObject,
    ) -> Result<(), RequestFailure> {
        let status = &object.data["status"];
        let kept: Vec<Condition> =
            serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
        let before = kept.len();
        let kept: Vec<Condition> = kept
            .into_iter()
            .filter(|condition| !self.gone.contains(&condition.type_.as_str()))
            .collect();
        let conditions =
            merged(&kept, self.conditions).or_else(|| (kept.len() != before).then(|| kept.clone()));
        let observed = status["lastObservedGeneration"].as_i64();
        if conditions.is_none() && observed == self.generation {
            return Ok(());
        }
        let name = object.name_any();
        let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource());
        // With the version that was read, so that conditions which others wrote meanwhile stay.
        let patch: Value = json!({
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "status": {
                "lastObservedGeneration": self.generation,
                "conditions": conditions.unwrap_or(kept),
            },
        });
        let written = api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let object = format!("status of ManagedProxyConfiguration {name}");
        match written.map_err(RequestFailure::of("write", object)) {
            // Whoever was faster caused a look of its own.
            Err(error) if error.is_conflict() => Ok(()),
            other => other.map(drop),
        }
    }

    fn add(&mut self, kind: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let condition = condition(kind, holds, reason, message, self.generation);
        self.conditions.push(condition);
    }
}

/// Whether the status of `object` holds the condition `kind` with this message.
pub(super) fn says(object: &DynamicObject, kind: &str, message: &str) -> bool {
    let status = addon::status(object);
    addon::find_condition(&status, kind).is_some_and(|it| it["message"] == message)
}

/// Condition: it is known where agents find the proxy-server.
pub(crate) const ENTRYPOINT_READY: &str = "EntrypointReady";

/// Condition: the configuration asks for a signer that there is none of. Also the reason of its
/// Event.
pub(super) const SIGNER_TYPE_UNSUPPORTED: &str = "SignerTypeUnsupported";

/// Condition: there are objects of an earlier release that nothing reads.
const RESOLVERS_IGNORED: &str = "ServiceResolversIgnored";
