//! Entries into a kubeconfig, beside those of others.

use std::fmt;

use cluster_proxy_identity::ClusterName;
use serde_json::{Map, Value, json};

use super::entries::{Entries, MARK};

/// What became of a cluster's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) context: String,
    pub(super) cluster: ClusterName,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Unchanged,
    Updated,
    Added,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchanged => "unchanged",
            Self::Updated => "updated",
            Self::Added => "added",
        })
    }
}

/// Puts the entries of `clusters` into `document`. When it fails, the document is not to be used.
pub(super) fn into(
    document: &mut Value,
    entries: &Entries<'_>,
    clusters: &[ClusterName],
) -> Result<Vec<Change>, String> {
    if document.is_null() {
        *document = json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "",
            "clusters": [], "users": [], "contexts": [],
        });
    }
    let mut changes = Vec::with_capacity(clusters.len());
    for cluster in clusters {
        let name = entries.name(cluster);
        let mark = entries.mark(cluster);
        let mut states = Vec::new();
        for (kind, value) in [
            (&CLUSTER, entries.cluster(cluster)),
            (&USER, entries.user()),
            (&CONTEXT, entries.context(cluster)),
        ] {
            states.push(put(document, kind, &name, value, &mark)?);
        }
        // What is partly new is a repair.
        let state = match (states.iter().min(), states.iter().max()) {
            (Some(least), Some(most)) if least == most => *least,
            _ => State::Updated,
        };
        changes.push(Change {
            context: name,
            cluster: cluster.clone(),
            state,
        });
    }
    Ok(changes)
}

/// One of a kubeconfig's lists.
struct Kind {
    list: &'static str,
    field: &'static str,
    /// The fields that we set or remove. Others are the user's own: a namespace, a proxy-url.
    ours: &'static [&'static str],
}

const CLUSTER: Kind = Kind {
    list: "clusters",
    field: "cluster",
    ours: &["server", "certificate-authority-data", "tls-server-name"],
};

const USER: Kind = Kind {
    list: "users",
    field: "user",
    ours: &["exec"],
};

const CONTEXT: Kind = Kind {
    list: "contexts",
    field: "context",
    ours: &["cluster", "user"],
};

fn put(
    document: &mut Value,
    kind: &Kind,
    name: &str,
    value: Value,
    mark: &Value,
) -> Result<State, String> {
    let list = &mut document[kind.list];
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().ok_or("not a kubeconfig")?;
    let Some(known) = list.iter_mut().find(|entry| entry["name"] == name) else {
        let mut value = value;
        value["extensions"] = json!([{"name": MARK, "extension": mark}]);
        list.push(json!({"name": name, kind.field: value}));
        return Ok(State::Added);
    };
    let found = known[kind.field]["extensions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|extension| extension["name"] == MARK)
        .map(|extension| &extension["extension"]);
    match found {
        Some(found) if found == mark => {}
        Some(other) => {
            return Err(format!(
                "the {} {name:?} in it leads to the cluster {} of the hub {}: give others with \
                 --prefix",
                kind.field, other["cluster"], other["hub"]
            ));
        }
        None => {
            return Err(format!(
                "there is a {} {name:?} in it that is not from here: give others with --prefix",
                kind.field
            ));
        }
    }
    let before = known[kind.field].clone();
    let fields = known[kind.field].as_object_mut();
    set(fields.ok_or("not a kubeconfig")?, kind, value);
    Ok(if known[kind.field] == before {
        State::Unchanged
    } else {
        State::Updated
    })
}

fn set(fields: &mut Map<String, Value>, kind: &Kind, value: Value) {
    for field in kind.ours {
        match value.get(field) {
            Some(value) => drop(fields.insert((*field).to_owned(), value.clone())),
            None => drop(fields.remove(*field)),
        }
    }
}

#[cfg(test)]
mod tests;
