//! Lists of built-in kinds that are merged item by item, by the name of their field: the
//! `patchMergeKey` and `listType` markers of `k8s.io/api`. A list that is not here is replaced
//! whole, as an atomic list is.

use serde_json::Value;

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    /// Replaced whole.
    Atomic,
    /// Items are the same where this key is.
    Keyed(&'static str),
    /// A set of plain values.
    Set,
}

/// The kind of the list in the field `name`. Ports have the key of their parent, which their
/// items tell: those of containers have a `containerPort`.
pub(super) fn kind_of(name: &str, items: &[Value]) -> ListKind {
    if name == "ports" {
        let of_container = items.iter().any(|it| it.get("containerPort").is_some());
        return ListKind::Keyed(if of_container {
            "containerPort"
        } else {
            "port"
        });
    }
    if name == "finalizers" {
        return ListKind::Set;
    }
    // Plain values under a name that means a keyed list elsewhere.
    if items.iter().any(|item| !item.is_object()) {
        return ListKind::Atomic;
    }
    KEYED
        .iter()
        .find(|(field, _)| *field == name)
        .map_or(ListKind::Atomic, |(_, key)| ListKind::Keyed(key))
}

const KEYED: [(&str, &str); 16] = [
    ("addresses", "type"),
    ("conditions", "type"),
    ("containers", "name"),
    ("env", "name"),
    ("ephemeralContainers", "name"),
    ("hostAliases", "ip"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ownerReferences", "uid"),
    ("podIPs", "ip"),
    ("resourceClaims", "name"),
    ("secrets", "name"),
    ("topologySpreadConstraints", "topologyKey"),
    ("volumeDevices", "devicePath"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
];
