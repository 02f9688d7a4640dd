//! The CustomResourceDefinition, generated.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube_core::CustomResourceExt as _;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::ManagedProxyConfiguration;

/// The CustomResourceDefinition of [`ManagedProxyConfiguration`].
///
/// Three things that the derive writes are taken out. `nullable`: without it the kube-apiserver drops
/// a null before it sets the default, so that `replicas: null` is 3 as it always was. Defaults of
/// whole objects: the fields inside have their own, and an object that its author left out stays
/// out, so that tools which compare what they wrote with what is stored see no difference. And
/// defaults of what is required, which would fill it in.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = ManagedProxyConfiguration::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            tidy(schema);
        }
    }
    crd
}

fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if matches!(&schema.default, Some(default) if matches!(default.0, Value::Object(_))) {
        schema.default = None;
    }
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, property) in schema.properties.iter_mut().flatten() {
        tidy(property);
        if required.contains(name) {
            property.default = None;
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
}

/// The schema of `metav1.Condition`s, one of each type, with the limits that Kubernetes documents.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "description": "When the status last changed.",
                    "type": "string",
                    "format": "date-time",
                },
                "message": {
                    "description": "What is the matter, for people.",
                    "type": "string",
                    "maxLength": 32768,
                },
                "observedGeneration": {
                    "description": "The generation of the object that this is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "reason": {
                    "description": "What is the matter, for programs.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "status": {
                    "description": "Whether it holds.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "type": {
                    "description": "What holds or does not.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": CONDITION_TYPE,
                },
            },
        },
    })
}

/// A condition's type: a word, or `domain/word`.
const CONDITION_TYPE: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                              (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

/// The schema of core `Toleration`s.
pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "effect": {
                    "description": "NoSchedule, PreferNoSchedule or NoExecute; empty is each.",
                    "type": "string",
                },
                "key": {
                    "description": "The taint's key; empty with the operator Exists is each.",
                    "type": "string",
                },
                "operator": {
                    "description": "Equal (the default) or Exists; Lt and Gt where the cluster \
                                    knows them.",
                    "type": "string",
                },
                "tolerationSeconds": {
                    "description": "With NoExecute: for how many seconds; absent is for ever.",
                    "type": "integer",
                    "format": "int64",
                },
                "value": {
                    "description": "The taint's value.",
                    "type": "string",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::managed_proxy_configuration::ManagedProxyConfigurationSpec;

    const GOLDEN: &str = "../../charts/cluster-proxy/crds/managedproxyconfigurations.yaml";

    #[test]
    fn the_chart_holds_the_crd_that_these_types_make() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
        let made = format!(
            "# Generated from crates/kube-api: UPDATE_GOLDEN=1 cargo test -p cluster-proxy-kube-api\n\
             {}",
            serde_saphyr::to_string(&serde_json::to_value(crd()).unwrap()).unwrap()
        );
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "{} is not what the types make; UPDATE_GOLDEN=1 writes it",
            path.display()
        );
    }

    #[test]
    fn the_schema_is_structural() {
        fn walk(schema: &Value, path: &str) {
            let schema = schema.as_object().unwrap();
            for forbidden in ["$ref", "anyOf", "oneOf", "allOf", "not", "nullable"] {
                assert!(!schema.contains_key(forbidden), "{path} has {forbidden}");
            }
            assert!(schema.contains_key("type"), "{path} has no type");
            assert!(
                !schema.get("default").is_some_and(Value::is_object),
                "{path} has the default of a whole object"
            );
            if let Some(format) = schema.get("format") {
                let known = ["int32", "int64", "date-time"];
                assert!(
                    known.contains(&format.as_str().unwrap()),
                    "{path}: {format}"
                );
            }
            for name in schema
                .get("required")
                .into_iter()
                .flat_map(|r| r.as_array().unwrap())
            {
                let property = &schema["properties"][name.as_str().unwrap()];
                assert!(
                    property.get("default").is_none(),
                    "{path}.{name} is filled in"
                );
            }
            if let Some(properties) = schema.get("properties") {
                assert!(!schema.contains_key("additionalProperties"), "{path}");
                for (name, property) in properties.as_object().unwrap() {
                    walk(property, &format!("{path}.{name}"));
                }
            }
            if let Some(items) = schema.get("items") {
                walk(items, &format!("{path}[]"));
            }
        }
        walk(&schema(), "");
    }

    #[test]
    fn what_the_apiserver_defaults_is_what_we_default() {
        let mut defaulted = json!({
            "authentication": {"signer": {}, "dump": {"secrets": {}}},
            "proxyServer": {
                "image": "i", "nodePlacement": {}, "entrypoint": {
                    "type": "LoadBalancerService", "loadBalancerService": {},
                },
            },
            "proxyAgent": {"image": "i"},
            "deploy": {"ports": {}},
        });
        let read: ManagedProxyConfigurationSpec =
            serde_json::from_value(defaulted.clone()).unwrap();
        apply_defaults(&mut defaulted, &schema()["properties"]["spec"]);
        assert_eq!(serde_json::to_value(&read).unwrap(), defaulted);
        assert_eq!(defaulted["proxyServer"]["replicas"], 3);
        assert_eq!(defaulted["proxyServer"]["entrypoint"]["port"], 8091);
        assert_eq!(defaulted["authentication"]["signer"]["type"], "SelfSigned");
    }

    /// What a kube-apiserver does to an object that it stores.
    fn apply_defaults(value: &mut Value, schema: &Value) {
        let (Some(object), Some(properties)) =
            (value.as_object_mut(), schema["properties"].as_object())
        else {
            return;
        };
        for (name, property) in properties {
            if let Some(default) = property.get("default") {
                object.entry(name).or_insert_with(|| default.clone());
            }
            if let Some(value) = object.get_mut(name) {
                apply_defaults(value, property);
            }
        }
    }

    #[test]
    fn requires_what_was_always_required() {
        let spec = &schema()["properties"]["spec"];
        let required = |schema: &Value| {
            let mut names: Vec<_> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            required(spec),
            ["authentication", "proxyAgent", "proxyServer"]
        );
        let of = |path: &str| required(spec.pointer(&format!("/properties/{path}")).unwrap());
        assert_eq!(of("proxyServer"), ["image"]);
        assert_eq!(of("proxyAgent"), ["image"]);
        assert_eq!(of("proxyServer/properties/entrypoint"), ["type"]);
        assert_eq!(
            of("proxyServer/properties/entrypoint/properties/hostname"),
            ["value"]
        );
        assert_eq!(of("deploy"), <[&str; 0]>::default());
    }

    /// Every path of the schemas of releases 0.9 to 0.11 of the Go cluster-proxy.
    #[test]
    fn knows_every_field_of_the_go_releases() {
        let known = [
            "authentication.dump.secrets.signingAgentServerSecretName",
            "authentication.dump.secrets.signingProxyClientSecretName",
            "authentication.dump.secrets.signingProxyServerSecretName",
            "authentication.signer.selfSigned.additionalSANs",
            "authentication.signer.type",
            "deploy.ports.adminServer",
            "deploy.ports.agentServer",
            "deploy.ports.healthServer",
            "deploy.ports.proxyServer",
            "proxyAgent.additionalArgs",
            "proxyAgent.additionalServiceCAConfigMap",
            "proxyAgent.additionalServiceProxyArgs",
            "proxyAgent.additionalValues",
            "proxyAgent.image",
            "proxyAgent.imagePullSecrets",
            "proxyAgent.replicas",
            "proxyServer.additionalArgs",
            "proxyServer.entrypoint.hostname.value",
            "proxyServer.entrypoint.loadBalancerService.annotations",
            "proxyServer.entrypoint.loadBalancerService.name",
            "proxyServer.entrypoint.port",
            "proxyServer.entrypoint.type",
            "proxyServer.image",
            "proxyServer.inClusterServiceName",
            "proxyServer.namespace",
            "proxyServer.nodePlacement.nodeSelector",
            "proxyServer.nodePlacement.tolerations",
            "proxyServer.replicas",
            "userServer.additionalSANs",
        ];
        let schema = schema();
        for path in known {
            let pointer = path
                .split('.')
                .fold("/properties/spec".to_owned(), |pointer, name| {
                    format!("{pointer}/properties/{name}")
                });
            assert!(schema.pointer(&pointer).is_some(), "{path} is not known");
        }
    }

    fn schema() -> Value {
        serde_json::to_value(crd()).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            .clone()
    }
}
