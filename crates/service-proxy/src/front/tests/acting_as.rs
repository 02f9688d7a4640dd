//! Hub users who want to act as somebody else.

use super::*;

fn acting(user: &str, fields: &[(&'static str, &'static str)]) -> Request<Body> {
    let mut request = stated(user, &["devs"]);
    for (name, value) in fields {
        request
            .headers_mut()
            .append(*name, HeaderValue::from_static(value));
    }
    request
}

#[tokio::test]
async fn a_hub_user_acts_as_whom_the_cluster_lets_them() {
    let rig = rig().await;
    let robot = "cluster:hub:system:serviceaccount:ci:robot";
    for (resource, name) in [("users", "bob"), ("groups", "ops")] {
        rig.managed.lets_impersonate(robot, resource, name);
    }
    let pool = rig.user_server();
    let fields = [("impersonate-user", "bob"), ("impersonate-group", "ops")];
    let request = acting("system:serviceaccount:ci:robot", &fields);
    assert_eq!(ask(&pool, request).await.0, StatusCode::OK);
    let seen = rig.managed.take_one();
    assert_eq!(seen.header("authorization"), ["Bearer own-token"]);
    assert_eq!(seen.header("impersonate-user"), ["bob"]);
    assert_eq!(
        seen.header("impersonate-group"),
        ["ops"],
        "not the hub user's own"
    );
    assert!(seen.header("impersonate-uid").is_empty());
    assert!(rig.managed.reviewed().is_empty());
}

#[tokio::test]
async fn every_part_of_the_wish_must_be_allowed() {
    let rig = rig().await;
    rig.managed.lets_impersonate("alice", "users", "bob");
    let pool = rig.user_server();
    for (user, fields, said) in [
        (
            "alice",
            &[("impersonate-user", "carol")][..],
            "users \"carol\"",
        ),
        (
            "alice",
            &[("impersonate-user", "bob"), ("impersonate-group", "ops")],
            "groups \"ops\"",
        ),
        ("carol", &[("impersonate-user", "bob")], "\"carol\""),
        ("alice", &[("impersonate-group", "ops")], "Impersonate-User"),
        (
            "alice",
            &[("impersonate-user", "bob"), ("impersonate-new", "x")],
            "impersonate-new",
        ),
        (
            "alice",
            &[("impersonate-user", "bob"), ("impersonate-uid", "0")],
            "uid",
        ),
        (
            "alice",
            &[
                ("impersonate-user", "bob"),
                ("impersonate-extra-scopes", "all"),
            ],
            "scopes",
        ),
    ] {
        let (status, body) = ask(&pool, acting(user, fields)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{fields:?}: {body}");
        let message = body["message"].as_str().expect("text");
        assert!(message.contains(said), "{message}");
    }
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn hard_case_44_nobody_acts_as_the_clusters_machinery() {
    let rig = rig().await;
    for name in [
        "system:masters",
        "system:nodes",
        "system:kube-scheduler",
        "bob",
    ] {
        for resource in ["users", "groups"] {
            rig.managed.lets_impersonate("alice", resource, name);
        }
    }
    rig.managed
        .lets_impersonate("alice", "users", "system:serviceaccount:kube-system:x");
    let pool = rig.user_server();
    for fields in [
        &[
            ("impersonate-user", "bob"),
            ("impersonate-group", "system:masters"),
        ][..],
        &[
            ("impersonate-user", "bob"),
            ("impersonate-group", "system:nodes"),
        ],
        &[("impersonate-user", "system:kube-scheduler")],
        &[("impersonate-user", "system:serviceaccount:kube-system:x")],
    ] {
        let (status, body) = ask(&pool, acting("alice", fields)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{fields:?}");
        assert!(
            body["message"].as_str().expect("text").contains("reserved"),
            "{body}"
        );
    }
    // The bounds of the hub user itself come first.
    let request = acting("system:admin", &[("impersonate-user", "bob")]);
    assert_eq!(ask(&pool, request).await.0, StatusCode::FORBIDDEN);
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn a_question_that_failed_is_neither_yes_nor_no() {
    let rig = rig().await;
    rig.managed.lets_impersonate("alice", "users", "bob");
    rig.managed.set_reviews(Reviews::Failing);
    let request = acting("alice", &[("impersonate-user", "bob")]);
    let (status, body) = ask(&rig.user_server(), request).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(rig.managed.recorded().is_empty());
}
