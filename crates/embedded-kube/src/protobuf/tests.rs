use serde_json::json;

use super::*;

/// One field of wire type 2.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
    field.extend_from_slice(content);
    field
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [
        MAGIC.to_vec(),
        bytes(1, &type_meta),
        bytes(2, raw),
        bytes(3, b""),
        bytes(4, b""),
    ]
    .concat()
}

#[test]
fn what_kubectl_sends_is_the_object_it_means() {
    // As `kubectl create configmap` writes it: empty fields of Go structs among the rest.
    let metadata = [
        bytes(1, b"one"),
        bytes(2, b""),
        bytes(3, b"default"),
        vec![7 << 3, 0],
        bytes(8, b""),
        bytes(11, &[bytes(1, b"app"), bytes(2, b"web")].concat()),
    ]
    .concat();
    let raw = [
        bytes(1, &metadata),
        bytes(2, &[bytes(1, b"a"), bytes(2, b"1")].concat()),
        bytes(2, &[bytes(1, b"empty"), bytes(2, b"")].concat()),
        bytes(3, &[bytes(1, b"b"), bytes(2, b"\xff")].concat()),
        vec![4 << 3, 0],
    ]
    .concat();
    assert_eq!(
        decode(&body("v1", "ConfigMap", &raw)).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "one", "namespace": "default", "labels": {"app": "web"}},
            "data": {"a": "1", "empty": ""},
            "binaryData": {"b": "/w=="},
            "immutable": false,
        })
    );
}

#[test]
fn lists_keep_what_is_empty() {
    let rule = [bytes(1, b"get"), bytes(2, b""), bytes(3, b"pods")].concat();
    let raw = [bytes(1, &bytes(1, b"r")), bytes(2, &rule)].concat();
    let role = decode(&body("rbac.authorization.k8s.io/v1", "Role", &raw)).unwrap();
    assert_eq!(
        role["rules"],
        json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])
    );
}

#[test]
fn times_and_numbers_are_read() {
    // 1,700,000,000 s and 5,000 ns.
    let time = [
        vec![1 << 3, 0x80, 0xe2, 0xcf, 0xaa, 0x06],
        vec![2 << 3, 0x88, 0x27],
    ]
    .concat();
    let spec = [bytes(1, b"me"), vec![2 << 3, 15], bytes(4, &time)].concat();
    let raw = [bytes(1, &bytes(1, b"l")), bytes(2, &spec)].concat();
    let lease = decode(&body("coordination.k8s.io/v1", "Lease", &raw)).unwrap();
    assert_eq!(
        lease["spec"],
        json!({
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "renewTime": "2023-11-14T22:13:20.000005Z",
        })
    );
}

#[test]
fn what_is_not_known_is_refused_and_not_dropped() {
    let unknown_field = bytes(9, b"x");
    let refused = decode(&body("v1", "ConfigMap", &unknown_field)).unwrap_err();
    assert_eq!(refused.code(), 415);
    let refused = decode(&body("v1", "Node", &[])).unwrap_err();
    assert_eq!(refused.code(), 415);
    for wrong in [
        &b"{}"[..],
        b"k8s\0\x0a\xff",
        b"k8s\0\x0a",
        b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(decode(wrong).unwrap_err().code(), 400, "{wrong:?}");
    }
}
