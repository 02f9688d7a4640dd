//! Sets of fields, as server-side apply keeps them in `metadata.managedFields` (`FieldsV1`,
//! written down in sigs.k8s.io/structured-merge-diff).

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

use super::lists::{self, ListKind};

/// One step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A field of a map.
    Field(String),
    /// The item of a list whose key has a value: the key's name and the value as JSON.
    Key(String, String),
    /// The item of a set, as JSON.
    Item(String),
}

/// The fields of an object that are stated: its leaves, and the items of its keyed lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FieldSet(BTreeSet<Vec<Step>>);

impl FieldSet {
    /// What an applied configuration states. Of a custom kind every list is atomic: schemas are
    /// not read.
    pub(crate) fn of(object: &Value, custom: bool) -> Self {
        let mut set = Self::default();
        let mut path = Vec::new();
        if let Value::Object(map) = object {
            for (key, value) in map {
                if matches!(key.as_str(), "apiVersion" | "kind") {
                    continue;
                }
                path.push(Step::Field(key.clone()));
                set.add(value, key, custom, &mut path);
                path.pop();
            }
        }
        // Whose object it is, is not the applier's to own.
        set.0.retain(|path| match path.as_slice() {
            [Step::Field(metadata), Step::Field(field), ..] if metadata == "metadata" => {
                !SYSTEM_METADATA.contains(&field.as_str())
            }
            [Step::Field(metadata)] => metadata != "metadata",
            _ => true,
        });
        set
    }

    pub(crate) fn from_json(fields: &Value) -> Self {
        let mut set = Self::default();
        set.read(fields, &mut Vec::new());
        set
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut root = json!({});
        for path in &self.0 {
            let mut node = &mut root;
            for step in path {
                let map = node.as_object_mut().expect("only maps are put in");
                node = map.entry(step.to_string()).or_insert_with(|| json!({}));
            }
            let map = node.as_object_mut().expect("only maps are put in");
            let is_member = matches!(path.last(), Some(Step::Key(..)));
            if is_member {
                map.insert(".".to_owned(), json!({}));
            }
        }
        root
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[Step]> {
        self.0.iter().map(Vec::as_slice)
    }

    pub(crate) fn contains(&self, path: &[Step]) -> bool {
        self.0.contains(path)
    }

    /// Whether a field at or below the path is in the set.
    pub(crate) fn reaches(&self, path: &[Step]) -> bool {
        self.0
            .range(path.to_vec()..)
            .next()
            .is_some_and(|found| found.starts_with(path))
    }

    pub(crate) fn remove(&mut self, path: &[Step]) {
        self.0.remove(path);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, value: &Value, field: &str, custom: bool, path: &mut Vec<Step>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    path.push(Step::Field(key.clone()));
                    self.add(value, key, custom, path);
                    path.pop();
                }
            }
            Value::Array(items) if !custom => self.add_list(items, field, path),
            _ => {
                self.0.insert(path.clone());
            }
        }
    }

    fn add_list(&mut self, items: &[Value], field: &str, path: &mut Vec<Step>) {
        let kind = lists::kind_of(field, items);
        for item in items {
            match kind {
                ListKind::Atomic => {}
                ListKind::Set => {
                    path.push(Step::Item(item.to_string()));
                    self.0.insert(path.clone());
                    path.pop();
                }
                ListKind::Keyed(key) => {
                    let value = item.get(key).unwrap_or(&Value::Null);
                    path.push(Step::Key(key.to_owned(), value.to_string()));
                    self.0.insert(path.clone());
                    self.add(item, "", false, path);
                    path.pop();
                }
            }
        }
        if kind == ListKind::Atomic {
            self.0.insert(path.clone());
        }
    }

    fn read(&mut self, fields: &Value, path: &mut Vec<Step>) {
        let children = fields.as_object().filter(|map| !map.is_empty());
        let Some(children) = children else {
            if !path.is_empty() {
                self.0.insert(path.clone());
            }
            return;
        };
        for (text, below) in children {
            if text == "." {
                self.0.insert(path.clone());
            } else if let Some(step) = Step::parse(text) {
                path.push(step);
                self.read(below, path);
                path.pop();
            }
        }
    }
}

impl Step {
    /// Where the step leads from `value`.
    pub(crate) fn follow<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Field(name) => value.get(name),
            Self::Key(..) | Self::Item(_) => {
                value.as_array()?.iter().find(|item| self.is_item(item))
            }
        }
    }

    /// Whether an item of a list is the one that the step means.
    pub(crate) fn is_item(&self, item: &Value) -> bool {
        match self {
            Self::Field(_) => false,
            Self::Key(key, value) => is_json(item.get(key).unwrap_or(&Value::Null), value),
            Self::Item(value) => is_json(item, value),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "v" => Some(Self::Item(rest.to_owned())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let (key, value) = keys.into_iter().next()?;
                Some(Self::Key(key, value.to_string()))
            }
            _ => None,
        }
    }
}

/// As a key of `FieldsV1`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "f:{name}"),
            Self::Key(key, value) => write!(f, "k:{{{}:{value}}}", Value::from(key.as_str())),
            Self::Item(value) => write!(f, "v:{value}"),
        }
    }
}

fn is_json(value: &Value, text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|parsed| parsed == *value)
}

/// `.spec.containers[name="a"].image`, as conflicts name fields.
pub(crate) fn describe(path: &[Step]) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Key(key, value) => format!("[{key}={value}]"),
            Step::Item(value) => format!("[={value}]"),
        })
        .collect()
}

/// Fields of metadata that nobody owns.
const SYSTEM_METADATA: [&str; 9] = [
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_kubernetes_does() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "labels": {"app": "web"}, "finalizers": ["x/y"]},
            "spec": {"containers": [{"name": "a", "args": ["1", "2"]}], "nodeSelector": {}},
        });
        let set = FieldSet::of(&object, false);
        let written = json!({
            "f:metadata": {"f:labels": {"f:app": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:args": {}}},
                "f:nodeSelector": {},
            },
        });
        assert_eq!(set.to_json(), written);
        assert_eq!(FieldSet::from_json(&written), set);
    }

    #[test]
    fn paths_are_described_for_people() {
        let object = json!({"spec": {"containers": [{"name": "a"}]}});
        let described: Vec<_> = FieldSet::of(&object, false).iter().map(describe).collect();
        assert_eq!(
            described,
            [
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].name"
            ]
        );
    }
}
