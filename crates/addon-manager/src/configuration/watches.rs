//! Watches on what a configuration owns, begun once its namespace is known: so the manager needs
//! rights in that namespace only, not on every Secret of the hub.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use cluster_proxy_kube_api::managed_proxy_configuration::CONFIGURATION_NAME;
use cluster_proxy_kube_api::names::TLS_PROFILE_CONFIG_MAP;
use futures_util::{Stream, StreamExt};
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::core::GroupVersionKind;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::failure::describe_watch;

/// The watches of a configuration.
#[derive(Debug)]
pub(super) struct Watches {
    /// Holds one signal: changes that come before it is taken are seen by the same look.
    signal: mpsc::Sender<()>,
    namespaces: Mutex<BTreeSet<String>>,
}

impl Watches {
    /// Watches what lies in fixed namespaces, and gives an item whenever a look is due.
    pub(super) fn new(context: &Arc<Context>) -> (Self, impl Stream<Item = ()> + Send + use<>) {
        let (signal, receiver) = mpsc::channel(1);
        let changes = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await?;
            Some(((), receiver))
        });
        let config = &context.config;
        let named =
            |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let watches = Self {
            signal,
            namespaces: Mutex::default(),
        };
        let (secret, map) = (kind("", "v1", "Secret"), kind("", "v1", "ConfigMap"));
        let (at, name) = (&config.signer_secret_namespace, &config.signer_secret_name);
        watches.watch(context, secret, at, named(name), false);
        watches.watch(
            context,
            map,
            &config.namespace,
            named(TLS_PROFILE_CONFIG_MAP),
            false,
        );
        (watches, changes)
    }

    /// Watches what is owned in `namespace`, from the first call on.
    pub(super) fn begin(&self, context: &Context, namespace: &str) {
        let new = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(namespace.to_owned());
        if new {
            for (group, version, name) in OWNED_KINDS {
                if *name == NETWORK_POLICY && !context.config.network_policies {
                    continue;
                }
                let kind = kind(group, version, name);
                self.watch(context, kind, namespace, watcher::Config::default(), true);
            }
        }
    }

    /// Every namespace that the configuration has had since this manager leads.
    pub(super) fn namespaces(&self) -> Vec<String> {
        let namespaces = self.namespaces.lock();
        let namespaces = namespaces.unwrap_or_else(PoisonError::into_inner);
        namespaces.iter().cloned().collect()
    }

    fn watch(
        &self,
        context: &Context,
        kind: GroupVersionKind,
        namespace: &str,
        config: watcher::Config,
        owned_only: bool,
    ) {
        let resource = ApiResource::from_gvk(&kind);
        let client = context.watch_client.clone();
        // Metadata only: no Secret's content is kept here.
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(client, namespace, &resource);
        let (signal, metrics) = (self.signal.clone(), context.metrics.clone());
        let namespace = namespace.to_owned();
        context.drain.spawn_until_ended(async move {
            let events = watcher(api, config).default_backoff();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) if concerns(&event, owned_only) => {
                        // Full means that a look is due already.
                        _ = signal.try_send(());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        metrics.watch_failed(super::NAME);
                        let kind = &kind.kind;
                        let cause = describe_watch(&error);
                        tracing::warn!(kind, namespace, "watch broke off, trying again: {cause}");
                    }
                }
            }
        });
    }
}

fn concerns(event: &Event<PartialObjectMeta<DynamicObject>>, owned_only: bool) -> bool {
    match event {
        Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => {
            let mut owners = object.metadata.owner_references.iter().flatten();
            !owned_only
                || owners.any(|owner| {
                    owner.kind == "ManagedProxyConfiguration" && owner.name == CONFIGURATION_NAME
                })
        }
        // After a watch that broke off, something may have gone unseen.
        Event::InitDone => true,
        Event::Init => false,
    }
}

fn kind(group: &str, version: &str, kind: &str) -> GroupVersionKind {
    GroupVersionKind::gvk(group, version, kind)
}

/// Rendered only where it is asked for, and only there a manager has rights on it.
pub(super) const NETWORK_POLICY: &str = "NetworkPolicy";

/// Kinds of which a configuration owns objects.
pub(super) const OWNED_KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("networking.k8s.io", "v1", NETWORK_POLICY),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
];
