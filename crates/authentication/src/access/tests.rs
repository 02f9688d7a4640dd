use http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::fake::{FakeApi, Reply};

const TTL: Duration = Duration::from_secs(10);

fn answer(status: &Value) -> Reply {
    Reply::json(&json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
        "spec": {}, "status": status,
    }))
}

fn yes() -> Reply {
    answer(&json!({"allowed": true, "reason": "RBAC: allowed"}))
}

fn no() -> Reply {
    answer(&json!({"allowed": false}))
}

fn reviewer(api: &FakeApi) -> AccessReviewer {
    AccessReviewer::new(api.client(), TTL)
}

fn alice() -> User {
    User {
        name: "alice".to_owned(),
        uid: Some("u-1".to_owned()),
        groups: vec!["devs".to_owned()],
        extra: [("scopes".to_owned(), vec!["a".to_owned()])].into(),
    }
}

fn cluster(name: &str) -> ResourceAttributes {
    ResourceAttributes {
        group: Some("cluster.open-cluster-management.io".to_owned()),
        resource: Some("managedclusters".to_owned()),
        subresource: Some("proxy".to_owned()),
        name: Some(name.to_owned()),
        verb: Some("get".to_owned()),
        ..ResourceAttributes::default()
    }
}

#[tokio::test]
async fn the_whole_user_is_asked_about() {
    let api = FakeApi::always(yes());
    let access = reviewer(&api).review(&alice(), &cluster("one")).await;
    assert!(matches!(access, Access::Allowed));
    let (path, body) = api.last();
    assert_eq!(path, SUBJECT_ACCESS_REVIEWS);
    assert_eq!(
        body["spec"],
        json!({
            "user": "alice", "uid": "u-1", "groups": ["devs"], "extra": {"scopes": ["a"]},
            "resourceAttributes": {
                "group": "cluster.open-cluster-management.io", "resource": "managedclusters",
                "subresource": "proxy", "name": "one", "verb": "get",
            },
        })
    );
}

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_each_for_its_question() {
    let api = FakeApi::always(yes());
    let reviewer = reviewer(&api);
    for _ in 0..3 {
        assert!(matches!(
            reviewer.review(&alice(), &cluster("one")).await,
            Access::Allowed
        ));
    }
    assert_eq!(api.count(), 1);
    api.now_always(no());
    assert!(matches!(
        reviewer.review(&alice(), &cluster("two")).await,
        Access::Denied
    ));
    let bob = User {
        name: "bob".to_owned(),
        ..alice()
    };
    assert!(matches!(
        reviewer.review(&bob, &cluster("one")).await,
        Access::Denied
    ));
    assert_eq!(api.count(), 3);
    tokio::time::advance(TTL).await;
    assert!(matches!(
        reviewer.review(&alice(), &cluster("one")).await,
        Access::Denied
    ));
}

#[tokio::test]
async fn a_failure_is_neither_yes_nor_no_and_not_remembered() {
    let api = FakeApi::always(Reply::status(StatusCode::FORBIDDEN, "no right"));
    let reviewer = reviewer(&api);
    for reply in [
        Reply::status(StatusCode::FORBIDDEN, "no right"),
        Reply::raw(StatusCode::CREATED, "{}"),
        Reply::raw(StatusCode::CREATED, "nonsense"),
        Reply::status(StatusCode::INTERNAL_SERVER_ERROR, "etcd"),
    ] {
        api.now_always(reply);
        assert!(matches!(
            reviewer.review(&alice(), &cluster("one")).await,
            Access::Failed(_)
        ));
    }
    api.now_always(yes());
    assert!(matches!(
        reviewer.review(&alice(), &cluster("one")).await,
        Access::Allowed
    ));
}

#[tokio::test]
async fn denied_outweighs_allowed_and_an_error_beside_a_no_is_a_no() {
    for status in [
        json!({"allowed": true, "denied": true}),
        json!({"allowed": false, "evaluationError": "clusterrole \"gone\" not found"}),
    ] {
        let api = FakeApi::always(answer(&status));
        let access = reviewer(&api).review(&alice(), &cluster("one")).await;
        assert!(matches!(access, Access::Denied), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn equal_questions_at_once_are_one() {
    let api = FakeApi::always(yes().after(Duration::from_secs(1)));
    let reviewer = reviewer(&api);
    let (user, one) = (alice(), cluster("one"));
    let all = (0..100).map(|_| reviewer.review(&user, &one));
    for access in futures_util::future::join_all(all).await {
        assert!(matches!(access, Access::Allowed));
    }
    assert_eq!(api.count(), 1);
    assert_eq!(reviewer.0.flights.len(), 0);
}
