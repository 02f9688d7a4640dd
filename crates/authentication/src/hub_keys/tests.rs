use http::StatusCode;
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::*;
use crate::fake::{FakeApi, Reply, Signer, jwks, token};
use crate::fresh_keys::{FAILURE_PAUSE, FRESH, LONGEST_PAUSE, REFRESH_INTERVAL};

/// What a signature is, without the error.
fn word(signature: &Signature) -> &'static str {
    match signature {
        Signature::Hub => "hub",
        Signature::NotHub => "not hub",
        Signature::Unknown(_) => "unknown",
    }
}

async fn ask(keys: &HubKeys, token: &Token) -> &'static str {
    word(&keys.signed_by_hub(token).await)
}

/// A server that publishes these keys as they are.
fn publishing(keys: &serde_json::Value) -> FakeApi {
    FakeApi::always(Reply::raw(
        StatusCode::OK,
        json!({ "keys": keys }).to_string(),
    ))
}

#[tokio::test]
async fn every_kind_of_service_account_key_is_recognised() {
    for signer in [
        Signer::rsa("rsa"),
        Signer::rsa("rsa384").with_algorithm(Algorithm::RS384),
        Signer::rsa("pss").with_algorithm(Algorithm::PS256),
        Signer::ec("p256"),
        Signer::ec384("p384"),
        Signer::rsa("").named(None),
        Signer::ec("").named(None),
    ] {
        let api = FakeApi::always(jwks(&[&signer]));
        let keys = HubKeys::new(api.client());
        assert_eq!(ask(&keys, &signer.token()).await, "hub");
        assert_eq!(api.last().0, "/openid/v1/jwks");
    }
}

#[tokio::test]
async fn claims_do_not_matter() {
    let (hub, other) = (Signer::rsa("hub"), Signer::rsa("other"));
    let keys = HubKeys::new(FakeApi::always(jwks(&[&hub])).client());
    for claims in [
        json!({}),
        json!({"exp": 1, "nbf": 99_999_999_999_u64}),
        json!({"iss": "https://elsewhere", "aud": "vault"}),
        json!({"iss": "kubernetes/serviceaccount"}),
        json!([1, 2, 3]),
    ] {
        assert_eq!(ask(&keys, &hub.sign(&claims)).await, "hub", "{claims}");
        // The same claims, and so the same issuer, under another cluster's key.
        assert_eq!(
            ask(&keys, &other.sign(&claims)).await,
            "not hub",
            "{claims}"
        );
    }
}

#[tokio::test]
async fn name_of_a_key_does_not_decide() {
    let hub = Signer::rsa("hub");
    let api = FakeApi::always(jwks(&[&hub]));
    let keys = HubKeys::new(api.client());
    // Another cluster's key under the name of the hub's.
    assert_eq!(ask(&keys, &Signer::rsa("hub").token()).await, "not hub");
    assert_eq!(ask(&keys, &Signer::ec("hub").token()).await, "not hub");
    // The hub's key under a name that it does not publish.
    assert_eq!(ask(&keys, &hub.named(Some("other")).token()).await, "hub");
}

#[tokio::test]
async fn what_is_no_signed_token_is_not_the_hubs() {
    let api = FakeApi::always(jwks(&[&Signer::rsa("hub")]));
    let keys = HubKeys::new(api.client());
    for text in ["opaque", "sha256~abc", "a.b", "a.b.c", "e30.e30.AA"] {
        assert_eq!(ask(&keys, &token(text)).await, "not hub", "{text}");
    }
    assert_eq!(api.count(), 0, "no key is needed to know that");
}

#[tokio::test]
async fn tampered_tokens_are_not_signed() {
    let hub = Signer::rsa("hub");
    let keys = HubKeys::new(FakeApi::always(jwks(&[&hub])).client());
    let good = hub.token();
    let (signed, signature) = good.expose().rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    // {"alg":"none"} and {"alg":"HS256"}, with a signature that is none of the key's.
    for text in [
        format!("{header}.e30.{signature}"),
        format!("eyJhbGciOiJub25lIn0.e30.{signature}"),
        "eyJhbGciOiJub25lIn0.e30.".to_owned(),
        format!("eyJhbGciOiJIUzI1NiJ9.e30.{signature}"),
        format!("{signed}.AAAA"),
    ] {
        assert_eq!(ask(&keys, &token(&text)).await, "not hub", "{text}");
    }
    // Go ignores padding, so the hub would take this one.
    assert_eq!(
        ask(&keys, &token(&format!("{}==", good.expose()))).await,
        "hub"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_never_loaded_mean_unknown() {
    let hub = Signer::rsa("hub");
    for reply in [
        Reply::status(StatusCode::FORBIDDEN, "no rights"),
        Reply::status(StatusCode::SERVICE_UNAVAILABLE, "busy"),
        Reply::raw(StatusCode::OK, "{\"keys\":[]}"),
        Reply::raw(StatusCode::OK, "{}"),
        Reply::raw(StatusCode::OK, "<html>"),
        jwks(&[&hub]).after(Duration::from_secs(3600)),
    ] {
        let keys = HubKeys::new(FakeApi::always(reply).client());
        assert_eq!(ask(&keys, &hub.token()).await, "unknown");
        assert_eq!(ask(&keys, &Signer::ec("other").token()).await, "unknown");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_by_its_first_token() {
    let (old, new) = (Signer::rsa("old"), Signer::rsa("new"));
    let api = FakeApi::always(jwks(&[&old]));
    let keys = HubKeys::new(api.client());
    assert_eq!(ask(&keys, &old.token()).await, "hub");

    api.now_always(jwks(&[&new, &old]));
    tokio::time::advance(FRESH).await;
    assert_eq!(ask(&keys, &new.token()).await, "hub");
    assert_eq!(ask(&keys, &old.token()).await, "hub");
    assert_eq!(api.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn tokens_of_others_cause_few_fetches() {
    let (hub, other) = (Signer::rsa("hub"), Signer::ec("other"));
    let api = FakeApi::always(jwks(&[&hub]));
    let keys = HubKeys::new(api.client());
    for _ in 0..20 {
        assert_eq!(ask(&keys, &other.token()).await, "not hub");
    }
    assert_eq!(api.count(), 1);
    tokio::time::advance(FRESH).await;
    for _ in 0..20 {
        assert_eq!(ask(&keys, &other.token()).await, "not hub");
    }
    assert_eq!(api.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_stay_and_the_unknown_is_not_guessed() {
    let (hub, other) = (Signer::rsa("hub"), Signer::rsa("other"));
    let api = FakeApi::always(jwks(&[&hub]));
    let keys = HubKeys::new(api.client());
    assert_eq!(ask(&keys, &hub.token()).await, "hub");

    api.now_always(Reply::status(StatusCode::INTERNAL_SERVER_ERROR, "boom"));
    tokio::time::advance(FRESH).await;
    assert_eq!(ask(&keys, &hub.token()).await, "hub");
    for _ in 0..10 {
        assert_eq!(
            ask(&keys, &other.token()).await,
            "unknown",
            "it may be a new key of the hub"
        );
    }
    assert_eq!(api.count(), 2, "a failed fetch is not repeated at once");
    // A name proves nothing: the hub may have another key under it by now.
    let namesake = other.named(Some("hub"));
    assert_eq!(ask(&keys, &namesake.token()).await, "unknown");

    api.now_always(jwks(&[&hub]));
    tokio::time::advance(FAILURE_PAUSE).await;
    assert_eq!(ask(&keys, &namesake.token()).await, "not hub");
}

#[tokio::test(start_paused = true)]
async fn a_retired_key_is_the_hubs_for_another_hour() {
    let (old, new) = (Signer::rsa("old"), Signer::rsa("new"));
    let api = FakeApi::always(jwks(&[&old]));
    let keys = HubKeys::new(api.client());
    assert_eq!(ask(&keys, &old.token()).await, "hub");
    api.now_always(jwks(&[&new]));
    tokio::time::advance(FRESH).await;
    assert_eq!(ask(&keys, &new.token()).await, "hub");
    assert_eq!(ask(&keys, &old.token()).await, "hub");

    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(ask(&keys, &Signer::ec("other").token()).await, "not hub");
    assert_eq!(ask(&keys, &old.token()).await, "not hub");
    assert_eq!(ask(&keys, &new.token()).await, "hub");
}

#[tokio::test]
async fn a_key_that_cannot_be_verified_with_makes_the_answer_unknown() {
    let (hub, other) = (Signer::rsa("hub"), Signer::ec("other"));
    let p521 = json!({"kty": "EC", "crv": "P-521", "kid": "p521", "x": "AA", "y": "AA"});
    let newer = json!({"kty": "ML-DSA", "kid": "pq", "pub": "AA"});
    let small = json!({"kty": "RSA", "kid": "small", "n": "AQAB", "e": "AQAB"});
    for (unusable, kid) in [(p521, "p521"), (newer, "pq"), (small, "small")] {
        let keys = HubKeys::new(publishing(&json!([unusable, hub.published()])).client());
        assert_eq!(ask(&keys, &hub.token()).await, "hub");
        assert_eq!(
            ask(&keys, &other.token()).await,
            "not hub",
            "it names another key"
        );
        let maybe = Signer::ec("").named(Some(kid)).token();
        assert_eq!(ask(&keys, &maybe).await, "unknown");
        let nameless = Signer::ec("").named(None).token();
        assert_eq!(ask(&keys, &nameless).await, "unknown");
    }
    let nameless = json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"});
    let keys = HubKeys::new(publishing(&json!([nameless, hub.published()])).client());
    assert_eq!(ask(&keys, &other.token()).await, "unknown");
}

#[tokio::test(start_paused = true)]
async fn one_fetch_serves_all_who_wait() {
    let hub = Signer::rsa("hub");
    let api = FakeApi::always(jwks(&[&hub]).after(Duration::from_secs(1)));
    let keys = HubKeys::new(api.client());
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (keys, token) = (keys.clone(), hub.token());
            tokio::spawn(async move { word(&keys.signed_by_hub(&token).await) })
        })
        .collect();
    tasks[0].abort();
    for task in tasks.into_iter().skip(1) {
        assert_eq!(task.await.unwrap(), "hub");
    }
    assert!(api.count() <= 2, "the cancelled one's, and the next");
}

#[tokio::test(start_paused = true)]
async fn background_fetches_until_it_has_keys_and_then_now_and_then() {
    let hub = Signer::rsa("hub");
    let api = FakeApi::always(Reply::status(StatusCode::SERVICE_UNAVAILABLE, "starting"));
    let drain = Drain::new();
    let keys = HubKeys::start(api.client(), &drain);
    sleep(Duration::from_secs(10)).await;
    let failed = api.count();
    assert!((2..=5).contains(&failed), "{failed} fetches in 10 s");

    api.now_always(jwks(&[&hub]));
    timeout(LONGEST_PAUSE, keys.loaded())
        .await
        .expect("loaded in time");
    let loaded = api.count();
    sleep(REFRESH_INTERVAL + Duration::from_secs(1)).await;
    assert_eq!(api.count(), loaded + 1);
    assert_eq!(ask(&keys, &hub.token()).await, "hub");
    drain.end();
    while drain.tasks() > 0 {
        tokio::task::yield_now().await;
    }
}
