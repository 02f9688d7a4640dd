//! Refusals as Kubernetes words them: code, reason, message and details of a `Status` object.
//!
//! The wording is that of apimachinery's `api/errors`, since clients (and people) match on it.
//! The rest of the workspace answers with `kube_api::status`, which has the few refusals that a
//! proxy gives; an API server needs all of them, with causes.

use http::StatusCode;
use serde_json::{Value, json};

/// A refusal, ready to be shown as a `Status`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

impl Failure {
    pub(crate) fn unauthorized() -> Self {
        Self::plain(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403 about an object, e.g. by admission.
    pub(crate) fn forbidden(about: &Subject<'_>, why: &str) -> Self {
        let message = if about.resource.is_empty() {
            format!("forbidden: {why}")
        } else if about.name.is_empty() {
            format!("{} is forbidden: {why}", about.qualified())
        } else {
            format!("{} {:?} is forbidden: {why}", about.qualified(), about.name)
        };
        Self::about(StatusCode::FORBIDDEN, "Forbidden", message, about)
    }

    pub(crate) fn not_found(about: &Subject<'_>) -> Self {
        let message = format!("{} {:?} not found", about.qualified(), about.name);
        Self::about(StatusCode::NOT_FOUND, "NotFound", message, about)
    }

    /// 404 for a path that nothing serves.
    pub(crate) fn unknown_path() -> Self {
        let message = "the server could not find the requested resource";
        Self {
            details: Some(json!({})),
            ..Self::plain(StatusCode::NOT_FOUND, "NotFound", message)
        }
    }

    pub(crate) fn already_exists(about: &Subject<'_>) -> Self {
        let message = format!("{} {:?} already exists", about.qualified(), about.name);
        Self::about(StatusCode::CONFLICT, "AlreadyExists", message, about)
    }

    pub(crate) fn conflict(about: &Subject<'_>, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {why}",
            about.qualified(),
            about.name
        );
        Self::about(StatusCode::CONFLICT, "Conflict", message, about)
    }

    /// 409 of server-side apply: fields that other managers own, with another value.
    pub(crate) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let listed: Vec<_> = conflicts
            .iter()
            .map(|(manager, field)| format!("conflict with {manager:?}: {field}"))
            .collect();
        let causes: Vec<_> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {manager:?}"),
                    "field": field,
                })
            })
            .collect();
        let plural = if conflicts.len() == 1 { "" } else { "s" };
        let message = format!(
            "Apply failed with {} conflict{plural}: {}",
            conflicts.len(),
            listed.join("; ")
        );
        Self {
            details: Some(json!({ "causes": causes })),
            ..Self::plain(StatusCode::CONFLICT, "Conflict", message)
        }
    }

    /// 422: `about.resource` is the kind here, as in Kubernetes.
    pub(crate) fn invalid(about: &Subject<'_>, causes: &[Cause]) -> Self {
        let bodies: Vec<_> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let listed = match bodies.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let message = format!(
            "{} {:?} is invalid: {listed}",
            about.qualified(),
            about.name
        );
        let mut failure = Self::about(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message, about);
        let causes = causes
            .iter()
            .map(|cause| {
                json!({"reason": cause.reason, "message": cause.message, "field": cause.field})
            })
            .collect();
        if let Some(Value::Object(details)) = &mut failure.details {
            details.insert("causes".to_owned(), Value::Array(causes));
        }
        failure
    }

    /// 422 for a parameter of a request, about options of this kind.
    pub(crate) fn invalid_options(kind: &str, cause: Cause) -> Self {
        let about = Subject {
            group: "meta.k8s.io",
            resource: kind,
            name: "",
        };
        Self::invalid(&about, &[cause])
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self {
            details: Some(json!({})),
            ..Self::plain(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
        }
    }

    pub(crate) fn not_acceptable(offered: &str) -> Self {
        let message = format!("only the following media types are accepted: {offered}");
        Self::plain(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        );
        let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::plain(code, "UnsupportedMediaType", message)
    }

    /// 415 for a part of protobuf that is not known here, though JSON would be taken.
    pub(crate) fn unsupported_protobuf(what: &str) -> Self {
        let message = format!("{what} is not taken as protobuf here: send application/json");
        let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::plain(code, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        let code = StatusCode::PAYLOAD_TOO_LARGE;
        Self::plain(code, "RequestEntityTooLarge", message)
    }

    /// 410: the resourceVersion is not in the history any more; list again.
    pub(crate) fn expired(version: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {version} ({oldest})");
        Self::plain(StatusCode::GONE, "Expired", message)
    }

    /// 410: a list as it was then, which nobody kept.
    pub(crate) fn list_expired() -> Self {
        let message = "The resourceVersion for the provided list is too old.";
        Self::plain(StatusCode::GONE, "Expired", message)
    }

    /// 504: a version that does not exist yet, which a list cannot wait for.
    pub(crate) fn version_too_large(version: u64, newest: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {version}, current: {newest}");
        let details = json!({
            "causes": [{
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version",
            }],
            "retryAfterSeconds": 1,
        });
        Self {
            details: Some(details),
            ..Self::plain(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
        }
    }

    /// 408: the client did not send its body in time.
    pub(crate) fn request_timeout() -> Self {
        let message = "Timeout: the request's body did not arrive in time";
        Self::plain(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    /// 501: part of Kubernetes, and no part of an embedded cluster.
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    pub(crate) fn internal(message: &str) -> Self {
        let message = format!("Internal error occurred: {message}");
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        Self::plain(code, "InternalError", message)
    }

    pub(crate) fn code(&self) -> StatusCode {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn reason(&self) -> &'static str {
        self.reason
    }

    /// Adds one cause to the details.
    pub(crate) fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let details = self.details.get_or_insert_with(|| json!({}));
        details["causes"] = json!([{"reason": reason, "message": message, "field": field}]);
        self
    }

    /// The `Status` object.
    pub(crate) fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    fn plain(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(code: StatusCode, reason: &'static str, message: String, about: &Subject<'_>) -> Self {
        let mut details = serde_json::Map::new();
        for (key, text) in [
            ("name", about.name),
            ("group", about.group),
            ("kind", about.resource),
        ] {
            if !text.is_empty() {
                details.insert(key.to_owned(), text.into());
            }
        }
        Self {
            details: Some(Value::Object(details)),
            ..Self::plain(code, reason, message)
        }
    }
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) group: &'a str,
    /// The plural, or the kind in [`Failure::invalid`].
    pub(crate) resource: &'a str,
    pub(crate) name: &'a str,
}

impl Subject<'_> {
    /// `deployments.apps`, as `GroupResource.String()` has it.
    fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// One thing that is wrong with an object, as apimachinery's `field.Error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Cause {
    pub(crate) fn required(field: &str, why: &str) -> Self {
        let colon = if why.is_empty() { "" } else { ": " };
        let message = format!("Required value{colon}{why}");
        Self::new("FieldValueRequired", field, message)
    }

    pub(crate) fn duplicate(field: &str, value: &Value) -> Self {
        let message = format!("Duplicate value: {value}");
        Self::new("FieldValueDuplicate", field, message)
    }

    pub(crate) fn invalid(field: &str, value: &Value, why: &str) -> Self {
        let message = format!("Invalid value: {value}: {why}");
        Self::new("FieldValueInvalid", field, message)
    }

    pub(crate) fn unsupported(field: &str, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<_> = supported.iter().map(|it| format!("{it:?}")).collect();
        let message = format!(
            "Unsupported value: {value:?}: supported values: {}",
            supported.join(", ")
        );
        Self::new("FieldValueNotSupported", field, message)
    }

    pub(crate) fn forbidden(field: &str, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    fn new(reason: &'static str, field: &str, message: String) -> Self {
        Self {
            reason,
            field: field.to_owned(),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_worded_as_by_kubernetes() {
        let pod = Subject {
            resource: "pods",
            name: "web",
            ..Subject::default()
        };
        let deployment = Subject {
            group: "apps",
            resource: "deployments",
            name: "web",
        };
        for (failure, message) in [
            (Failure::not_found(&pod), r#"pods "web" not found"#),
            (
                Failure::already_exists(&deployment),
                r#"deployments.apps "web" already exists"#,
            ),
            (
                Failure::conflict(&pod, "the object has been modified"),
                r#"Operation cannot be fulfilled on pods "web": the object has been modified"#,
            ),
            (
                Failure::forbidden(&Subject::default(), "no"),
                "forbidden: no",
            ),
            (
                Failure::invalid(
                    &Subject {
                        resource: "Pod",
                        name: "web",
                        ..Subject::default()
                    },
                    &[
                        Cause::required("metadata.name", "name or generateName is required"),
                        Cause::invalid("spec.x", &json!("y"), "must be z"),
                    ],
                ),
                "Pod \"web\" is invalid: [metadata.name: Required value: name or generateName is \
                 required, spec.x: Invalid value: \"y\": must be z]",
            ),
        ] {
            assert_eq!(failure.message(), message);
        }
    }

    #[test]
    fn details_name_what_is_known() {
        let about = Subject {
            resource: "pods",
            name: "web",
            ..Subject::default()
        };
        assert_eq!(
            Failure::not_found(&about).to_status(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "pods \"web\" not found", "reason": "NotFound", "code": 404,
                "details": {"name": "web", "kind": "pods"},
            })
        );
        assert_eq!(Failure::unauthorized().to_status().get("details"), None);
    }
}
