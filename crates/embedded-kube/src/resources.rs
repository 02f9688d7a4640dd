//! What the cluster serves: one row per kind, and custom kinds read from their definitions.
//!
//! A new kind is a new row in [`ROWS`]; everything else (discovery, OpenAPI, RBAC, storage,
//! tables) follows from it. Flags of a row say where kinds differ in Kubernetes itself
//! (pkg/registry/*/strategy.go).

mod custom;

use std::sync::Arc;

use crate::reviews::Review;
use crate::store::Transaction;
use crate::table::columns::{self, Column};

/// A kind that is served, built in or custom.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) subresources: Vec<Subresource>,
    pub(crate) behaviour: Behaviour,
    pub(crate) names: NameRule,
    /// Whether `metadata.generation` counts the changes of what is wished.
    pub(crate) generation: bool,
    /// Whether PUT makes an object that is not there.
    pub(crate) create_on_update: bool,
    /// Whether PUT works without a resourceVersion.
    pub(crate) unconditional_update: bool,
    /// Field selectors beyond metadata.name and metadata.namespace, as dotted paths.
    pub(crate) selectable: Vec<String>,
    pub(crate) columns: Vec<Column>,
    /// Defined by a CustomResourceDefinition.
    pub(crate) custom: bool,
    /// Where its objects stand in the store, e.g. `deployments.apps`: versions share them.
    pub(crate) shelf: Arc<str>,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    pub(crate) fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }

    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.behaviour, Behaviour::Stored)
    }

    /// The verbs that discovery lists.
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        match self.behaviour {
            Behaviour::Stored => &STORED_VERBS,
            Behaviour::Review(_) => &["create"],
        }
    }

    pub(crate) fn subject<'a>(&'a self, name: &'a str) -> crate::failure::Subject<'a> {
        crate::failure::Subject {
            group: &self.group,
            resource: &self.plural,
            name,
        }
    }

    /// For [`crate::failure::Failure::invalid`], which names the kind.
    pub(crate) fn kind_subject<'a>(&'a self, name: &'a str) -> crate::failure::Subject<'a> {
        crate::failure::Subject {
            group: &self.group,
            resource: &self.kind,
            name,
        }
    }
}

/// What becomes of an object that is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It is kept.
    Stored,
    /// It is a question: the answer comes back, and nothing is kept.
    Review(Review),
}

/// What hangs below an object's own path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subresource {
    Status,
    /// `spec` of a Namespace.
    Finalize,
    /// `status.conditions` of a CertificateSigningRequest.
    Approval,
    /// Tokens of a ServiceAccount.
    Token,
    Log,
    Exec,
    Attach,
    PortForward,
}

impl Subresource {
    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL_SUBRESOURCES.into_iter().find(|it| it.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
            Self::Token => "token",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }

    pub(crate) fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status | Self::Approval => &["get", "patch", "update"],
            Self::Finalize => &["update"],
            Self::Token => &["create"],
            Self::Log => &["get"],
            Self::Exec | Self::Attach | Self::PortForward => &["create", "get"],
        }
    }
}

/// Which names an object may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: Namespace.
    Label,
    /// RFC 1035 label: Service.
    Label1035,
    /// Anything that is one segment of a path: RBAC.
    PathSegment,
}

/// All kinds of a moment: the rows, and what custom definitions add.
pub(crate) struct Registry {
    builtin: Vec<Arc<Resource>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let builtin = ROWS.iter().map(|row| Arc::new(row.resource())).collect();
        Self { builtin }
    }

    /// The kind at `/apis/<group>/<version>/<plural>` (`/api/v1/<plural>` for the empty group).
    pub(crate) fn find(
        &self,
        store: &Transaction<'_>,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<Arc<Resource>> {
        self.all(store)
            .find(|it| it.group == group && it.version == version && it.plural == plural)
    }

    /// The kind that an object says it is.
    pub(crate) fn of_kind(
        &self,
        store: &Transaction<'_>,
        api_version: &str,
        kind: &str,
    ) -> Option<Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.all(store)
            .find(|it| it.group == group && it.version == version && it.kind == kind)
    }

    /// Every kind, the core group first.
    pub(crate) fn all<'a>(
        &'a self,
        store: &Transaction<'_>,
    ) -> impl Iterator<Item = Arc<Resource>> + use<'a> {
        let custom = store
            .list(DEFINITIONS, None)
            .into_iter()
            .flat_map(|definition| custom::resources_of(&definition));
        self.builtin
            .iter()
            .cloned()
            .chain(custom.map(Arc::new).collect::<Vec<_>>())
    }
}

/// `v1` or `apps/v1`.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const PODS: &str = "pods";
pub(crate) const NODES: &str = "nodes";
pub(crate) const EVENTS: &str = "events";
pub(crate) const SECRETS: &str = "secrets";
pub(crate) const SERVICES: &str = "services";
pub(crate) const CONFIG_MAPS: &str = "configmaps";
pub(crate) const SERVICE_ACCOUNTS: &str = "serviceaccounts";
pub(crate) const ROLES: &str = "roles.rbac.authorization.k8s.io";
pub(crate) const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
pub(crate) const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
pub(crate) const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

const STORED_VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

const ALL_SUBRESOURCES: [Subresource; 8] = [
    Subresource::Status,
    Subresource::Finalize,
    Subresource::Approval,
    Subresource::Token,
    Subresource::Log,
    Subresource::Exec,
    Subresource::Attach,
    Subresource::PortForward,
];

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// A built-in kind.
struct Row {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    subresources: &'static [Subresource],
    behaviour: Behaviour,
    names: NameRule,
    generation: bool,
    create_on_update: bool,
    unconditional_update: bool,
    selectable: &'static [&'static str],
    columns: fn() -> Vec<Column>,
}

const ROWS: &[Row] = &[
    Row {
        short_names: &["cm"],
        columns: columns::config_map,
        ..Row::namespaced("", "v1", "configmaps", "ConfigMap")
    },
    Row {
        short_names: &["ev"],
        create_on_update: true,
        selectable: &[
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        columns: columns::event,
        ..Row::namespaced("", "v1", "events", "Event")
    },
    Row {
        short_names: &["ns"],
        subresources: &[Subresource::Status, Subresource::Finalize],
        names: NameRule::Label,
        selectable: &["status.phase"],
        columns: columns::namespace,
        ..Row::cluster("", "v1", "namespaces", "Namespace")
    },
    Row {
        short_names: &["no"],
        subresources: &[Subresource::Status],
        selectable: &["spec.unschedulable"],
        columns: columns::node,
        ..Row::cluster("", "v1", "nodes", "Node")
    },
    Row {
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            Subresource::Attach,
            Subresource::Exec,
            Subresource::Log,
            Subresource::PortForward,
            Subresource::Status,
        ],
        generation: true,
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
        ],
        columns: columns::pod,
        ..Row::namespaced("", "v1", "pods", "Pod")
    },
    Row {
        selectable: &["type"],
        columns: columns::secret,
        ..Row::namespaced("", "v1", "secrets", "Secret")
    },
    Row {
        short_names: &["sa"],
        subresources: &[Subresource::Token],
        ..Row::namespaced("", "v1", "serviceaccounts", "ServiceAccount")
    },
    Row {
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[Subresource::Status],
        names: NameRule::Label1035,
        create_on_update: true,
        selectable: &["spec.clusterIP", "spec.type"],
        columns: columns::service,
        ..Row::namespaced("", "v1", "services", "Service")
    },
    Row {
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        subresources: &[Subresource::Status],
        generation: true,
        unconditional_update: false,
        columns: columns::created_at,
        ..Row::cluster(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
        )
    },
    Row {
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[Subresource::Status],
        generation: true,
        columns: columns::deployment,
        ..Row::namespaced("apps", "v1", "deployments", "Deployment")
    },
    Row {
        short_names: &["csr"],
        subresources: &[Subresource::Approval, Subresource::Status],
        selectable: &["spec.signerName"],
        columns: columns::certificate_signing_request,
        ..Row::cluster(
            "certificates.k8s.io",
            "v1",
            "certificatesigningrequests",
            "CertificateSigningRequest",
        )
    },
    Row {
        create_on_update: true,
        unconditional_update: false,
        columns: columns::lease,
        ..Row::namespaced("coordination.k8s.io", "v1", "leases", "Lease")
    },
    Row {
        columns: columns::binding,
        ..Row::rbac("clusterrolebindings", "ClusterRoleBinding", false)
    },
    Row {
        columns: columns::created_at,
        ..Row::rbac("clusterroles", "ClusterRole", false)
    },
    Row {
        columns: columns::binding,
        ..Row::rbac("rolebindings", "RoleBinding", true)
    },
    Row {
        columns: columns::created_at,
        ..Row::rbac("roles", "Role", true)
    },
    Row::review(
        AUTHENTICATION,
        "selfsubjectreviews",
        "SelfSubjectReview",
        Review::SelfSubject,
    ),
    Row::review(AUTHENTICATION, "tokenreviews", "TokenReview", Review::Token),
    Row {
        namespaced: true,
        ..Row::review(
            AUTHORIZATION,
            "localsubjectaccessreviews",
            "LocalSubjectAccessReview",
            Review::LocalSubjectAccess,
        )
    },
    Row::review(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        Review::SelfSubjectAccess,
    ),
    Row::review(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        Review::SelfSubjectRules,
    ),
    Row::review(
        AUTHORIZATION,
        "subjectaccessreviews",
        "SubjectAccessReview",
        Review::SubjectAccess,
    ),
];

impl Row {
    const fn cluster(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        kind: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            plural,
            kind,
            namespaced: false,
            short_names: &[],
            categories: &[],
            subresources: &[],
            behaviour: Behaviour::Stored,
            names: NameRule::Subdomain,
            generation: false,
            create_on_update: false,
            unconditional_update: true,
            selectable: &[],
            columns: columns::name_and_age,
        }
    }

    const fn namespaced(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        kind: &'static str,
    ) -> Self {
        Self {
            namespaced: true,
            ..Self::cluster(group, version, plural, kind)
        }
    }

    const fn rbac(plural: &'static str, kind: &'static str, namespaced: bool) -> Self {
        Self {
            namespaced,
            names: NameRule::PathSegment,
            create_on_update: true,
            ..Self::cluster(RBAC, "v1", plural, kind)
        }
    }

    const fn review(
        group: &'static str,
        plural: &'static str,
        kind: &'static str,
        review: Review,
    ) -> Self {
        Self {
            behaviour: Behaviour::Review(review),
            ..Self::cluster(group, "v1", plural, kind)
        }
    }

    fn resource(&self) -> Resource {
        let owned = |texts: &[&str]| texts.iter().map(|&it| it.to_owned()).collect();
        Resource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            plural: self.plural.to_owned(),
            singular: self.kind.to_ascii_lowercase(),
            kind: self.kind.to_owned(),
            short_names: owned(self.short_names),
            categories: owned(self.categories),
            namespaced: self.namespaced,
            subresources: self.subresources.to_vec(),
            behaviour: self.behaviour,
            names: self.names,
            generation: self.generation,
            create_on_update: self.create_on_update,
            unconditional_update: self.unconditional_update,
            selectable: owned(self.selectable),
            columns: (self.columns)(),
            custom: false,
            shelf: shelf(self.group, self.plural),
        }
    }
}

fn shelf(group: &str, plural: &str) -> Arc<str> {
    if group.is_empty() {
        plural.into()
    } else {
        format!("{plural}.{group}").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shelf_names_are_those_of_the_rows() {
        let registry = Registry::new();
        for name in [
            NAMESPACES,
            PODS,
            NODES,
            EVENTS,
            SECRETS,
            SERVICES,
            CONFIG_MAPS,
            SERVICE_ACCOUNTS,
            ROLES,
            ROLE_BINDINGS,
            CLUSTER_ROLES,
            CLUSTER_ROLE_BINDINGS,
            DEFINITIONS,
        ] {
            assert!(
                registry.builtin.iter().any(|it| &*it.shelf == name),
                "{name}"
            );
        }
    }
}
