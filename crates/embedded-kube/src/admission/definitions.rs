//! CustomResourceDefinitions: served at once, and their status says so.

use serde_json::{Value, json};

use crate::clock;
use crate::failure::Cause;
use crate::object;

pub(super) fn create(definition: &mut Value) -> Vec<Cause> {
    let mut causes = super::required(
        definition,
        &[
            "/spec/group",
            "/spec/names/plural",
            "/spec/names/kind",
            "/spec/scope",
            "/spec/versions",
        ],
    );
    let group = object::text(definition, "/spec/group");
    let plural = object::text(definition, "/spec/names/plural");
    let expected = format!("{plural}.{group}");
    if causes.is_empty() && object::name(definition) != expected {
        let why = format!("must be spec.names.plural+\".\"+spec.group, that is {expected:?}");
        let name = Value::from(object::name(definition));
        causes.push(Cause::invalid("metadata.name", &name, &why));
    }
    default_names(definition);
    let now = clock::now();
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "lastTransitionTime": now,
            "reason": reason, "message": message,
        })
    };
    definition["status"] = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                "InitialNamesAccepted",
                "the initial names have been accepted"
            ),
        ],
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": object::list(definition, "/spec/versions")
            .iter()
            .filter(|version| version["storage"] == true)
            .map(|version| version["name"].clone())
            .collect::<Vec<_>>(),
    });
    causes
}

pub(super) fn update(definition: &mut Value) {
    default_names(definition);
    definition["status"]["acceptedNames"] = definition["spec"]["names"].clone();
}

fn default_names(definition: &mut Value) {
    let kind = object::text(definition, "/spec/names/kind").to_owned();
    let mut spec = definition["spec"].take();
    let names = object::map_mut(&mut spec, "names");
    object::set_default(names, "listKind", format!("{kind}List"));
    object::set_default(names, "singular", kind.to_ascii_lowercase());
    let conversion = object::map_mut(&mut spec, "conversion");
    object::set_default(conversion, "strategy", "None");
    definition["spec"] = spec;
}
