//! Paths that are no objects: health, version, discovery, and the keys of tokens.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Admitted;
use crate::answer::{self, Body};
use crate::discovery::{self, openapi};
use crate::failure::Failure;
use crate::negotiation;

pub(super) fn answer(request: &Admitted<'_>) -> Result<Response<Body>, Failure> {
    let path = match request.info.path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let found = match path {
        "/healthz" | "/livez" | "/readyz" => health(request, path),
        "/openid/v1/jwks" => {
            negotiation::takes(&request.head.headers, JWK_SET)?;
            let keys = request.cluster.authenticator.signer.key_set();
            answer::whole(keys.to_string().into(), JWK_SET)
        }
        _ => {
            let document = document(request, path).ok_or_else(Failure::unknown_path)?;
            answer::json(StatusCode::OK, &document, request.style)
        }
    };
    if matches!(request.head.method, Method::GET | Method::HEAD) {
        Ok(found)
    } else {
        Err(Failure::method_not_allowed())
    }
}

fn health(request: &Admitted<'_>, path: &str) -> Response<Body> {
    if path == "/readyz" && request.cluster.drain.is_started() {
        let mut response = answer::text("[-]shutdown failed: reason withheld\n");
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    } else {
        answer::text("ok")
    }
}

fn document(request: &Admitted<'_>, path: &str) -> Option<Value> {
    let cluster = request.cluster;
    let resources: Vec<_> = cluster
        .store
        .read(|view| cluster.registry.all(view).collect());
    let parts: Vec<_> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        [""] => Some(json!({"paths": ROOT_PATHS})),
        ["version"] => Some(discovery::version()),
        ["api"] => Some(discovery::core_versions()),
        ["api", version] => discovery::group_resources(&resources, "", version),
        ["apis"] => Some(discovery::groups(&resources)),
        ["apis", group] => discovery::group(&resources, group),
        ["apis", group, version] => discovery::group_resources(&resources, group, version),
        ["openapi", "v3"] => Some(openapi::index(&resources)),
        ["openapi", "v3", place @ ..] => openapi::document(&resources, &place.join("/")),
        [".well-known", "openid-configuration"] => Some(issuer(request)),
        _ => None,
    }
}

/// The discovery document of the issuer of tokens (OpenID Connect Discovery 1.0).
fn issuer(request: &Admitted<'_>) -> Value {
    json!({
        "issuer": request.cluster.authenticator.signer.issuer(),
        "jwks_uri": request.cluster.key_set_url,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

const JWK_SET: &str = "application/jwk-set+json";

const ROOT_PATHS: [&str; 10] = [
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
];
