//! Server-side apply: the object gets what a manager states, loses what the same manager stated
//! before and states no more, and keeps the rest (KEP-555).
//!
//! Owners are those who apply. Who creates, updates or patches in another way owns nothing here,
//! so that his values are overwritten without a conflict; Kubernetes itself would tell.

use serde_json::{Value, json};

use super::fields::{FieldSet, Step, describe};
use crate::clock;
use crate::failure::Failure;
use crate::object;
use crate::resources::Resource;

/// Who applies, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applier<'a> {
    pub(crate) manager: &'a str,
    /// Take over fields that other managers own.
    pub(crate) force: bool,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
}

/// The object after `wanted` is applied to `live`, with managed fields.
///
/// # Errors
/// 409 for fields that others own with another value, unless forced; 400 for managed fields in
/// the applied configuration.
pub(crate) fn apply(
    resource: &Resource,
    live: Option<&Value>,
    wanted: &Value,
    applier: Applier<'_>,
) -> Result<Value, Failure> {
    if !object::list(wanted, "/metadata/managedFields").is_empty() {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    let stated = FieldSet::of(wanted, resource.custom);
    let mut entries = live.map(entries_of).unwrap_or_default();
    let own = entries.iter().position(|entry| entry.is_of(&applier));
    let own = own.map(|position| entries.remove(position));
    let nothing = json!({});
    let mut merged = live.unwrap_or(&nothing).clone();

    let conflicts = conflicts(&entries, &stated, &merged, wanted);
    if !conflicts.is_empty() {
        if !applier.force {
            let listed: Vec<_> = conflicts
                .iter()
                .map(|(entry, path)| (entries[*entry].manager().to_owned(), describe(path)))
                .collect();
            return Err(Failure::apply_conflict(&listed));
        }
        for (entry, path) in conflicts {
            entries[entry].set.remove(&path);
        }
    }

    merge(&mut merged, wanted, &stated, &mut Vec::new());
    if let Some(own) = &own {
        drop_unstated(&mut merged, &own.set, &stated, &entries);
    }
    entries.push(Entry::new(own, stated, applier, &resource.api_version()));
    let managed = entries
        .into_iter()
        .filter(|entry| !entry.set.is_empty())
        .map(Entry::into_json)
        .collect();
    object::metadata_mut(&mut merged).insert("managedFields".to_owned(), managed);
    Ok(merged)
}

/// One manager's entry in `metadata.managedFields`.
struct Entry {
    json: Value,
    set: FieldSet,
}

impl Entry {
    /// Keeps the time of the last entry where the fields are the same, so that applying the same
    /// again changes nothing.
    fn new(last: Option<Self>, set: FieldSet, applier: Applier<'_>, api_version: &str) -> Self {
        let time = last
            .filter(|last| last.set == set)
            .map(|last| object::text(&last.json, "/time").to_owned())
            .unwrap_or_else(clock::now);
        let mut json = json!({
            "manager": applier.manager,
            "operation": "Apply",
            "apiVersion": api_version,
            "time": time,
            "fieldsType": "FieldsV1",
        });
        if !applier.subresource.is_empty() {
            json["subresource"] = applier.subresource.into();
        }
        Self { json, set }
    }

    fn is_of(&self, applier: &Applier<'_>) -> bool {
        self.manager() == applier.manager
            && object::text(&self.json, "/subresource") == applier.subresource
    }

    fn manager(&self) -> &str {
        object::text(&self.json, "/manager")
    }

    fn into_json(mut self) -> Value {
        self.json["fieldsV1"] = self.set.to_json();
        self.json
    }
}

fn entries_of(live: &Value) -> Vec<Entry> {
    object::list(live, "/metadata/managedFields")
        .iter()
        .map(|json| Entry {
            json: json.clone(),
            set: FieldSet::from_json(&json["fieldsV1"]),
        })
        .collect()
}

/// Fields that are stated with another value than the one their owner gave them.
fn conflicts(
    entries: &[Entry],
    stated: &FieldSet,
    live: &Value,
    wanted: &Value,
) -> Vec<(usize, Vec<Step>)> {
    let mut found = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        for path in entry.set.iter().filter(|path| stated.contains(path)) {
            let is_member = matches!(path.last(), Some(Step::Key(..)));
            if !is_member && value_at(live, path) != value_at(wanted, path) {
                found.push((index, path.to_vec()));
            }
        }
    }
    found
}

fn value_at<'a>(object: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter()
        .try_fold(object, |value, step| step.follow(value))
}

/// Puts every value of `wanted` into `live`; lists item by item where the set of stated fields
/// goes into them.
fn merge(live: &mut Value, wanted: &Value, stated: &FieldSet, path: &mut Vec<Step>) {
    match (&mut *live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (key, value) in wanted {
                path.push(Step::Field(key.clone()));
                let slot = live.entry(key).or_insert(Value::Null);
                merge(slot, value, stated, path);
                path.pop();
            }
        }
        (Value::Array(live), Value::Array(wanted)) if !stated.contains(path) => {
            for item in wanted {
                let step = step_to(item, stated, path);
                match live.iter_mut().find(|it| step.is_item(it)) {
                    Some(slot) => {
                        path.push(step);
                        merge(slot, item, stated, path);
                        path.pop();
                    }
                    None => live.push(item.clone()),
                }
            }
        }
        _ => *live = wanted.clone(),
    }
}

/// The step to an item of a list, as the set of stated fields has it.
fn step_to(item: &Value, stated: &FieldSet, path: &[Step]) -> Step {
    stated
        .iter()
        .filter(|found| found.len() == path.len() + 1 && found.starts_with(path))
        .filter_map(|found| found.last())
        .find(|step| step.is_item(item))
        .cloned()
        .unwrap_or_else(|| Step::Item(item.to_string()))
}

/// Takes away what the manager stated before, states no more, and nobody else owns.
fn drop_unstated(live: &mut Value, before: &FieldSet, stated: &FieldSet, others: &[Entry]) {
    // In order: an item goes before what lies in it, its key among that.
    for path in before.iter() {
        let owned = stated.reaches(path) || others.iter().any(|it| it.set.reaches(path));
        if !owned {
            remove_at(live, path);
        }
    }
}

fn remove_at(value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    match value {
        Value::Object(map) => {
            let Step::Field(name) = step else { return };
            if rest.is_empty() {
                map.remove(name);
            } else if let Some(below) = map.get_mut(name) {
                remove_at(below, rest);
                // A map that held only what went is gone as well.
                if below.as_object().is_some_and(serde_json::Map::is_empty) {
                    map.remove(name);
                }
            }
        }
        Value::Array(items) => {
            if rest.is_empty() {
                items.retain(|item| !step.is_item(item));
            } else if let Some(item) = items.iter_mut().find(|item| step.is_item(item)) {
                remove_at(item, rest);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Registry;
    use crate::store::Store;

    fn applied(
        live: Option<&Value>,
        wanted: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, Failure> {
        let resource = Store::new()
            .read(|view| Registry::new().find(view, "apps", "v1", "deployments"))
            .unwrap();
        let applier = Applier {
            manager,
            force,
            subresource: "",
        };
        apply(&resource, live, wanted, applier)
    }

    fn deployment(spec: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
    }

    #[test]
    fn what_is_not_stated_any_more_goes() {
        let first = deployment(json!({
            "replicas": 2,
            "containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}],
        }));
        let live = applied(None, &first, "us", false).unwrap();
        let again = applied(Some(&live), &first, "us", false).unwrap();
        assert_eq!(again, live);
        let second = deployment(json!({"containers": [{"name": "a", "image": "a:2"}]}));
        let live = applied(Some(&live), &second, "us", false).unwrap();
        assert_eq!(
            live["spec"],
            json!({"containers": [{"name": "a", "image": "a:2"}]})
        );
        assert_eq!(object::list(&live, "/metadata/managedFields").len(), 1);
    }

    #[test]
    fn managers_share_an_object_field_by_field() {
        let us = deployment(json!({"replicas": 2, "paused": true}));
        let live = applied(None, &us, "us", false).unwrap();
        let them = deployment(json!({"replicas": 2, "selector": {"a": "b"}}));
        let live = applied(Some(&live), &them, "them", false).unwrap();
        assert_eq!(object::list(&live, "/metadata/managedFields").len(), 2);

        // Shared while both say the same; it stays while one of them says it.
        let less = deployment(json!({"paused": true}));
        let live = applied(Some(&live), &less, "us", false).unwrap();
        assert_eq!(live["spec"]["replicas"], 2);

        let other = deployment(json!({"replicas": 3, "paused": true}));
        let refused = applied(Some(&live), &other, "us", false).unwrap_err();
        assert_eq!(
            refused.message(),
            "Apply failed with 1 conflict: conflict with \"them\": .spec.replicas"
        );
        let live = applied(Some(&live), &other, "us", true).unwrap();
        assert_eq!(live["spec"]["replicas"], 3);
        let gone = deployment(json!({"selector": {"a": "b"}}));
        let live = applied(Some(&live), &gone, "them", false).unwrap();
        assert_eq!(live["spec"]["replicas"], 3, "it is ours now");
    }

    #[test]
    fn items_of_others_stay() {
        let us = deployment(
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}),
        );
        let live = applied(None, &us, "us", false).unwrap();
        let them = deployment(
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}),
        );
        let live = applied(Some(&live), &them, "them", false).unwrap();
        let us = deployment(json!({"containers": [{"name": "a"}]}));
        let live = applied(Some(&live), &us, "us", false).unwrap();
        assert_eq!(
            live["spec"]["containers"],
            json!([{"name": "a", "env": [{"name": "Y", "value": "2"}]}])
        );
    }
}
