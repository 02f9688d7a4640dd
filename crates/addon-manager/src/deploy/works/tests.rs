use cluster_proxy_kube_api::addon::ConfigSpecHash;
use serde_json::{Value, json};

use super::*;

fn owner() -> OwnerReference {
    OwnerReference {
        kind: "ManagedClusterAddOn".to_owned(),
        name: "cluster-proxy".to_owned(),
        ..OwnerReference::default()
    }
}

fn packed(manifests: Vec<Value>) -> Result<Vec<ManifestWork>, TooLarge> {
    works(&"managed".parse().unwrap(), manifests, &[], &owner())
}

fn config_map(name: &str, kib: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"k": "x".repeat(kib * 1024)},
    })
}

#[test]
fn large_manifests_are_split_by_number_in_their_order() {
    let sizes = [150, 150, 150, 450, 1, 1];
    let manifests = (0..)
        .zip(sizes)
        .map(|(number, kib)| config_map(&format!("c{number}"), kib));
    let works = packed(manifests.collect()).unwrap();
    let mut seen = Vec::new();
    for (number, work) in works.iter().enumerate() {
        assert_eq!(
            work.name_any(),
            format!("addon-cluster-proxy-deploy-{number}")
        );
        assert_eq!(work.namespace().as_deref(), Some("managed"));
        assert_eq!(work.labels()[ADDON_NAME_LABEL], "cluster-proxy");
        assert_eq!(work.owner_references(), [owner()]);
        assert_eq!(work.spec.delete_option, None);
        let manifests = &work.spec.workload.manifests;
        let size: usize = manifests.iter().map(|it| it.to_string().len()).sum();
        assert!(size <= PART_BYTES || manifests.len() == 1, "{size}");
        let names = manifests.iter().map(|it| it["metadata"]["name"].clone());
        seen.push(names.collect::<Vec<_>>());
    }
    assert_eq!(
        json!(seen),
        json!([["c0", "c1"], ["c2"], ["c3"], ["c4", "c5"]])
    );
    assert_eq!(packed(Vec::new()).unwrap(), []);
}

#[test]
fn what_no_work_holds_is_named() {
    let refused = packed(vec![config_map("huge", 500)]).unwrap_err();
    assert_eq!(refused.object, "configmaps/huge");
}

#[test]
fn what_stays_is_listed_in_every_work() {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "ns", "annotations": {DELETION_ORPHAN: ""}},
    });
    let works = packed(vec![namespace, config_map("a", 300), config_map("b", 300)]).unwrap();
    assert_eq!(works.len(), 2);
    for work in works {
        assert_eq!(
            json!(work.spec.delete_option),
            json!({
                "propagationPolicy": "SelectivelyOrphan",
                "selectivelyOrphans": {"orphaningRules": [
                    {"group": "", "resource": "namespaces", "name": "ns", "namespace": ""},
                ]},
            })
        );
    }
}

#[test]
fn the_annotation_names_every_configuration() {
    let reference =
        |group: &str, resource: &str, namespace: Option<&str>, name: &str| ConfigReference {
            group: group.to_owned(),
            resource: resource.to_owned(),
            desired_config: Some(ConfigSpecHash {
                namespace: namespace.map(str::to_owned),
                name: name.to_owned(),
                spec_hash: "h".to_owned(),
            }),
            ..ConfigReference::default()
        };
    let references = [
        reference("addon.example.io", "configs", Some("ns"), "a"),
        reference("", "things", None, "b"),
    ];
    let manifests = vec![config_map("a", 1)];
    let works = works(
        &"managed".parse().unwrap(),
        manifests,
        &references,
        &owner(),
    )
    .unwrap();
    assert_eq!(
        works[0].annotations()[CONFIG_SPEC_HASH_ANNOTATION],
        r#"{"configs.addon.example.io/ns/a":"h","things//b":"h"}"#
    );
}

#[test]
fn the_condition_says_what_the_managed_cluster_says() {
    let work = |status: Value| -> ManifestWork {
        serde_json::from_value(json!({
            "metadata": {"name": "addon-cluster-proxy-deploy-0", "generation": 2},
            "spec": {},
            "status": status,
        }))
        .unwrap()
    };
    let condition = |status: &str, generation: i64| {
        json!({
            "type": "Applied", "status": status, "observedGeneration": generation,
            "reason": "R", "message": "M", "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let fine = work(json!({"conditions": [condition("True", 2)]}));
    let stale = work(json!({"conditions": [condition("True", 1)]}));
    let failed = work(json!({
        "conditions": [condition("False", 2)],
        "resourceStatus": {"manifests": [
            {"resourceMeta": {"kind": "Namespace", "name": "ns"},
             "conditions": [condition("True", 2)]},
            {"resourceMeta": {"kind": "Deployment", "name": "d"},
             "conditions": [condition("False", 2)]},
        ]},
    }));
    let applied_state = applied(std::slice::from_ref(&fine)).unwrap().state;
    assert_eq!(applied_state, addon::State::True);
    assert_eq!(applied(&[work(json!({}))]), None);
    assert_eq!(applied(&[fine.clone(), stale]), None);
    let refused = applied(&[fine, failed]).unwrap();
    assert_eq!(refused.state, addon::State::False);
    assert!(
        refused.message.ends_with("Deployment d: M"),
        "{}",
        refused.message
    );
    let bare = applied(&[work(json!({"conditions": [condition("False", 2)]}))]).unwrap();
    assert!(bare.message.ends_with("addon-cluster-proxy-deploy-0: M"));
}
