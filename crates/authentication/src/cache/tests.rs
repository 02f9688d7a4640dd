use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::*;
use crate::fake::{FakeApi, Reply, secret, token};
use crate::review::ReviewError;

const TTL: Duration = Duration::from_secs(10);

fn cached(api: &FakeApi, ttl: Duration) -> CachedReviewer {
    CachedReviewer::new(TokenReviewer::new(api.client()), ttl)
}

fn flights(reviewer: &CachedReviewer) -> usize {
    reviewer.0.flights.len()
}

#[tokio::test(start_paused = true)]
async fn hard_case_24_a_yes_is_remembered_for_the_ttl() {
    let api = FakeApi::always(Reply::yes("ci"));
    let reviewer = cached(&api, TTL);
    for _ in 0..3 {
        assert!(matches!(
            reviewer.review(&secret()).await,
            Review::Authenticated(_)
        ));
    }
    assert_eq!(api.count(), 1);

    // Revoked meanwhile: refused once the answer has aged.
    api.now_always(Reply::no());
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    assert!(matches!(
        reviewer.review(&secret()).await,
        Review::Authenticated(_)
    ));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(matches!(reviewer.review(&secret()).await, Review::Denied));
    assert_eq!(api.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_no_is_remembered_for_the_ttl() {
    let api = FakeApi::always(Reply::no());
    let reviewer = cached(&api, TTL);
    for _ in 0..3 {
        assert!(matches!(reviewer.review(&secret()).await, Review::Denied));
    }
    assert_eq!(api.count(), 1);
    tokio::time::advance(TTL).await;
    api.now_always(Reply::yes("ci"));
    assert!(matches!(
        reviewer.review(&secret()).await,
        Review::Authenticated(_)
    ));
}

#[tokio::test]
async fn a_failure_is_never_remembered() {
    let api = FakeApi::always(Reply::status(StatusCode::SERVICE_UNAVAILABLE, "busy"));
    let reviewer = cached(&api, TTL);
    assert!(matches!(
        reviewer.review(&secret()).await,
        Review::Failed(_)
    ));
    api.now_always(Reply::yes("ci"));
    assert!(matches!(
        reviewer.review(&secret()).await,
        Review::Authenticated(_)
    ));
    assert_eq!(api.count(), 2);
}

#[tokio::test]
async fn answers_belong_to_their_token_alone() {
    let api = FakeApi::new(|_, question| match question["spec"]["token"].as_str() {
        Some("good") => Reply::yes("ci"),
        _ => Reply::no(),
    });
    let reviewer = cached(&api, TTL);
    for _ in 0..2 {
        assert!(matches!(
            reviewer.review(&token("good")).await,
            Review::Authenticated(_)
        ));
        assert!(matches!(
            reviewer.review(&token("bad")).await,
            Review::Denied
        ));
    }
    assert_eq!(api.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_ttl_nothing_is_kept_but_flights_are_shared() {
    let api = FakeApi::always(Reply::yes("ci").after(Duration::from_secs(1)));
    let reviewer = cached(&api, Duration::ZERO);
    let token = secret();
    let (one, two) = tokio::join!(reviewer.review(&token), reviewer.review(&token));
    assert!(matches!(
        (one, two),
        (Review::Authenticated(_), Review::Authenticated(_))
    ));
    assert_eq!(api.count(), 1);
    reviewer.review(&token).await;
    assert_eq!(api.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn equal_reviews_in_flight_are_one() {
    let api = FakeApi::always(Reply::yes("ci").after(Duration::from_secs(1)));
    let reviewer = cached(&api, TTL);
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let reviewer = reviewer.clone();
            let token = if number % 2 == 0 {
                secret()
            } else {
                token("another")
            };
            tokio::spawn(async move { reviewer.review(&token).await })
        })
        .collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Review::Authenticated(_)));
    }
    assert_eq!(api.count(), 2);
    assert_eq!(flights(&reviewer), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shared_failure_reaches_all_and_the_next_asks_anew() {
    let busy = Reply::status(StatusCode::INTERNAL_SERVER_ERROR, "boom");
    let api = FakeApi::always(busy.after(Duration::from_secs(1)));
    let reviewer = cached(&api, TTL);
    let token = secret();
    let (one, two) = tokio::join!(reviewer.review(&token), reviewer.review(&token));
    assert!(matches!((one, two), (Review::Failed(_), Review::Failed(_))));
    assert_eq!(api.count(), 1);
    api.now_always(Reply::no());
    assert!(matches!(reviewer.review(&token).await, Review::Denied));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_leader_harms_no_follower() {
    let api = FakeApi::always(Reply::yes("ci").after(Duration::from_secs(2)));
    let reviewer = cached(&api, TTL);
    let spawn = || {
        let reviewer = reviewer.clone();
        tokio::spawn(async move { reviewer.review(&secret()).await })
    };
    let leader = spawn();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let follower = spawn();
    tokio::time::sleep(Duration::from_millis(500)).await;
    leader.abort();
    assert!(matches!(follower.await.unwrap(), Review::Authenticated(_)));
    assert_eq!(
        api.count(),
        1,
        "the review that the leader began is the follower's"
    );
    assert_eq!(flights(&reviewer), 0);
}

#[tokio::test(start_paused = true)]
async fn when_all_have_gone_the_next_begins_anew() {
    let api = FakeApi::always(Reply::yes("ci").after(Duration::from_secs(2)));
    let reviewer = cached(&api, TTL);
    for _ in 0..3 {
        let gone = tokio::time::timeout(Duration::from_secs(1), reviewer.review(&secret())).await;
        assert!(gone.is_err());
        assert_eq!(flights(&reviewer), 0, "nothing is left behind");
    }
    assert!(matches!(
        reviewer.review(&secret()).await,
        Review::Authenticated(_)
    ));
    assert_eq!(api.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_server_holds_nobody_for_ever() {
    let api = FakeApi::always(Reply::yes("late").after(Duration::from_secs(3600)));
    let reviewer = cached(&api, TTL);
    let token = secret();
    let (one, two) = tokio::join!(reviewer.review(&token), reviewer.review(&token));
    for review in [one, two] {
        assert!(matches!(review, Review::Failed(ReviewError::TimedOut)));
    }
}

#[tokio::test]
async fn a_token_is_not_remembered_beyond_its_own_end() {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let expiring = |seconds: i64| {
        let claims = format!("{{\"exp\":{}}}", now.cast_signed() + seconds);
        token(&format!("e30.{}.AA", URL_SAFE_NO_PAD.encode(claims)))
    };
    let api = FakeApi::always(Reply::yes("ci"));
    let reviewer = cached(&api, TTL);

    // Past its end, and yet accepted by a server whose clock differs: asked each time.
    let ended = expiring(-5);
    reviewer.review(&ended).await;
    reviewer.review(&ended).await;
    assert_eq!(api.count(), 2);

    let ending = expiring(5);
    reviewer.review(&ending).await;
    let state = reviewer.0.lock();
    let key = ending.fingerprint();
    assert!(state.accepted.get(&key, Instant::now()).is_some());
    assert!(
        state
            .accepted
            .get(&key, Instant::now() + Duration::from_secs(5))
            .is_none()
    );
}

#[tokio::test]
async fn wrong_tokens_displace_no_user() {
    let api = FakeApi::new(|_, question| match question["spec"]["token"].as_str() {
        Some("good") => Reply::yes("ci"),
        _ => Reply::no(),
    });
    let reviewer = cached(&api, TTL);
    reviewer.review(&token("good")).await;
    for number in 0..MAX_REFUSED + 10 {
        let now = Instant::now();
        let key = token(&number.to_string()).fingerprint();
        reviewer.0.lock().refused.put(key, (), now + TTL, now);
    }
    reviewer.review(&token("good")).await;
    assert_eq!(api.count(), 1);
}
