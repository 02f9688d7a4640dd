//! Hashes of configurations, by which OCM's addon manager knows which of them is carried out.

use kube::api::DynamicObject;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The hash of all of an object that is neither metadata nor status, as Go addons compute it
/// (`GetSpecHash` of OCM's addon framework): SHA-256, in hex, of the JSON that Go writes.
///
/// Another formula would roll every agent of a fleet once more on the day of an upgrade.
#[must_use]
pub fn spec_hash(object: &DynamicObject) -> String {
    let content: Map<_, _> = object
        .data
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !NO_CONFIGURATION.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut json = String::new();
    write(&Value::Object(content), &mut json);
    let digest = Sha256::digest(json);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `encoding/json` writes maps: keys in order, and the characters of HTML escaped.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

fn write_text(text: &str, out: &mut String) {
    for character in Value::from(text).to_string().chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
}

const NO_CONFIGURATION: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_is_the_one_that_go_computes() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "generation": 3},
            "spec": {"z": [1, true, null], "a": "<b> & \u{2028} \"ä\"\n", "m": {"y": 1, "x": 2}},
            "status": {"ignored": true},
        }))
        .unwrap();
        // json.Marshal and sha256.Sum256 of Go over {"spec": …}.
        assert_eq!(spec_hash(&object), GO_HASH);
    }

    const GO_HASH: &str = "cd13a527d4910a61e97d3fa551aaec92306f5a42ed9abcdfe9115732cd589fae";
}
