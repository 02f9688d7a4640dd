//! The four ways to change an object by a patch. This module knows no store: an object and a
//! patch go in, the changed object comes out.

pub(crate) mod apply;
pub(crate) mod fields;
mod lists;
mod strategic;

use serde_json::Value;

use crate::failure::Failure;
use crate::resources::Resource;

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own merge, which knows the keys of lists.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl PatchType {
    /// # Errors
    /// 415 for a content type that is none of the four, or not for this kind.
    pub(crate) fn of(content_type: &str, resource: &Resource) -> Result<Self, Failure> {
        match content_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if !resource.custom => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => {
                let mut accepted = CONTENT_TYPES.to_vec();
                if resource.custom {
                    accepted.retain(|it| !it.contains("strategic"));
                }
                Err(Failure::unsupported_media_type(&accepted.join(", ")))
            }
        }
    }
}

/// The patched object, for all but [`PatchType::Apply`].
///
/// # Errors
/// 400 for a patch that cannot be read, 422 for one that does not fit the object.
pub(crate) fn patched(
    resource: &Resource,
    current: &Value,
    kind: PatchType,
    patch: &Value,
) -> Result<Value, Failure> {
    let mut object = current.clone();
    match kind {
        PatchType::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
            json_patch::patch(&mut object, &patch).map_err(|error| {
                let cause =
                    crate::failure::Cause::invalid("patch", &Value::Null, &error.to_string());
                let name = crate::object::name(current);
                Failure::invalid(&resource.kind_subject(name), &[cause])
            })?;
        }
        PatchType::Merge | PatchType::Strategic | PatchType::Apply if !patch.is_object() => {
            return Err(Failure::bad_request("the patch is no JSON object"));
        }
        PatchType::Merge | PatchType::Apply => json_patch::merge(&mut object, patch),
        PatchType::Strategic => strategic::merge(&mut object, patch)?,
    }
    Ok(object)
}

/// The content types of patches, as discovery and refusals name them.
pub(crate) const CONTENT_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
