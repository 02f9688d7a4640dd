//! Service account tokens and their reviews.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};

use crate::client::{Space, Target};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A token of the account `robot`, which is made for it.
async fn robot(space: &Space) -> Value {
    let account = json!({"metadata": {"name": "robot"}});
    let made = space
        .admin
        .post(&space.core("serviceaccounts"), &account)
        .await;
    made.expect(201)
}

async fn token(space: &Space, spec: Value) -> (String, Value) {
    let path = space.core("serviceaccounts/robot/token");
    let request = json!({"spec": spec});
    let issued = space.admin.post(&path, &request).await.expect(201);
    let token = issued["status"]["token"].as_str();
    (token.expect("a token").to_owned(), issued)
}

async fn review(space: &Space, token: &str, audiences: Value) -> Value {
    let question = json!({"spec": {"token": token, "audiences": audiences}});
    let answered = space.admin.post(REVIEWS, &question).await.expect(201);
    answered["status"].clone()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT has three parts");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

pub(crate) async fn a_token_is_its_account(target: &Target) {
    let space = Space::new(target).await;
    let account = robot(&space).await;
    let (token, issued) = token(&space, json!({"expirationSeconds": 1200})).await;
    assert_eq!(issued["kind"], "TokenRequest");
    assert_eq!(issued["spec"]["expirationSeconds"], 1200);
    assert!(issued["status"]["expirationTimestamp"].is_string());

    let name = format!("system:serviceaccount:{}:robot", space.name);
    let claims = claims(&token);
    assert_eq!(claims["sub"], name.as_str());
    assert_eq!(claims["kubernetes.io"]["namespace"], space.name.as_str());
    assert_eq!(
        claims["kubernetes.io"]["serviceaccount"],
        json!({"name": "robot", "uid": account["metadata"]["uid"]})
    );
    let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64());
    assert_eq!(lifetime.map(|(exp, iat)| exp - iat), Some(1200));

    let status = review(&space, &token, json!([])).await;
    assert_eq!(status["authenticated"], true);
    let user = &status["user"];
    assert_eq!(user["username"], name.as_str());
    assert_eq!(user["uid"], account["metadata"]["uid"]);
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            format!("system:serviceaccounts:{}", space.name),
            "system:authenticated",
        ])
    );
    let credential = &user["extra"]["authentication.kubernetes.io/credential-id"];
    let id = claims["jti"].as_str().unwrap_or_default();
    assert_eq!(credential, &json!([format!("JTI={id}")]));

    let client = target.with_token(&token);
    client.get("/api").await.expect(200);
    let path = space.core("serviceaccounts/robot");
    space.admin.delete(&path).await.expect(200);
    // A real apiserver may remember for some seconds that the token was good.
    crate::client::eventually("the token ends with its account", async || {
        (client.get("/api").await.code == 401).then_some(())
    })
    .await;
    let status = review(&space, &token, json!([])).await;
    assert_ne!(status["authenticated"], true);
    assert!(status["error"].is_string(), "{status}");
    let path = space.core("serviceaccounts/robot/token");
    let gone = space.admin.post(&path, &json!({})).await;
    assert_eq!(
        gone.refused(404, "NotFound"),
        "serviceaccounts \"robot\" not found"
    );
    space.end().await;
}

pub(crate) async fn tokens_are_for_their_audience(target: &Target) {
    let space = Space::new(target).await;
    robot(&space).await;
    let (token, issued) = token(&space, json!({"audiences": ["vault", "other"]})).await;
    assert_eq!(issued["spec"]["audiences"], json!(["vault", "other"]));
    assert_eq!(issued["spec"]["expirationSeconds"], 3600);
    let status = review(&space, &token, json!(["vault", "third"])).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!(["vault"]));
    for audiences in [json!([]), json!(["third"])] {
        let status = review(&space, &token, audiences).await;
        assert_ne!(status["authenticated"], true);
    }
    let client = target.with_token(&token);
    client.get("/version").await.refused(401, "Unauthorized");

    let status = review(&space, "no.token.atall", json!([])).await;
    assert_ne!(status["authenticated"], true);
    let question = json!({"spec": {}});
    let empty = space.admin.post(REVIEWS, &question).await;
    empty.refused(400, "BadRequest");
    let path = space.core("serviceaccounts/robot/token");
    let short = json!({"spec": {"expirationSeconds": 60}});
    let refused = space.admin.post(&path, &short).await;
    assert!(
        refused
            .refused(422, "Invalid")
            .contains("may not specify a duration less than 10 minutes")
    );
    space.end().await;
}

pub(crate) async fn a_token_verifies_with_the_key_set(target: &Target) {
    let space = Space::new(target).await;
    robot(&space).await;
    let (token, _) = token(&space, json!({})).await;
    let client = target.with_token(&token);
    let discovery = client
        .get("/.well-known/openid-configuration")
        .await
        .expect(200);
    assert!(discovery["jwks_uri"].is_string());
    let keys = client
        .with("Accept", "application/jwk-set+json")
        .get("/openid/v1/jwks")
        .await
        .expect(200);
    let keys: JwkSet = serde_json::from_value(keys).expect("a key set");
    let plain = client.get("/openid/v1/jwks").await;
    assert_eq!(plain.code, 406, "it is no application/json");
    let header = decode_header(&token).expect("a JWT");
    let key = keys
        .find(header.kid.as_deref().expect("it names its key"))
        .expect("the key is in the set");
    let key = DecodingKey::from_jwk(key).expect("a usable key");
    let mut validation = Validation::new(header.alg);
    assert!(matches!(header.alg, Algorithm::ES256 | Algorithm::RS256));
    validation.set_issuer(&[discovery["issuer"].as_str().unwrap_or_default()]);
    validation.validate_aud = false;
    decode::<Value>(&token, &key, &validation).expect("it verifies");
    target
        .admin()
        .with("Impersonate-User", "jane")
        .get("/openid/v1/jwks")
        .await
        .refused(403, "Forbidden");
    space.end().await;
}
