//! What is served, for clients that ask before they use it: groups, versions and resources, and
//! OpenAPI documents (module `openapi`). All of it follows from the registry.

pub(crate) mod openapi;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cluster::VERSION;
use crate::resources::{Resource, Subresource, group_version};

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "35",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/api`: versions of the core group.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`: all other groups.
pub(crate) fn groups(resources: &[Arc<Resource>]) -> Value {
    let groups: Vec<_> = versions(resources)
        .into_iter()
        .map(|(group, versions)| describe_group(group, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(crate) fn group(resources: &[Arc<Resource>], group: &str) -> Option<Value> {
    let versions = versions(resources).remove(group)?;
    let mut described = describe_group(group, &versions);
    described["kind"] = "APIGroup".into();
    described["apiVersion"] = "v1".into();
    Some(described)
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(crate) fn group_resources(
    resources: &[Arc<Resource>],
    group: &str,
    version: &str,
) -> Option<Value> {
    let listed: Vec<_> = resources
        .iter()
        .filter(|it| it.group == group && it.version == version)
        .flat_map(|it| describe_resource(it))
        .collect();
    if listed.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group, version),
        "resources": listed,
    }))
}

/// The versions of each group but the core one, in the order of the registry.
fn versions(resources: &[Arc<Resource>]) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for resource in resources.iter().filter(|it| !it.group.is_empty()) {
        let versions = groups.entry(&resource.group).or_default();
        if !versions.contains(&&*resource.version) {
            versions.push(&resource.version);
        }
    }
    groups
}

fn describe_group(group: &str, versions: &[&str]) -> Value {
    let described: Vec<_> = versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    json!({
        "name": group,
        "preferredVersion": described.first(),
        "versions": described,
    })
}

fn describe_resource(resource: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        own["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        own["categories"] = json!(resource.categories);
    }
    let below = resource.subresources.iter().map(|&subresource| {
        let mut described = json!({
            "name": format!("{}/{}", resource.plural, subresource.name()),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind_below(resource, subresource),
            "verbs": subresource.verbs(),
        });
        if subresource == Subresource::Token {
            described["group"] = "authentication.k8s.io".into();
            described["version"] = "v1".into();
        }
        described
    });
    std::iter::once(own).chain(below).collect()
}

fn kind_below(resource: &Resource, subresource: Subresource) -> &str {
    match subresource {
        Subresource::Token => "TokenRequest",
        Subresource::Exec => "PodExecOptions",
        Subresource::Attach => "PodAttachOptions",
        Subresource::PortForward => "PodPortForwardOptions",
        Subresource::Status | Subresource::Finalize | Subresource::Approval | Subresource::Log => {
            &resource.kind
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;
    use crate::resources::Registry;
    use crate::store::Store;

    fn resources() -> Vec<Arc<Resource>> {
        Store::new().read(|view| Registry::new().all(view).collect())
    }

    #[test]
    fn every_group_lists_its_resources() {
        let resources = resources();
        let groups = groups(&resources);
        let groups = object::list(&groups, "/groups");
        assert!(groups.len() >= 6);
        for group in groups {
            let name = object::text(group, "/name");
            let version = object::text(group, "/preferredVersion/version");
            let listed = group_resources(&resources, name, version).unwrap();
            assert!(!object::list(&listed, "/resources").is_empty(), "{name}");
        }
        assert_eq!(group(&resources, "example.com"), None);
        assert_eq!(group_resources(&resources, "", "v2"), None);
    }

    #[test]
    fn subresources_are_listed_below_their_resource() {
        let core = group_resources(&resources(), "", "v1").unwrap();
        let token = object::list(&core, "/resources")
            .iter()
            .find(|it| it["name"] == "serviceaccounts/token")
            .unwrap();
        assert_eq!(token["kind"], "TokenRequest");
        assert_eq!(token["verbs"], json!(["create"]));
    }
}
