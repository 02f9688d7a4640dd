//! What RBAC grants to an account, rule by rule.

use std::fmt;

use anyhow::{Context as _, Result};
use cluster_proxy_testkit::lab::Cluster;
use serde_json::Value;

use super::{Account, texts};

/// One verb on one resource, by one binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    /// As the kube-apiserver's audit log names it: `ClusterRoleBinding "name"` or
    /// `RoleBinding "name/namespace"`.
    pub(super) binding: String,
    pub(super) verb: String,
    /// `group/resource`, `group/resource/subresource`, or a path.
    pub(super) resource: String,
    /// The only objects, if not all.
    pub(super) names: Vec<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.names.is_empty() {
            write!(f, " {}", self.names.join(","))?;
        }
        write!(f, " ({})", self.binding)
    }
}

/// What the bindings grant that name the account or a group of the addon's.
pub(super) fn granted(cluster: &Cluster, account: &Account) -> Result<Vec<Right>> {
    let list = |kinds: &str| -> Result<Vec<Value>> {
        let list = cluster.kubectl(&["get", kinds, "-A", "-o", "json"])?;
        let list: Value = serde_json::from_str(&list)?;
        Ok(list["items"].as_array().context("no items")?.clone())
    };
    let roles = list("clusterroles.rbac.authorization.k8s.io,roles.rbac.authorization.k8s.io")?;
    let kinds =
        "clusterrolebindings.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io";
    let mut rights = Vec::new();
    for binding in list(kinds)? {
        let subjects = binding["subjects"].as_array();
        if !subjects.into_iter().flatten().any(|it| is(it, account)) {
            continue;
        }
        let metadata = &binding["metadata"];
        let name = metadata["name"].as_str().context("no name")?;
        let by = match metadata["namespace"].as_str() {
            Some(namespace) => format!("RoleBinding \"{name}/{namespace}\""),
            None => format!("ClusterRoleBinding \"{name}\""),
        };
        let role = &binding["roleRef"];
        let is_role = |it: &&Value| {
            let is_same = it["kind"] == role["kind"] && it["metadata"]["name"] == role["name"];
            let namespace = &it["metadata"]["namespace"];
            is_same && (namespace.is_null() || *namespace == metadata["namespace"])
        };
        // A binding to a role that is not there grants nothing.
        let rules = roles.iter().find(is_role).map(|it| &it["rules"]);
        for rule in rules.and_then(Value::as_array).into_iter().flatten() {
            rights.extend(of_rule(rule, &by));
        }
    }
    rights.sort();
    rights.dedup();
    Ok(rights)
}

fn is(subject: &Value, account: &Account) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == account.user,
        Some("Group") => account.groups.contains(&name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or_default();
            account.user == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn of_rule(rule: &Value, binding: &str) -> Vec<Right> {
    let names: Vec<_> = texts(&rule["resourceNames"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut resources: Vec<_> = texts(&rule["nonResourceURLs"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    for group in texts(&rule["apiGroups"]) {
        let of_group = texts(&rule["resources"]);
        resources.extend(
            of_group
                .iter()
                .map(|resource| format!("{group}/{resource}")),
        );
    }
    let verbs = texts(&rule["verbs"]);
    let pairs = resources
        .iter()
        .flat_map(|resource| verbs.iter().map(move |verb| (resource, verb)));
    let right = |(resource, verb): (&String, &&str)| Right {
        binding: binding.to_owned(),
        verb: (*verb).to_owned(),
        resource: resource.clone(),
        names: names.clone(),
    };
    pairs.map(right).collect()
}
