//! Objects as tables (`as=Table;v=v1;g=meta.k8s.io`), which is what kubectl asks for and prints.

pub(crate) mod columns;
mod pods;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::object;
use crate::resources::Resource;

/// How much of each object a row carries (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A table of some objects at a version. Without `headers`, as in later events of a watch, the
/// columns are not repeated.
pub(crate) fn table(
    resource: &Resource,
    objects: &[Arc<Value>],
    version: &str,
    include: IncludeObject,
    headers: bool,
) -> Value {
    let definitions: Value = if headers {
        resource
            .columns
            .iter()
            .map(columns::Column::definition)
            .collect()
    } else {
        Value::Null
    };
    let rows: Vec<_> = objects
        .iter()
        .map(|object| {
            let cells: Vec<_> = resource
                .columns
                .iter()
                .map(|column| column.cell(object))
                .collect();
            let mut row = json!({"cells": cells});
            match include {
                IncludeObject::None => {}
                IncludeObject::Metadata => row["object"] = partial(object),
                IncludeObject::Object => row["object"] = Value::clone(object),
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// An object's metadata alone (`as=PartialObjectMetadata`).
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").unwrap_or(&Value::Null),
    })
}

/// A table of one object.
pub(crate) fn single(
    resource: &Resource,
    object: &Arc<Value>,
    include: IncludeObject,
    headers: bool,
) -> Value {
    let version = object::resource_version(object).to_owned();
    table(
        resource,
        std::slice::from_ref(object),
        &version,
        include,
        headers,
    )
}
