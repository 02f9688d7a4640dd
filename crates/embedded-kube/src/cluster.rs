//! One embedded cluster: its objects, its users, its pods' logs, and how it begins.

use serde_json::json;

use crate::admission::Admission;
use crate::authentication::Authenticator;
use crate::failure::Failure;
use crate::objects::{Objects, Scope};
use crate::pods::Kubelet;
use crate::pods::logs::PodLogs;
use crate::rbac::{aggregation, bootstrap};
use crate::resources::{NAMESPACES, Registry};
use crate::store::{Store, Transaction};
use cluster_proxy_identity::User;
use cluster_proxy_runtime::drain::Drain;
use std::sync::Arc;

/// Everything that requests and controllers share.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) objects: Objects,
    pub(crate) authenticator: Authenticator,
    pub(crate) logs: PodLogs,
    /// Where the key set is found, in the discovery document of the issuer.
    pub(crate) key_set_url: String,
    /// Streams end when it closes.
    pub(crate) drain: Drain,
}

impl Cluster {
    /// A cluster with the objects that every cluster begins with, and its kubelet.
    pub(crate) fn new(
        name: &str,
        root_ca: String,
        authenticator: Authenticator,
        key_set_url: String,
        drain: Drain,
    ) -> (Arc<Self>, Kubelet) {
        let cluster = Self {
            store: Store::new(),
            registry: Registry::new(),
            objects: Objects {
                admission: Admission::default(),
                root_ca,
            },
            authenticator,
            logs: PodLogs::default(),
            key_set_url,
            drain,
        };
        let kubelet = Kubelet::new(format!("{name}-embedded"));
        cluster
            .store
            .write(false, |state| cluster.begin(state, &kubelet))
            .expect("the objects that a cluster begins with are valid");
        (Arc::new(cluster), kubelet)
    }

    fn begin(&self, state: &mut Transaction<'_>, kubelet: &Kubelet) -> Result<(), Failure> {
        let user = User::default();
        for (shelf, object) in bootstrap::objects() {
            let resource = self
                .registry
                .all(state)
                .find(|it| *it.shelf == *shelf)
                .expect("bootstrap uses built-in kinds");
            let scope = Scope {
                resource: &resource,
                namespace: "",
                user: &user,
                part: None,
            };
            self.objects.create(state, scope, object)?;
        }
        aggregation::reconcile(state);
        let namespaces = self
            .registry
            .all(state)
            .find(|it| *it.shelf == *NAMESPACES)
            .expect("a built-in kind");
        for name in ["default", "kube-public", "kube-system"] {
            let scope = Scope {
                resource: &namespaces,
                namespace: "",
                user: &user,
                part: None,
            };
            self.objects
                .create(state, scope, json!({"metadata": {"name": name}}))?;
        }
        kubelet.register(state, VERSION);
        Ok(())
    }
}

/// The Kubernetes version whose behaviour is followed, and that it is not the program itself.
pub(crate) const VERSION: &str = "v1.35.0+embedded";
