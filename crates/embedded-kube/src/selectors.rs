//! Label and field selectors, as `k8s.io/apimachinery/pkg/{labels,fields}` parse them.

use serde_json::Value;

use crate::failure::Failure;
use crate::names;
use crate::object;
use crate::resources::Resource;

/// What `labelSelector` and `fieldSelector` of a list or watch choose.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

impl Selector {
    /// # Errors
    /// 400 for what cannot be parsed, and for a field that the kind does not select by.
    pub(crate) fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            labels: parse_labels(labels.unwrap_or_default())?,
            fields: parse_fields(resource, fields.unwrap_or_default())?,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.labels.iter().all(|it| it.matches(labels))
            && self.fields.iter().all(|it| it.matches(object))
    }
}

#[derive(Debug, Clone)]
struct LabelRequirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl LabelRequirement {
    fn matches(&self, labels: Option<&Value>) -> bool {
        let value = labels
            .and_then(|labels| labels.get(&self.key))
            .and_then(Value::as_str);
        let among = |values: &[String]| value.is_some_and(|it| values.iter().any(|v| v == it));
        match &self.operator {
            Operator::In(values) => among(values),
            Operator::NotIn(values) => !among(values),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
        }
    }

    /// One requirement without its commas, such as `a`, `!a`, `a!=b` or `a in (b, c)`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (key, operator) = if let Some(key) = text.strip_prefix('!') {
            (key, Operator::Absent)
        } else if let Some((key, value)) = text.split_once("!=") {
            (key, Operator::NotIn(vec![value.trim().to_owned()]))
        } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (key, Operator::In(vec![value.trim().to_owned()]))
        } else if let Some((left, values)) = text.split_once('(') {
            let values = values
                .strip_suffix(')')?
                .split(',')
                .map(|value| value.trim().to_owned())
                .collect();
            let (key, word) = left.trim().rsplit_once(char::is_whitespace)?;
            match word {
                "in" => (key, Operator::In(values)),
                "notin" => (key, Operator::NotIn(values)),
                _ => return None,
            }
        } else {
            (text, Operator::Exists)
        };
        let key = key.trim();
        names::is_qualified(key).then(|| Self {
            key: key.to_owned(),
            operator,
        })
    }
}

#[derive(Debug, Clone)]
struct FieldRequirement {
    /// JSON pointer.
    pointer: String,
    value: String,
    equal: bool,
}

impl FieldRequirement {
    fn matches(&self, object: &Value) -> bool {
        let found = match object.pointer(&self.pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        (found == self.value) == self.equal
    }
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, Failure> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_outside_parentheses(text)
        .map(|part| {
            LabelRequirement::parse(part).ok_or_else(|| {
                Failure::bad_request(format!(
                    "unable to parse requirement: {:?} is no label selector",
                    part.trim()
                ))
            })
        })
        .collect()
}

fn parse_fields(resource: &Resource, text: &str) -> Result<Vec<FieldRequirement>, Failure> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value, equal) = if let Some((key, value)) = part.split_once("!=") {
                (key, value, false)
            } else if let Some((key, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (key, value, true)
            } else {
                return Err(Failure::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            let known = METADATA_FIELDS.contains(&key)
                || resource.selectable.iter().any(|field| field == key);
            if !known {
                let message = if resource.selectable.is_empty() {
                    format!(
                        "{key:?} is not a known field selector: only \"metadata.name\", \
                         \"metadata.namespace\""
                    )
                } else {
                    format!("field label not supported: {key}")
                };
                return Err(Failure::bad_request(message));
            }
            Ok(FieldRequirement {
                pointer: format!("/{}", key.replace('.', "/")),
                value: value.to_owned(),
                equal,
            })
        })
        .collect()
}

/// The name that a field selector asks for, where it asks for exactly one: authorization then
/// looks at that name.
pub(crate) fn exact_name(fields: &str) -> Option<&str> {
    fields.split(',').find_map(|part| {
        let (key, value) = part.split_once("==").or_else(|| part.split_once('='))?;
        (key == "metadata.name" && !value.is_empty()).then_some(value)
    })
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

/// Labels as a selector that chooses them, for tables.
pub(crate) fn format_labels(object: &Value, pointer: &str) -> String {
    let pairs: Vec<_> = object
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", object::text(value, "")))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

const METADATA_FIELDS: [&str; 2] = ["metadata.name", "metadata.namespace"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::Registry;
    use crate::store::Store;

    fn chooses(labels: &str, fields: &str, object: &Value) -> Result<bool, Failure> {
        let pods = Store::new()
            .read(|view| Registry::new().find(view, "", "v1", "pods"))
            .unwrap();
        Ok(Selector::parse(&pods, Some(labels), Some(fields))?.matches(object))
    }

    #[test]
    fn label_selectors_choose_as_in_kubectl() {
        let object = json!({"metadata": {"labels": {"app": "web", "example.com/tier": "front"}}});
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,example.com/tier=front", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (api, web),app", true),
            ("app notin (api,web)", false),
            ("other notin (api)", true),
            ("!app", false),
            ("!other", true),
            ("other", false),
        ] {
            assert_eq!(chooses(selector, "", &object), Ok(expected), "{selector}");
        }
        for wrong in ["app in web", "=x", "app within (x)", "a b", ","] {
            assert!(chooses(wrong, "", &object).is_err(), "{wrong}");
        }
    }

    #[test]
    fn field_selectors_know_the_fields_of_the_kind() {
        let object = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "status": {"phase": "Running"},
        });
        for (selector, expected) in [
            ("metadata.name=web", true),
            ("metadata.name==web,metadata.namespace!=default", false),
            ("status.phase=Running", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
        ] {
            assert_eq!(chooses("", selector, &object), Ok(expected), "{selector}");
        }
        assert_eq!(
            chooses("", "spec.color=red", &object)
                .unwrap_err()
                .message(),
            "field label not supported: spec.color"
        );
        assert!(chooses("", "metadata.name", &object).is_err());
    }
}
