//! Who somebody is, what of it travels on, and what never leaves the hub.

use cluster_proxy_identity::PeerIdentity;

use std::time::Duration;

use crate::client::bearer;
use crate::hub::Signer;
use crate::service_proxy::REFUSED_THERE;
use crate::world::{ALICES_TOKEN, MANAGED_TOKEN, Options, World};

const PODS: &str = "/managed/api/v1/pods";

#[tokio::test]
async fn a_hub_user_travels_as_a_statement_and_the_token_stays() {
    let world = World::start().await;
    let answer = world.get_as_alice(PODS).await;
    assert_eq!(answer.code, 200);
    let seen = world.managed.only();
    assert_eq!(seen.peer, PeerIdentity::UserServer);
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/api/v1/pods")
    );
    assert_eq!(seen.all("x-remote-user"), ["alice"]);
    assert_eq!(seen.all("x-remote-uid"), ["u-1"]);
    assert_eq!(seen.all("x-remote-group"), ["devs", "system:authenticated"]);
    let extra: Vec<_> = seen
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-extra-"))
        .collect();
    assert_eq!(extra.len(), 1);
    assert_eq!(seen.all(extra[0].as_str()), ["a", "b"]);
    assert_eq!(seen.all("authorization"), [""; 0]);
    assert_eq!(seen.all("cluster-proxy-proto"), ["https"]);
    assert_eq!(seen.all("cluster-proxy-namespace"), ["default"]);
    assert_eq!(seen.all("cluster-proxy-service"), ["kubernetes"]);
    assert_eq!(seen.all("cluster-proxy-port"), ["443"]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert!(!format!("{seen:?}").contains(ALICES_TOKEN));
}

#[tokio::test]
async fn every_request_has_an_id_of_ours() {
    let world = World::start().await;
    let token = bearer(ALICES_TOKEN);
    let headers = [
        ("authorization", token.as_str()),
        ("audit-id", "chosen-by-the-client"),
    ];
    let answer = world.get(PODS, &headers).await;
    let id = answer.headers["audit-id"].to_str().unwrap();
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(world.managed.only().all("audit-id"), [id]);
    let other = world.get(PODS, &headers).await;
    assert_ne!(other.headers["audit-id"], id);
}

/// No token, or none that can be read: the same 401 for every cluster, and nobody is asked.
#[tokio::test]
async fn hard_case_2_without_a_token_nothing_happens() {
    let world = World::start().await;
    let cases: [&[&str]; 9] = [
        &[],
        &[""],
        &[" "],
        &["Bearer"],
        &["Bearer "],
        &["bearer    "],
        &["Basic YWxpY2U6c2VjcmV0"],
        &["Bearer two words"],
        &["Bearer the-token-of-alice", "Bearer the-token-of-alice"],
    ];
    for values in cases {
        let headers: Vec<_> = values
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        let mut answers = Vec::new();
        for cluster in ["managed", "offline", "nowhere"] {
            let answer = world
                .get(&format!("/{cluster}/api/v1/pods"), &headers)
                .await;
            assert!(
                !answer.message(401, "Unauthorized").is_empty(),
                "{values:?}"
            );
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            answers.push(answer.tells());
        }
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "{values:?}");
    }
    let long = bearer(&"x".repeat(70_000));
    let answer = world.get(PODS, &[("authorization", &long)]).await;
    answer.message(431, "");
    assert_eq!(world.managed.accepted(), 0);
    assert_eq!(world.tunnel.dialled(), 0);
    assert!(world.hub.reviewed().is_empty());
}

#[tokio::test]
async fn hard_case_2_bearer_in_any_case_is_a_token() {
    let world = World::start().await;
    for scheme in ["bearer", "BEARER", "Bearer"] {
        let token = format!("{scheme}   {ALICES_TOKEN} ");
        assert_eq!(
            world.get(PODS, &[("authorization", &token)]).await.code,
            200
        );
    }
}

#[tokio::test]
async fn a_token_of_nobody_on_the_hub_travels_on_with_its_impersonation() {
    let world = World::start().await;
    let token = bearer(MANAGED_TOKEN);
    let headers = [
        ("authorization", token.as_str()),
        ("impersonate-user", "bob"),
        ("impersonate-group", "one"),
        ("impersonate-group", "two"),
        ("x-remote-user", "system:admin"),
        ("x-remote-group", "system:masters"),
        ("cluster-proxy-service", "kube-dns"),
    ];
    assert_eq!(world.get(PODS, &headers).await.code, 200);
    let seen = world.managed.only();
    assert_eq!(seen.all("authorization"), [token]);
    assert_eq!(seen.all("impersonate-user"), ["bob"]);
    assert_eq!(seen.all("impersonate-group"), ["one", "two"]);
    assert_eq!(seen.all("x-remote-user"), [""; 0]);
    assert_eq!(seen.all("x-remote-group"), [""; 0]);
    assert_eq!(seen.all("cluster-proxy-service"), ["kubernetes"]);
    assert_eq!(world.hub.reviewed(), [MANAGED_TOKEN]);
}

/// Expired, for another audience, of a deleted account: what the hub has signed stays there, even
/// where the managed cluster's tokens bear the same issuer's name.
#[tokio::test]
async fn hard_case_43_a_token_that_the_hub_signed_and_refuses_never_leaves() {
    let world = World::start().await;
    let token = world.hub.signed_token("system:serviceaccount:default:gone");
    for cluster in ["managed", "nowhere"] {
        let path = format!("/{cluster}/api/v1/pods");
        let answer = world
            .get(&path, &[("authorization", &bearer(&token))])
            .await;
        assert!(answer.message(401, "Unauthorized").contains("hub"));
    }
    assert_eq!(world.managed.accepted(), 0);
    assert_eq!(world.tunnel.dialled(), 0);

    let twin = Signer::new("hub").sign("system:serviceaccount:default:gone");
    assert_eq!(
        world
            .get(PODS, &[("authorization", &bearer(&twin))])
            .await
            .code,
        200
    );
    assert_eq!(world.managed.only().all("authorization"), [bearer(&twin)]);
}

#[tokio::test]
async fn a_hub_that_cannot_say_keeps_the_token() {
    let world = World::with(Options {
        hub_down: Some(500),
        ..Options::default()
    })
    .await;
    for token in [ALICES_TOKEN, MANAGED_TOKEN] {
        let answer = world.get(PODS, &[("authorization", &bearer(token))]).await;
        let message = answer.message(503, "ServiceUnavailable");
        assert!(message.contains("hub"), "{message}");
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert_eq!(world.managed.accepted(), 0);
    assert_eq!(world.tunnel.dialled(), 0);
}

#[tokio::test]
async fn whom_a_hub_user_wants_to_act_as_is_left_to_the_cluster_without_the_token() {
    let world = World::start().await;
    let token = bearer(ALICES_TOKEN);
    let wish = [
        ("authorization", token.as_str()),
        ("Impersonate-User", "bob"),
        ("impersonate-group", "ops"),
    ];
    assert_eq!(world.get(PODS, &wish).await.code, 200);
    let seen = world.managed.only();
    assert_eq!(seen.all("x-remote-user"), ["alice"]);
    assert_eq!(seen.all("impersonate-user"), ["bob"]);
    assert_eq!(seen.all("impersonate-group"), ["ops"]);
    assert!(seen.all("authorization").is_empty());
}

#[tokio::test]
async fn the_hub_says_who_may_use_which_cluster() {
    let world = World::with(Options {
        authorize: true,
        ..Options::default()
    })
    .await;
    let token = bearer(ALICES_TOKEN);
    let message = world.get_as_alice(PODS).await.message(403, "Forbidden");
    for part in ["\"alice\"", "get managedclusters/proxy", "\"managed\""] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(world.tunnel.dialled(), 0, "nothing has left the hub");

    world.hub.lets("alice get managed");
    let allowed = World::with(Options {
        authorize: true,
        cache_ttl: Duration::ZERO,
        ..Options::default()
    })
    .await;
    allowed.hub.lets("alice get managed");
    assert_eq!(allowed.get_as_alice(PODS).await.code, 200);
    let exec = format!(
        "GET /managed/exec HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    let refused = allowed.raw_head(exec.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");

    // Who is not the hub's user is nobody to it.
    let stranger = [("authorization", "Bearer a-token-of-the-managed-cluster")];
    allowed
        .get(PODS, &stranger)
        .await
        .message(401, "Unauthorized");
    allowed.hub.lets("system:anonymous get managed");
    assert_eq!(allowed.get(PODS, &stranger).await.code, 200);

    allowed.hub.denies_the_question();
    allowed
        .get_as_alice(PODS)
        .await
        .message(503, "ServiceUnavailable");
}

/// Whoever has no accepted token cannot tell a cluster that is there from one that is not.
#[tokio::test]
async fn refused_tokens_are_answered_alike_by_every_cluster() {
    let world = World::start().await;
    for managed_review in [false, true] {
        let world = if managed_review {
            &World::with(Options {
                managed_review,
                ..Options::default()
            })
            .await
        } else {
            &world
        };
        let token = bearer(REFUSED_THERE);
        let there = world.get(PODS, &[("authorization", &token)]).await;
        there.message(401, "Unauthorized");
        assert_eq!(world.managed.seen().len(), 1, "this one was asked");
        let nowhere = world
            .get("/nowhere/api/v1/pods", &[("authorization", &token)])
            .await;
        assert_eq!(there.tells(), nowhere.tells());
    }
}

/// Nothing of the user's went there that could have been refused.
#[tokio::test]
async fn a_401_about_a_hub_user_is_not_the_users_fault() {
    let world = World::start().await;
    let answer = world.get_as_alice("/managed/unauthorized").await;
    let message = answer.message(502, "");
    assert!(message.contains("hub's word"), "{message}");
}

#[tokio::test]
async fn with_review_on_the_managed_cluster_every_token_travels() {
    let world = World::with(Options {
        managed_review: true,
        ..Options::default()
    })
    .await;
    let token = bearer(ALICES_TOKEN);
    let headers = [
        ("authorization", token.as_str()),
        ("impersonate-user", "bob"),
    ];
    assert_eq!(world.get(PODS, &headers).await.code, 200);
    let seen = world.managed.only();
    assert_eq!(seen.all("authorization"), [token]);
    assert_eq!(seen.all("impersonate-user"), ["bob"]);
    assert_eq!(seen.all("x-remote-user"), [""; 0]);
    assert!(world.hub.reviewed().is_empty());
    world.get(PODS, &[]).await.message(401, "Unauthorized");
}

#[tokio::test]
async fn answers_of_the_hub_are_remembered() {
    let world = World::start().await;
    for _ in 0..20 {
        assert_eq!(world.get_as_alice(PODS).await.code, 200);
    }
    assert_eq!(world.hub.reviewed().len(), 1);
}
