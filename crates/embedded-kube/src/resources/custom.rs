//! Kinds that CustomResourceDefinitions add.
//!
//! Served versions share their objects and are not converted (`strategy: None`); schemas are kept
//! and not enforced, so unknown fields stay, as with `x-kubernetes-preserve-unknown-fields`.

use serde_json::Value;

use super::{Behaviour, NameRule, Resource, Subresource, shelf};
use crate::object;
use crate::table::columns;

/// One resource per served version of a definition.
pub(super) fn resources_of(definition: &Value) -> Vec<Resource> {
    object::list(definition, "/spec/versions")
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| resource_of(definition, version))
        .collect()
}

fn resource_of(definition: &Value, version: &Value) -> Resource {
    let text = |pointer| object::text(definition, pointer).to_owned();
    let texts = |pointer| {
        object::texts(definition, pointer)
            .map(str::to_owned)
            .collect()
    };
    let kind = text("/spec/names/kind");
    let singular = match object::text(definition, "/spec/names/singular") {
        "" => kind.to_ascii_lowercase(),
        given => given.to_owned(),
    };
    let status = version.pointer("/subresources/status").is_some();
    let group = text("/spec/group");
    let plural = text("/spec/names/plural");
    Resource {
        version: object::text(version, "/name").to_owned(),
        singular,
        kind,
        short_names: texts("/spec/names/shortNames"),
        categories: texts("/spec/names/categories"),
        namespaced: object::text(definition, "/spec/scope") == "Namespaced",
        subresources: if status {
            vec![Subresource::Status]
        } else {
            Vec::new()
        },
        behaviour: Behaviour::Stored,
        names: NameRule::Subdomain,
        generation: true,
        create_on_update: false,
        unconditional_update: false,
        selectable: object::list(version, "/selectableFields")
            .iter()
            .map(|field| {
                let path = object::text(field, "/jsonPath");
                path.trim_start_matches('.').to_owned()
            })
            .collect(),
        columns: columns::custom(object::list(version, "/additionalPrinterColumns")),
        custom: true,
        shelf: shelf(&group, &plural),
        group,
        plural,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_served_versions_are_resources() {
        let definition = json!({"spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["w"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}},
                {"name": "v1beta1", "served": true, "storage": false},
                {"name": "v1alpha1", "served": false, "storage": false},
            ],
        }});
        let resources = resources_of(&definition);
        let versions: Vec<_> = resources.iter().map(Resource::api_version).collect();
        assert_eq!(versions, ["example.com/v1", "example.com/v1beta1"]);
        assert_eq!(resources[0].shelf, resources[1].shelf);
        assert!(resources[0].has(Subresource::Status));
        assert!(!resources[1].has(Subresource::Status));
        assert_eq!(resources[0].singular, "widget");
    }
}
