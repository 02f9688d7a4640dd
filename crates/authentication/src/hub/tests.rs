use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::cache::DEFAULT_CACHE_TTL;
use crate::fake::{FakeApi, Reply, Signer, jwks, secret};
use crate::review::TokenReviewer;

/// A hub that answers reviews and key requests so.
fn hub(review: Reply, keys: Reply) -> (FakeApi, HubAuthenticator) {
    let api = FakeApi::new(move |path, _| {
        if path.starts_with("/openid/") {
            keys.clone()
        } else {
            review.clone()
        }
    });
    let reviewer = CachedReviewer::new(TokenReviewer::new(api.client()), DEFAULT_CACHE_TTL);
    let keys = HubKeys::new(api.client());
    (api, HubAuthenticator::new(reviewer, keys))
}

fn refused(error: &str) -> Reply {
    Reply::review(&json!({"user": {}, "error": error}))
}

#[tokio::test]
async fn accepted_token_is_a_users_and_the_keys_are_not_asked() {
    let (api, hub) = hub(
        Reply::yes("ci"),
        Reply::status(StatusCode::NOT_FOUND, "no keys"),
    );
    for _ in 0..2 {
        let HubAnswer::User(user) = hub.authenticate(&secret()).await else {
            panic!("not a user");
        };
        assert_eq!(user.name, "ci");
    }
    assert_eq!(api.count(), 1);
}

#[tokio::test]
async fn hard_case_43_refused_token_of_the_hub_stays_there() {
    let signer = Signer::rsa("hub");
    for error in [
        "invalid bearer token",
        "[invalid bearer token, service account token has expired]",
        "token audiences [\"vault\"] is invalid for the target audiences [\"https://hub\"]",
        "serviceaccounts \"ci\" not found",
    ] {
        let (_, hub) = hub(refused(error), jwks(&[&signer]));
        let answer = hub.authenticate(&signer.token()).await;
        assert!(
            matches!(answer, HubAnswer::HubTokenRefused),
            "{error}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn hard_case_43_token_of_a_cluster_with_the_same_issuer_may_travel() {
    let (ours, theirs) = (Signer::rsa("hub"), Signer::rsa("managed"));
    for error in ["invalid signature, no keys found", "invalid bearer token"] {
        let (_, hub) = hub(refused(error), jwks(&[&ours]));
        assert!(matches!(
            hub.authenticate(&theirs.token()).await,
            HubAnswer::NotOurs
        ));
        assert!(matches!(
            hub.authenticate(&secret()).await,
            HubAnswer::NotOurs
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn no_token_travels_while_the_hub_cannot_say() {
    let signer = Signer::rsa("hub");
    let down = || Reply::status(StatusCode::SERVICE_UNAVAILABLE, "down");
    for (review, keys) in [
        (down(), jwks(&[&signer])),
        (
            Reply::status(StatusCode::UNAUTHORIZED, "Unauthorized"),
            jwks(&[&signer]),
        ),
        (refused("Post \"https://webhook\": EOF"), jwks(&[&signer])),
        (Reply::no().after(Duration::from_secs(60)), jwks(&[&signer])),
        (Reply::no(), down()),
        (Reply::no(), jwks(&[&signer]).after(Duration::from_secs(60))),
    ] {
        let (_, hub) = hub(review, keys);
        let answer = hub.authenticate(&Signer::ec("other").token()).await;
        assert!(matches!(answer, HubAnswer::Failed(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn answers_print_no_token() {
    let signer = Signer::rsa("hub");
    let token = signer.token();
    let (_, hub) = hub(Reply::no(), jwks(&[&signer]));
    let text = format!("{:?} {hub:?}", hub.authenticate(&token).await);
    assert!(!text.contains(token.expose()), "{text}");
}
