//! Strategic merge patch (apimachinery's `util/strategicpatch`): a merge patch that knows keyed
//! lists and takes directives.
//!
//! Understood: `$patch: replace|delete|merge` in maps and list items, `$retainKeys`,
//! `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`.

use serde_json::{Map, Value};

use super::lists::{self, ListKind};
use crate::failure::Failure;

/// Merges `patch`, a map, into `object`.
///
/// # Errors
/// 400 for an unknown directive, or list items without their key.
pub(super) fn merge(object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return Ok(());
    };
    match directive(patch)? {
        Directive::Replace => {
            let mut kept = patch.clone();
            kept.remove(PATCH);
            *object = Value::Object(kept);
            return Ok(());
        }
        Directive::Delete => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        Directive::Merge => {}
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let map = object.as_object_mut().expect("made a map just above");
    if let Some(retained) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        map.retain(|key, _| retained.iter().any(|it| it == key));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_values(map, field, value);
        } else if !key.starts_with('$') {
            merge_field(map, key, value)?;
        }
    }
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ELEMENT_ORDER) {
            reorder(map, field, order);
        }
    }
    Ok(())
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>) -> Result<Directive, Failure> {
    match patch.get(PATCH).map(Value::as_str) {
        None | Some(Some("merge")) => Ok(Directive::Merge),
        Some(Some("replace")) => Ok(Directive::Replace),
        Some(Some("delete")) => Ok(Directive::Delete),
        Some(_) => Err(Failure::bad_request(
            "Unknown patch type found in the patch",
        )),
    }
}

fn merge_field(map: &mut Map<String, Value>, key: &str, value: &Value) -> Result<(), Failure> {
    match value {
        Value::Null => {
            map.remove(key);
        }
        Value::Object(patch) => {
            let slot = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
            merge(slot, value)?;
            if matches!(directive(patch)?, Directive::Delete) {
                map.remove(key);
            }
        }
        Value::Array(items) => {
            let slot = map.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(slot, key, items)?;
        }
        plain => {
            map.insert(key.to_owned(), plain.clone());
        }
    }
    Ok(())
}

fn merge_list(slot: &mut Value, field: &str, patch: &[Value]) -> Result<(), Failure> {
    let replace = patch.iter().any(|item| item[PATCH] == "replace");
    let current = slot.as_array().map_or(&[][..], Vec::as_slice);
    let known = if current.is_empty() { patch } else { current };
    match lists::kind_of(field, known) {
        ListKind::Keyed(key) if !replace => {
            let mut items = current.to_vec();
            for item in patch {
                merge_item(&mut items, key, item)?;
            }
            *slot = items.into();
        }
        ListKind::Set if !replace => {
            let mut items = current.to_vec();
            for item in patch {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
            *slot = items.into();
        }
        ListKind::Atomic | ListKind::Keyed(_) | ListKind::Set => {
            let items = patch.iter().filter(|item| item.get(PATCH).is_none());
            *slot = items.cloned().collect();
        }
    }
    Ok(())
}

fn merge_item(items: &mut Vec<Value>, key: &str, patch: &Value) -> Result<(), Failure> {
    let Some(wanted) = patch.get(key) else {
        return Err(Failure::bad_request(format!(
            "map: {patch} does not contain declared merge key: {key}"
        )));
    };
    let position = items.iter().position(|item| item.get(key) == Some(wanted));
    if patch[PATCH] == "delete" {
        if let Some(position) = position {
            items.remove(position);
        }
        return Ok(());
    }
    match position {
        Some(position) => merge(&mut items[position], patch),
        None => {
            let mut item = Value::Object(Map::new());
            merge(&mut item, patch)?;
            items.push(item);
            Ok(())
        }
    }
}

fn delete_values(map: &mut Map<String, Value>, field: &str, values: &Value) {
    let values = values.as_array().map_or(&[][..], Vec::as_slice);
    if let Some(items) = map.get_mut(field).and_then(Value::as_array_mut) {
        items.retain(|item| !values.contains(item));
    }
}

/// Puts the items that the patch's author knows in the order given; others stay where they are
/// relative to their left neighbour.
fn reorder(map: &mut Map<String, Value>, field: &str, order: &Value) {
    let (Some(items), Some(order)) = (
        map.get_mut(field).and_then(Value::as_array_mut),
        order.as_array(),
    ) else {
        return;
    };
    let rank = |item: &Value| {
        order.iter().position(|wanted| match wanted {
            Value::Object(wanted) => wanted
                .iter()
                .all(|(key, value)| item.get(key) == Some(value)),
            plain => item == plain,
        })
    };
    let mut last = None;
    let mut ranked: Vec<_> = items
        .drain(..)
        .map(|item| {
            last = rank(&item).or(last);
            (last, item)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    items.extend(ranked.into_iter().map(|(_, item)| item));
}

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut object: Value, patch: Value) -> Value {
        merge(&mut object, &patch).unwrap();
        object
    }

    #[test]
    fn keyed_lists_are_merged_item_by_item() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]},
            {"name": "b", "image": "b:1"},
        ]}});
        let patch = json!({"spec": {"containers": [
            {"name": "b", "image": "b:2"},
            {"name": "a", "ports": [{"containerPort": 81, "protocol": "TCP"}]},
            {"name": "c", "image": "c:1"},
        ]}});
        assert_eq!(
            merged(pod, patch)["spec"]["containers"],
            json!([
                {
                    "name": "a", "image": "a:1",
                    "ports": [{"containerPort": 80}, {"containerPort": 81, "protocol": "TCP"}],
                },
                {"name": "b", "image": "b:2"},
                {"name": "c", "image": "c:1"},
            ])
        );
    }

    #[test]
    fn what_kubectl_apply_sends_is_understood() {
        let deployment = json!({"spec": {
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "containers": [{"name": "a"}, {"name": "b"}],
        }});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "c", "image": "c:1"}, {"$patch": "delete", "name": "b"}],
            "strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null},
        }});
        assert_eq!(
            merged(deployment, patch),
            json!({"spec": {
                "strategy": {"type": "Recreate"},
                "containers": [{"name": "c", "image": "c:1"}, {"name": "a"}],
            }})
        );
    }

    #[test]
    fn plain_lists_are_replaced_and_sets_grow() {
        let role = json!({
            "metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
            "rules": [{"verbs": ["get"]}],
        });
        let patch = json!({
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "finalizers": ["c"],
                "labels": {"x": null, "z": "3"},
            },
            "rules": [{"verbs": ["list"]}],
        });
        assert_eq!(
            merged(role, patch),
            json!({
                "metadata": {"finalizers": ["b", "c"], "labels": {"y": "2", "z": "3"}},
                "rules": [{"verbs": ["list"]}],
            })
        );
    }

    #[test]
    fn maps_are_replaced_and_removed_on_demand() {
        let object = json!({"data": {"a": "1"}, "other": {"b": "2"}});
        let patch = json!({
            "data": {"$patch": "replace", "c": "3"},
            "other": {"$patch": "delete"},
        });
        assert_eq!(merged(object, patch), json!({"data": {"c": "3"}}));
    }

    #[test]
    fn wrong_patches_are_refused() {
        let object = json!({"spec": {"containers": [{"name": "a"}]}});
        for patch in [
            json!({"spec": {"containers": [{"image": "x"}]}}),
            json!({"spec": {"$patch": "explode"}}),
        ] {
            assert!(merge(&mut object.clone(), &patch).is_err(), "{patch}");
        }
    }
}
