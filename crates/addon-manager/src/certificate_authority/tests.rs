use serde_json::{Value, json};

use super::*;
use crate::testing::{Hub, NAMESPACE};

/// One that exists, or the Secret would be collected: the namespace will do.
fn owner(hub: &Hub) -> OwnerReference {
    let namespace = hub.kube.get("v1", "Namespace", "", NAMESPACE).unwrap();
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        name: NAMESPACE.to_owned(),
        uid: namespace["metadata"]["uid"].as_str().unwrap().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// As many as there are fields.
fn secret(hub: &Hub, fields: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> = fields
        .iter()
        .map(|(name, text)| {
            (
                (*name).to_owned(),
                json!(ByteString(text.as_bytes().into())),
            )
        })
        .collect();
    hub.apply(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "cluster-proxy-signer", "namespace": NAMESPACE},
        "data": data,
    }))
}

#[tokio::test]
async fn is_made_once_and_kept() {
    let hub = Hub::start().await;
    let first = ensure(&hub.context("a"), &owner(&hub)).await.unwrap();
    let kept = hub.secret("cluster-proxy-signer").unwrap();
    assert_eq!(kept["metadata"]["ownerReferences"][0]["name"], NAMESPACE);
    let other = hub.context("b");
    let second = ensure(&other, &owner(&hub)).await.unwrap();
    assert_eq!(first.cert_pem(), second.cert_pem());
    assert_eq!(first.key_pem(), second.key_pem());
    assert_eq!(hub.secret("cluster-proxy-signer").unwrap(), kept);
    assert!(first.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));

    hub.kube
        .delete("v1", "Secret", NAMESPACE, "cluster-proxy-signer")
        .unwrap();
    let again = ensure(&other, &owner(&hub)).await.unwrap();
    assert_eq!(first.cert_pem(), again.cert_pem());
    let made_again = hub.secret("cluster-proxy-signer").unwrap();
    assert_eq!(made_again["data"], kept["data"]);
}

#[tokio::test]
async fn a_race_of_two_managers_ends_with_one() {
    let hub = Hub::start().await;
    let (one, two) = (hub.context("a"), hub.context("b"));
    let owner = owner(&hub);
    let (first, second) = tokio::join!(ensure(&one, &owner), ensure(&two, &owner));
    assert_eq!(first.unwrap().cert_pem(), second.unwrap().cert_pem());
}

#[tokio::test]
async fn what_cannot_be_used_is_told_and_left() {
    let hub = Hub::start().await;
    let ca = CertificateAuthority::generate().unwrap();
    let other = CertificateAuthority::generate().unwrap();
    let leaf = cluster_proxy_identity::ca::Leaf::proxy_client();
    let leaf = ca.issue(&leaf).unwrap();
    let (cert, key, other_key) = (ca.cert_pem(), ca.key_pem(), other.key_pem());
    let cases: [(&[(&str, &str)], SecretProblem); 6] = [
        (&[], SecretProblem::Missing { field: "ca.crt" }),
        (
            &[("ca.crt", cert)],
            SecretProblem::Missing { field: "ca.key" },
        ),
        (
            &[("ca.crt", cert), ("ca.key", "")],
            SecretProblem::Missing { field: "ca.key" },
        ),
        (
            &[("ca.crt", cert), ("ca.key", "half of a k")],
            SecretProblem::Key,
        ),
        (
            &[("ca.crt", cert), ("ca.key", &other_key)],
            SecretProblem::KeyMismatch,
        ),
        (
            &[("ca.crt", &leaf.cert_pem), ("ca.key", &leaf.key_pem)],
            SecretProblem::NotAnAuthority,
        ),
    ];
    for (fields, expected) in cases {
        let before = secret(&hub, fields);
        let context = hub.context("a");
        let failure = ensure(&context, &owner(&hub)).await.unwrap_err();
        assert!(
            matches!(&failure, AuthorityFailure::Unusable { problem, .. } if *problem == expected),
            "{failure} instead of {expected}"
        );
        assert!(!failure.to_string().contains("half of a k"));
        assert_eq!(hub.secret("cluster-proxy-signer").unwrap(), before);
        assert!(context.ca.current().is_none());
        hub.kube
            .delete("v1", "Secret", NAMESPACE, "cluster-proxy-signer")
            .unwrap();
    }
    secret(&hub, &[("ca.crt", cert), ("ca.key", &key)]);
    let kept = ensure(&hub.context("a"), &owner(&hub)).await.unwrap();
    assert_eq!(kept.cert_pem(), cert);
}

#[tokio::test]
async fn others_learn_of_another_ca_only() {
    use futures_util::{FutureExt, StreamExt};

    let handle = CaHandle::new();
    let mut changes = Box::pin(handle.changes());
    assert!(changes.next().now_or_never().is_none());
    let ca = Arc::new(CertificateAuthority::generate().unwrap());
    handle.set(Some(Arc::clone(&ca)));
    assert!(changes.next().now_or_never().is_some());
    handle.set(Some(ca));
    assert!(changes.next().now_or_never().is_none());
    handle.set(None);
    assert!(changes.next().now_or_never().is_some());
}
