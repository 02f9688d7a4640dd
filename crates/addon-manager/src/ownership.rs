//! Which clusters are accepted and which names are theirs, written down for every proxy-server: the
//! ConfigMap `cluster-proxy-agents`.
//!
//! A cluster is in it when it is accepted and has the addon, so that the lanes of one that is
//! removed close within seconds. While some agent still has no certificate of its own, the table
//! says `prefer`: agents without one are let in, for the names of clusters that have none yet. As
//! soon as the last one has got it, the table says `cluster`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster_proxy_kube_api::managed_proxy_configuration::{
    CONFIGURATION_NAME, ManagedProxyConfiguration,
};
use cluster_proxy_kube_api::names::{
    ADDON_NAME, ADDON_NAME_LABEL, AGENT_TABLE_CLUSTERS_KEY, AGENT_TABLE_CONFIG_MAP,
    AGENT_TABLE_IDENTITY_KEY,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::addon::{self, Condition, State};
use crate::apply::apply;
use crate::context::Context;
use crate::controller;
use crate::deployment_config::{configuration_resource, proxy_server_namespace};
use crate::failure::RequestFailure;
use crate::registration::CERTIFICATE_ANNOTATION;

/// Keeps the table until the context's drain.
pub async fn run(context: Arc<Context>) {
    let client = &context.watch_client;
    let any = watcher::Config::default;
    let (addons, addon_changes) = addon::followed(
        &context,
        NAME,
        addon::addons(client),
        any().fields(addon::SELECTOR),
        addon::addon_resource(),
    );
    let (clusters, cluster_changes) = addon::followed(
        &context,
        NAME,
        addon::clusters(client),
        any(),
        addon::cluster_resource(),
    );
    let Some(namespace) = proxy_server_namespace(&context.client, &context.drain).await else {
        return;
    };
    let controller = Controller::new_with(
        Api::all_with(client.clone(), &configuration_resource()),
        any().fields(addon::SELECTOR),
        configuration_resource(),
    )
    .owns(
        Api::<ConfigMap>::namespaced(client.clone(), &namespace),
        any().fields(&format!("metadata.name={AGENT_TABLE_CONFIG_MAP}")),
    )
    .reconcile_all_on(futures_util::stream::select(
        addon_changes.boxed(),
        cluster_changes.boxed(),
    ));
    let fleet = Fleet { addons, clusters };
    controller::run(context, NAME, controller, move |object, context| {
        reconcile(object, context, fleet.clone())
    })
    .await;
}

/// What the table is made of.
#[derive(Debug, Clone)]
struct Fleet {
    addons: Store<DynamicObject>,
    clusters: Store<DynamicObject>,
}

async fn reconcile(
    configuration: Arc<DynamicObject>,
    context: Arc<Context>,
    fleet: Fleet,
) -> Result<Action, Error> {
    let done = Ok(Action::await_change());
    if configuration.name_any() != CONFIGURATION_NAME || addon::is_leaving(&configuration) {
        return done;
    }
    // Half a table would shut clusters out. Without the watches the controller is about to end.
    let ready = [&fleet.addons, &fleet.clusters];
    for store in ready {
        if store.wait_until_ready().await.is_err() {
            return done;
        }
    }
    let parsed = configuration.as_ref().clone();
    let parsed = parsed.try_parse::<ManagedProxyConfiguration>();
    let namespace = parsed
        .map_err(Error::Unreadable)?
        .spec
        .proxy_server
        .namespace;
    let Some(owner) = configuration.controller_owner_ref(&configuration_resource()) else {
        return done;
    };
    let now = Timestamp::now();
    let find = |name: &str| {
        let key = ObjectRef::new_with(name, addon::cluster_resource());
        fleet.clusters.get(&key)
    };
    let table = Table::new(&fleet.addons.state(), find, now);
    apply(&context.client, &table.config_map(&namespace, &owner)).await?;
    let mut status = addon::status(&configuration);
    addon::set_condition(&mut status, &table.condition(), now);
    let resource = configuration_resource();
    match addon::write_status(&context.client, &resource, &configuration, &status).await {
        Err(failure) if failure.is_conflict() => Ok(Action::requeue(AFTER_CONFLICT)),
        written => {
            written?;
            Ok(table
                .next
                .map_or_else(Action::await_change, Action::requeue))
        }
    }
}

/// Why the table could not be written for now.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Request(#[from] RequestFailure),
    #[error("the ManagedProxyConfiguration cannot be parsed, the table of agents stays: {0}")]
    Unreadable(kube::core::dynamic::ParseDynamicObjectError),
}

/// The table, and when it may look otherwise without anybody's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    rows: Vec<Row>,
    next: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    agent_namespace: String,
    certificate: bool,
}

impl Table {
    fn new(
        addons: &[Arc<DynamicObject>],
        cluster: impl Fn(&str) -> Option<Arc<DynamicObject>>,
        now: Timestamp,
    ) -> Self {
        let mut rows = BTreeMap::new();
        let mut next = None;
        for object in addons {
            let Some(name) = addon::cluster_of(object) else {
                continue;
            };
            let accepted = cluster(name.as_str()).is_some_and(|it| addon::is_accepted(&it));
            if !accepted || addon::is_leaving(object) {
                continue;
            }
            let certificate = Certificate::of(object, now);
            if let Certificate::Underway(left) = certificate {
                next = Some(next.map_or(left, |next: Duration| next.min(left)));
            }
            let status = addon::status(object);
            let namespace = status.get("namespace").and_then(|it| it.as_str());
            let row = Row {
                name: name.to_string(),
                agent_namespace: namespace.unwrap_or_default().to_owned(),
                certificate: certificate == Certificate::There,
            };
            rows.insert(name, row);
        }
        Self {
            rows: rows.into_values().collect(),
            next,
        }
    }

    fn without_certificate(&self) -> impl Iterator<Item = &str> {
        let rows = self.rows.iter().filter(|row| !row.certificate);
        rows.map(|row| row.name.as_str())
    }

    fn identity(&self) -> &'static str {
        match self.without_certificate().next() {
            None => "cluster",
            Some(_) => "prefer",
        }
    }

    fn config_map(&self, namespace: &str, owner: &OwnerReference) -> DynamicObject {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": AGENT_TABLE_CONFIG_MAP,
                "namespace": namespace,
                "labels": {ADDON_NAME_LABEL: ADDON_NAME},
                "ownerReferences": [owner],
            },
            "data": {
                AGENT_TABLE_IDENTITY_KEY: self.identity(),
                AGENT_TABLE_CLUSTERS_KEY: json!(self.rows).to_string(),
            },
        });
        serde_json::from_value(object).expect("an object written out here has a name and a kind")
    }

    fn condition(&self) -> Condition {
        let lacking: Vec<_> = self.without_certificate().collect();
        let (state, reason, message) = if lacking.is_empty() {
            (
                State::True,
                "EveryAgentHasItsCertificate",
                format!(
                    "Each of {} agents proves its cluster; no agent without a certificate of its \
                     own is let in",
                    self.rows.len()
                ),
            )
        } else {
            let shown = lacking.iter().take(MAX_NAMED).copied();
            let mut names = shown.collect::<Vec<_>>().join(", ");
            if lacking.len() > MAX_NAMED {
                names.push_str(", …");
            }
            (
                State::False,
                "CertificatesOutstanding",
                format!(
                    "Agents without a certificate of their own are let in for the names of {} \
                     clusters that have none yet: {names}",
                    lacking.len()
                ),
            )
        };
        Condition {
            kind: AGENT_IDENTITY_ENFORCED,
            state,
            reason,
            message,
        }
    }
}

/// Whether an agent has a certificate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certificate {
    None,
    /// Signed; this long until it counts as there.
    Underway(Duration),
    There,
}

impl Certificate {
    fn of(addon: &DynamicObject, now: Timestamp) -> Self {
        let since = addon.annotations().get(CERTIFICATE_ANNOTATION);
        let Some(since) = since.and_then(|it| it.parse::<Timestamp>().ok()) else {
            return Self::None;
        };
        // One from the future, a clock put back, is there now.
        let age = Duration::try_from(now.duration_since(since)).unwrap_or(DELIVERY);
        match DELIVERY.checked_sub(age) {
            None | Some(Duration::ZERO) => Self::There,
            Some(left) => Self::Underway(left),
        }
    }
}

/// In metrics and logs.
const NAME: &str = "ownership";

/// Condition of the ManagedProxyConfiguration: no agent is let in without a certificate that
/// proves its cluster.
pub const AGENT_IDENTITY_ENFORCED: &str = "AgentIdentityEnforced";

/// How long a certificate may take from its signature into the agent: the registration agent's
/// write, and the kubelet's refresh of the mounted Secret (a minute, and its cache's another).
const DELIVERY: Duration = Duration::from_mins(2);

/// Names in one condition; who needs all of them reads the table.
const MAX_NAMED: usize = 10;

/// The change that was in the way usually brings the object here by itself.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
