//! `serviceaccounts/<name>/token`: TokenRequest
//! (pkg/registry/core/serviceaccount/storage/token.go).

use std::sync::Arc;

use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Admitted;
use super::body::RequestBody;
use crate::answer::{self, Body};
use crate::authentication::tokens::Grant;
use crate::clock;
use crate::failure::{Cause, Failure, Subject};
use crate::object;
use crate::request::ResourcePath;
use crate::resources::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS};
use crate::store::Transaction;

pub(super) async fn create(
    request: &Admitted<'_>,
    path: &ResourcePath,
    body: &mut RequestBody,
) -> Result<Response<Body>, Failure> {
    request.query.dry_run("CreateOptions")?;
    let wanted = body.object(&request.head.headers).await?;
    let cluster = request.cluster;
    let answered = cluster.store.read(|view| {
        issue(
            view,
            &cluster.authenticator.signer,
            &path.namespace,
            &path.name,
            wanted,
        )
    })?;
    Ok(answer::json(StatusCode::CREATED, &answered, request.style))
}

/// The TokenRequest with a token in its status.
///
/// # Errors
/// 404 for an account or an object to bind to that is not there, 409 for another uid, 422 for a
/// lifetime out of bounds.
pub(crate) fn issue(
    store: &Transaction<'_>,
    signer: &crate::authentication::tokens::TokenSigner,
    namespace: &str,
    name: &str,
    mut wanted: Value,
) -> Result<Value, Failure> {
    let account = store
        .get(SERVICE_ACCOUNTS, namespace, name)
        .ok_or_else(|| not_found(SERVICE_ACCOUNTS, name))?;
    check_metadata(&account, &wanted)?;
    let issued = Timestamp::now();
    let seconds = match object::number(&wanted, "/spec/expirationSeconds") {
        None => DEFAULT_LIFETIME,
        Some(seconds) => check_lifetime(seconds)?,
    };
    let mut audiences: Vec<_> = object::texts(&wanted, "/spec/audiences")
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(signer.issuer().to_owned());
    }
    let bound = bound(store, &account, &wanted)?;
    let lifetime = SignedDuration::from_secs(seconds);
    let token = signer
        .sign(&Grant {
            account: &account,
            audiences: &audiences,
            issued,
            lifetime,
            bound: bound.iter().map(|(kind, it)| (*kind, &**it)).collect(),
        })
        .map_err(|error| Failure::internal(&error.to_string()))?;
    let expires = issued.checked_add(lifetime).unwrap_or(Timestamp::MAX);

    wanted["kind"] = "TokenRequest".into();
    wanted["apiVersion"] = "authentication.k8s.io/v1".into();
    wanted["metadata"] = json!({
        "name": name,
        "namespace": namespace,
        "uid": object::uid(&account),
        "creationTimestamp": clock::seconds(issued),
    });
    let spec = object::map_mut(&mut wanted, "spec");
    spec.insert("audiences".to_owned(), json!(audiences));
    spec.insert("expirationSeconds".to_owned(), seconds.into());
    wanted["status"] = json!({"token": token, "expirationTimestamp": clock::seconds(expires)});
    Ok(wanted)
}

/// Name, namespace and uid may be stated, and then have to be right.
fn check_metadata(account: &Value, wanted: &Value) -> Result<(), Failure> {
    let about = Subject {
        group: "authentication.k8s.io",
        resource: "TokenRequest",
        name: object::name(account),
    };
    for (field, stated, found) in [
        ("name", object::name(wanted), object::name(account)),
        (
            "namespace",
            object::namespace(wanted),
            object::namespace(account),
        ),
    ] {
        if !stated.is_empty() && stated != found {
            let why = format!("must match the service account {field} if specified");
            let cause = Cause::invalid(&format!("metadata.{field}"), &stated.into(), &why);
            return Err(Failure::invalid(&about, &[cause]));
        }
    }
    let (stated, found) = (object::uid(wanted), object::uid(account));
    if !stated.is_empty() && stated != found {
        let why = format!(
            "the UID in the token request ({stated}) does not match the UID of the service \
             account ({found})"
        );
        return Err(Failure::conflict(&about, &why));
    }
    Ok(())
}

fn check_lifetime(seconds: i64) -> Result<i64, Failure> {
    let why = if seconds < MIN_LIFETIME {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MAX_LIFETIME {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    let about = Subject {
        group: "authentication.k8s.io",
        resource: "TokenRequest",
        name: "",
    };
    let cause = Cause::invalid("spec.expirationSeconds", &seconds.into(), why);
    Err(Failure::invalid(&about, &[cause]))
}

/// What the token is bound to: the object asked for, and a pod's node.
fn bound(
    store: &Transaction<'_>,
    account: &Value,
    wanted: &Value,
) -> Result<Vec<(&'static str, Arc<Value>)>, Failure> {
    let Some(reference) = wanted
        .pointer("/spec/boundObjectRef")
        .filter(|it| !it.is_null())
    else {
        return Ok(Vec::new());
    };
    let name = object::text(reference, "/name");
    let namespace = object::namespace(account);
    let kind = object::text(reference, "/kind");
    let (claim, shelf, within) = match (object::text(reference, "/apiVersion"), kind) {
        ("v1", "Pod") => ("pod", PODS, namespace),
        ("v1", "Secret") => ("secret", SECRETS, namespace),
        ("v1", "Node") => ("node", NODES, ""),
        (api_version, _) => {
            return Err(Failure::bad_request(format!(
                "cannot bind token to object of type {api_version}, Kind={kind}"
            )));
        }
    };
    let found = store
        .get(shelf, within, name)
        .ok_or_else(|| not_found(shelf, name))?;
    if claim == "pod" && object::text(&found, "/spec/serviceAccountName") != object::name(account) {
        return Err(Failure::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different \
             serviceaccount name.",
            object::name(account)
        )));
    }
    let uid = object::text(reference, "/uid");
    if !uid.is_empty() && uid != object::uid(&found) {
        let about = Subject {
            resource: kind,
            name,
            ..Subject::default()
        };
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The \
             object might have been deleted and then recreated"
        );
        return Err(Failure::conflict(&about, &why));
    }
    let node = object::text(&found, "/spec/nodeName");
    let node = (claim == "pod")
        .then(|| store.get(NODES, "", node))
        .flatten();
    Ok(std::iter::once((claim, found))
        .chain(node.map(|node| ("node", node)))
        .collect())
}

fn not_found(resource: &str, name: &str) -> Failure {
    Failure::not_found(&Subject {
        resource,
        name,
        ..Subject::default()
    })
}

/// Seconds; what TokenRequest defaults to.
const DEFAULT_LIFETIME: i64 = 3600;
const MIN_LIFETIME: i64 = 600;
const MAX_LIFETIME: i64 = 1 << 32;
