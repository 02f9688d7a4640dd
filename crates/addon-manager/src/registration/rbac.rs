//! What agents may do on the hub, as objects.

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::names::{
    ADDON_GROUP, ADDON_NAME, ADDON_NAME_LABEL, AGENT_ROLE, AGENT_TOKEN_REVIEW_ROLE,
    PORT_FORWARD_ROLE, cluster_addon_group,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::subject::Registration;

/// As whom one cluster's agent comes to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubIdentity {
    /// With a certificate: as the registered user and groups.
    Certificate(Registration),
    /// With a ServiceAccount's token: as this user.
    Token(String),
}

impl HubIdentity {
    /// The subjects that are this one cluster's agent and nobody else. A group of all agents is
    /// not among them: in a cluster's namespace it would let every other cluster in.
    fn subjects(&self, cluster: &ClusterName) -> Vec<Value> {
        match self {
            Self::Certificate(registration) => {
                let own = cluster_addon_group(cluster.as_str());
                let groups = registration.subject.organizations.iter();
                std::iter::once(subject("User", &registration.subject.common_name))
                    .chain(
                        groups
                            .filter(|it| **it == own)
                            .map(|it| subject("Group", it)),
                    )
                    .collect()
            }
            Self::Token(user) => vec![subject("User", user)],
        }
    }
}

/// The Role of one cluster's agent in its cluster's namespace, and its binding. They go with the
/// addon.
#[must_use]
pub(super) fn in_cluster(
    cluster: &ClusterName,
    identity: &HubIdentity,
    addon: &OwnerReference,
) -> Vec<DynamicObject> {
    let metadata = json!({
        "name": AGENT_ROLE,
        "namespace": cluster.as_str(),
        "labels": {ADDON_NAME_LABEL: ADDON_NAME},
        "ownerReferences": [addon],
    });
    let rules = json!([{
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [ADDON_NAME],
        // Without a name a Lease can only be made by applying it, which names it.
        "verbs": ["get", "create", "update", "patch"],
    }]);
    vec![
        object("Role", &metadata, "rules", rules),
        binding("Role", &metadata, identity.subjects(cluster)),
    ]
}

/// The ClusterRole by which agents that review tokens on the hub may do so, and its binding.
/// `token_users` are those of clusters whose agents come with a token, which no group unites.
#[must_use]
pub(super) fn token_review(
    token_users: &[String],
    configuration: &OwnerReference,
) -> Vec<DynamicObject> {
    let metadata = json!({
        "name": AGENT_TOKEN_REVIEW_ROLE,
        "labels": {ADDON_NAME_LABEL: ADDON_NAME},
        "ownerReferences": [configuration],
    });
    let rules = json!([{
        "apiGroups": ["authentication.k8s.io"],
        "resources": ["tokenreviews"],
        "verbs": ["create"],
    }]);
    vec![
        object("ClusterRole", &metadata, "rules", rules),
        binding("ClusterRole", &metadata, all_agents(token_users)),
    ]
}

/// The binding of the Role for the PortForward entrypoint to all agents, in the proxy-server's
/// namespace.
#[must_use]
pub(super) fn port_forward_binding(
    namespace: &str,
    token_users: &[String],
    configuration: &OwnerReference,
) -> DynamicObject {
    let metadata = json!({
        "name": PORT_FORWARD_ROLE,
        "namespace": namespace,
        "labels": {ADDON_NAME_LABEL: ADDON_NAME},
        "ownerReferences": [configuration],
    });
    binding("Role", &metadata, all_agents(token_users))
}

fn all_agents(token_users: &[String]) -> Vec<Value> {
    let users = token_users.iter().map(|user| subject("User", user));
    std::iter::once(subject("Group", ADDON_GROUP))
        .chain(users)
        .collect()
}

fn binding(role: &str, metadata: &Value, subjects: Vec<Value>) -> DynamicObject {
    let mut binding = object(
        &format!("{role}Binding"),
        metadata,
        "subjects",
        Value::Array(subjects),
    );
    binding.data["roleRef"] = json!({
        "apiGroup": GROUP,
        "kind": role,
        "name": metadata["name"],
    });
    binding
}

fn object(kind: &str, metadata: &Value, field: &str, content: Value) -> DynamicObject {
    let object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata,
        field: content,
    });
    serde_json::from_value(object).expect("objects written out here have a name and a kind")
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"apiGroup": GROUP, "kind": kind, "name": name})
}

const GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests {
    use super::super::subject::{Registrations, Signer};
    use super::*;

    fn owner() -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "K".to_owned(),
            name: "n".to_owned(),
            uid: "u".to_owned(),
            ..OwnerReference::default()
        }
    }

    fn certificate(cluster: &ClusterName) -> HubIdentity {
        let registrations = Registrations::new(cluster, "CA");
        HubIdentity::Certificate(registrations.of(Signer::KubeClient).clone())
    }

    #[test]
    fn an_agent_has_its_own_lease_and_nobody_elses_group() {
        let cluster = "managed".parse().unwrap();
        let objects = in_cluster(&cluster, &certificate(&cluster), &owner());
        for object in &objects {
            assert_eq!(object.metadata.namespace.as_deref(), Some("managed"));
            assert_eq!(object.metadata.owner_references.as_ref().unwrap().len(), 1);
        }
        let rules = objects[0].data["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0]["resourceNames"], json!(["cluster-proxy"]));
        let subjects = objects[1].data["subjects"].as_array().unwrap();
        let names: Vec<_> = subjects.iter().map(|it| it["name"].clone()).collect();
        let group = "system:open-cluster-management:cluster:managed:addon:cluster-proxy";
        assert_eq!(
            names,
            [json!(format!("{group}:agent:addon-agent")), json!(group)]
        );
    }

    #[test]
    fn a_token_binds_its_user_alone() {
        let cluster = "managed".parse().unwrap();
        let user = super::super::subject::token_user(&cluster);
        let objects = in_cluster(&cluster, &HubIdentity::Token(user.clone()), &owner());
        let subjects = json!([{
            "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user,
        }]);
        assert_eq!(objects[1].data["subjects"], subjects);
    }

    #[test]
    fn what_all_agents_may_do_is_about_no_cluster() {
        let users = ["system:serviceaccount:a:cluster-proxy-agent".to_owned()];
        let objects = token_review(&users, &owner());
        assert_eq!(objects[0].data["rules"].as_array().unwrap().len(), 1);
        assert_eq!(objects[1].data["subjects"].as_array().unwrap().len(), 2);
        let binding = port_forward_binding("ns", &users, &owner());
        assert_eq!(binding.data["roleRef"]["name"], json!(PORT_FORWARD_ROLE));
        assert_eq!(binding.types.unwrap().kind, "RoleBinding");
    }
}
