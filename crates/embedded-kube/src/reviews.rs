//! Questions that are asked by creating an object: who is this token of, may this user do that,
//! what may I do, who am I. The answer is the object with a status; nothing is kept.

use cluster_proxy_identity::User;
use serde_json::{Value, json};

use crate::authentication::Authenticator;
use crate::failure::{Cause, Failure};
use crate::object;
use crate::rbac::{self, Attributes, Target};
use crate::resources::Resource;
use crate::store::Transaction;

/// The kinds of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Review {
    Token,
    SelfSubject,
    SubjectAccess,
    LocalSubjectAccess,
    SelfSubjectAccess,
    SelfSubjectRules,
}

/// Answers `question`, asked by `asker` at `namespace` (empty for kinds without one).
///
/// # Errors
/// 400 or 422 for a question that is not complete.
pub(crate) fn answer(
    store: &Transaction<'_>,
    authenticator: &Authenticator,
    resource: &Resource,
    review: Review,
    asker: &User,
    namespace: &str,
    mut question: Value,
) -> Result<Value, Failure> {
    let status = match review {
        Review::Token => token(store, authenticator, &question)?,
        Review::SelfSubject => json!({"userInfo": user_info(asker)}),
        Review::SelfSubjectRules => rules(store, asker, &question)?,
        Review::SelfSubjectAccess => access(store, resource, asker, &question)?,
        Review::SubjectAccess | Review::LocalSubjectAccess => {
            if review == Review::LocalSubjectAccess {
                check_local(resource, namespace, &question)?;
            }
            let user = named_user(resource, &question)?;
            access(store, resource, &user, &question)?
        }
    };
    question["status"] = status;
    Ok(question)
}

/// `UserInfo` of authentication.k8s.io/v1.
fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if let Some(uid) = &user.uid {
        info["uid"] = uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn token(
    store: &Transaction<'_>,
    authenticator: &Authenticator,
    question: &Value,
) -> Result<Value, Failure> {
    let token = object::text(question, "/spec/token");
    if token.is_empty() {
        return Err(Failure::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let mut audiences: Vec<_> = object::texts(question, "/spec/audiences")
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(authenticator.signer.issuer().to_owned());
    }
    Ok(match authenticator.token(store, token, &audiences) {
        Ok(found) => json!({
            "authenticated": true,
            "user": user_info(&found.user),
            "audiences": found.audiences,
        }),
        // Kubernetes leaves `authenticated` out where it is false.
        Err(refused) => json!({"user": {}, "error": refused.to_string()}),
    })
}

fn rules(store: &Transaction<'_>, asker: &User, question: &Value) -> Result<Value, Failure> {
    let namespace = object::text(question, "/spec/namespace");
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let (resources, paths, missing) = rbac::rules_for(store, asker, namespace);
    let mut status = json!({
        "resourceRules": resources,
        "nonResourceRules": paths,
        "incomplete": false,
    });
    if !missing.is_empty() {
        status["evaluationError"] = missing.into();
    }
    Ok(status)
}

fn access(
    store: &Transaction<'_>,
    resource: &Resource,
    user: &User,
    question: &Value,
) -> Result<Value, Failure> {
    let spec = question.get("spec").unwrap_or(&Value::Null);
    let text = |pointer| object::text(spec, pointer);
    let of_resource = spec.get("resourceAttributes").filter(|it| !it.is_null());
    let of_path = spec.get("nonResourceAttributes").filter(|it| !it.is_null());
    let attributes = match (of_resource, of_path) {
        (Some(_), None) => Attributes {
            user,
            verb: text("/resourceAttributes/verb"),
            target: Target::Resource {
                group: text("/resourceAttributes/group"),
                resource: text("/resourceAttributes/resource"),
                subresource: text("/resourceAttributes/subresource"),
                namespace: text("/resourceAttributes/namespace"),
                name: text("/resourceAttributes/name"),
            },
        },
        (None, Some(_)) => Attributes {
            user,
            verb: text("/nonResourceAttributes/verb"),
            target: Target::Path(text("/nonResourceAttributes/path")),
        },
        (Some(_), Some(other)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            let cause = Cause::invalid("spec.nonResourceAttributes", other, why);
            return Err(Failure::invalid(&resource.kind_subject(""), &[cause]));
        }
        (None, None) => {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let cause = Cause::invalid("spec.resourceAttributes", &Value::Null, why);
            return Err(Failure::invalid(&resource.kind_subject(""), &[cause]));
        }
    };
    let decision = rbac::authorize(store, &attributes);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    Ok(status)
}

/// The user that a SubjectAccessReview names.
fn named_user(resource: &Resource, question: &Value) -> Result<User, Failure> {
    let texts = |pointer| -> Vec<_> {
        object::texts(question, pointer)
            .map(str::to_owned)
            .collect()
    };
    let user = User {
        name: object::text(question, "/spec/user").to_owned(),
        groups: texts("/spec/groups"),
        ..User::default()
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        let cause = Cause::invalid("spec.user", &Value::from(""), why);
        return Err(Failure::invalid(&resource.kind_subject(""), &[cause]));
    }
    Ok(user)
}

fn check_local(resource: &Resource, namespace: &str, question: &Value) -> Result<(), Failure> {
    let asked = object::text(question, "/spec/resourceAttributes/namespace");
    let cause = if question.pointer("/spec/nonResourceAttributes").is_some() {
        Cause::forbidden(
            "spec.nonResourceAttributes",
            "disallowed on this kind of request",
        )
    } else if asked != namespace {
        Cause::invalid(
            "spec.resourceAttributes.namespace",
            &asked.into(),
            "must match metadata.namespace",
        )
    } else {
        return Ok(());
    };
    Err(Failure::invalid(&resource.kind_subject(""), &[cause]))
}
