//! OpenAPI v3 documents that name each kind's PATCH and the parameters it takes.
//!
//! That is what kubectl looks for before it leaves the validation of fields to the server
//! (`fieldValidation`). Schemas say that any field is kept, which is so: the parameter is taken,
//! and there is no unknown field that it could refuse.
//!
//! Strategic merge patch is not named, though it is taken: kubectl would want the merge keys from
//! the schemas. Nor is there an `/openapi/v2`. `kubectl apply` then uses what it knows of the
//! built-in kinds itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::cluster::VERSION;
use crate::patch::CONTENT_TYPES;
use crate::resources::Resource;

/// `/openapi/v3`: where the document of each group and version is.
pub(crate) fn index(resources: &[Arc<Resource>]) -> Value {
    let places: BTreeSet<_> = resources.iter().map(|it| place(it)).collect();
    let paths: Map<_, _> = places
        .into_iter()
        .map(|place| {
            let link = json!({"serverRelativeURL": format!("/openapi/v3/{place}")});
            (place, link)
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v3/<place>`, where the place is `api/v1` or `apis/<group>/<version>`.
pub(crate) fn document(resources: &[Arc<Resource>], wanted: &str) -> Option<Value> {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in resources.iter().filter(|it| place(it) == wanted) {
        let kind = json!({
            "group": resource.group,
            "version": resource.version,
            "kind": resource.kind,
        });
        if resource.is_stored() {
            paths.insert(path(resource), operations(resource, &kind));
        }
        let schema = json!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "x-kubernetes-group-version-kind": [kind],
        });
        schemas.insert(schema_name(resource), schema);
    }
    (!schemas.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Embedded Kubernetes", "version": VERSION},
            "paths": paths,
            "components": {"schemas": schemas},
        })
    })
}

fn place(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}/{}", resource.group, resource.version)
    }
}

fn path(resource: &Resource) -> String {
    let within = if resource.namespaced {
        "namespaces/{namespace}/"
    } else {
        ""
    };
    format!("/{}/{within}{}/{{name}}", place(resource), resource.plural)
}

fn operations(resource: &Resource, kind: &Value) -> Value {
    let content: Map<_, _> = CONTENT_TYPES
        .iter()
        .filter(|it| !it.contains("strategic"))
        .map(|&it| (it.to_owned(), json!({"schema": {"type": "object"}})))
        .collect();
    let schema = format!("#/components/schemas/{}", schema_name(resource));
    let parameters = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}));
    json!({
        "patch": {
            "operationId": format!("patch{}", schema_name(resource)),
            "parameters": parameters,
            "requestBody": {"content": content},
            "responses": {"200": {
                "description": "OK",
                "content": {"application/json": {"schema": {"$ref": schema}}},
            }},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": kind,
        },
    })
}

/// `io.k8s.rbac.v1.Role`: any name that is unique will do.
fn schema_name(resource: &Resource) -> String {
    let group = if resource.group.is_empty() {
        "core"
    } else {
        &resource.group
    };
    format!("{group}.{}.{}", resource.version, resource.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Registry;
    use crate::store::Store;

    #[test]
    fn kubectl_finds_the_parameter_it_looks_for() {
        let resources: Vec<_> = Store::new().read(|view| Registry::new().all(view).collect());
        let index = index(&resources);
        for place in index["paths"].as_object().unwrap().keys() {
            assert!(document(&resources, place).is_some(), "{place}");
        }
        let apps = document(&resources, "apis/apps/v1").unwrap();
        let patch =
            &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"]["kind"],
            "Deployment"
        );
        let named: Vec<_> = patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert!(named.contains(&&json!("fieldValidation")));
    }
}
