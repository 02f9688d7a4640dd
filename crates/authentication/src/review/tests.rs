use std::io::Write;
use std::sync::Mutex;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::fake::{FakeApi, Reply, SECRET, secret, token};

async fn review(reply: Reply) -> Review {
    TokenReviewer::new(FakeApi::always(reply).client())
        .review(&secret())
        .await
}

async fn failure(reply: Reply) -> ReviewError {
    match review(reply).await {
        Review::Failed(error) => error,
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test]
async fn accepted_token_gives_the_whole_user() {
    let api = FakeApi::always(Reply::yes("system:serviceaccount:default:ci"));
    let Review::Authenticated(user) = TokenReviewer::new(api.client()).review(&secret()).await
    else {
        panic!("not authenticated");
    };
    assert_eq!(user.name, "system:serviceaccount:default:ci");
    assert_eq!(user.uid.as_deref(), Some("u-1"));
    assert_eq!(user.groups, ["system:authenticated", "g"]);
    assert_eq!(user.extra["scopes"], ["a", "b"]);

    let (path, question) = api.last();
    assert_eq!(path, "/apis/authentication.k8s.io/v1/tokenreviews");
    assert_eq!(question["kind"], "TokenReview");
    assert_eq!(question["apiVersion"], "authentication.k8s.io/v1");
    assert_eq!(question["spec"], json!({"token": SECRET}));
}

#[tokio::test]
async fn refused_token_is_a_no() {
    for status in [
        json!({}),
        json!({"authenticated": false}),
        json!({"authenticated": false, "error": ""}),
        json!({"user": {}, "error": "invalid bearer token"}),
        json!({"error": "[invalid bearer token, service account token has expired]"}),
        json!({"error": "invalid signature, no keys found"}),
        json!({"authenticated": true, "user": {"username": "system:anonymous"}}),
    ] {
        let review = review(Reply::review(&status)).await;
        assert!(matches!(review, Review::Denied), "{status}: {review:?}");
    }
}

#[tokio::test]
async fn what_could_not_be_checked_is_not_a_no() {
    let webhook = "[invalid bearer token, Post \"https://webhook\": connect: connection refused]";
    for error in [
        webhook,
        "context deadline exceeded",
        "etcdserver: request timed out",
    ] {
        let error = failure(Reply::review(
            &json!({"authenticated": false, "error": error}),
        ))
        .await;
        assert!(matches!(error, ReviewError::Undecided { .. }), "{error}");
        assert_eq!(error.reason(), "undecided");
    }
}

#[tokio::test]
async fn error_answers_are_failures() {
    for code in [400, 401, 403, 404, 409, 429, 500, 502, 503, 504] {
        let code = StatusCode::from_u16(code).unwrap();
        // Even in the very words of a "no": these are about our request, not about the token.
        let error = failure(Reply::status(code, "invalid bearer token")).await;
        assert_eq!(error.reason(), "refused", "{error}");
    }
    let error = failure(Reply::raw(
        StatusCode::BAD_GATEWAY,
        "<html>secret proxy</html>",
    ))
    .await;
    assert!(!format!("{error:?}").contains("secret proxy"));
}

#[tokio::test]
async fn senseless_answers_are_failures() {
    let huge = format!(
        "{{\"status\":{{\"error\":\"{}\"}}}}",
        "x".repeat(2 * 1024 * 1024)
    );
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "not JSON",
        "{\"status\":null}",
        "{\"status\":{\"authenticated\":\"yes\"}}",
        "{\"status\":{\"authenticated\":true}}",
        "{\"status\":{\"authenticated\":true,\"user\":{\"username\":\"\"}}}",
        "{\"status\":{\"authenticated\":true,\"user\":{\"username\":\"a\",\"groups\":\"b\"}}}",
        &huge,
    ] {
        failure(Reply::raw(StatusCode::CREATED, body)).await;
    }
}

#[tokio::test]
async fn token_must_be_for_an_audience_that_was_asked_for() {
    let ask = async |status: Value| {
        let api = FakeApi::always(Reply::review(&status));
        let reviewer = TokenReviewer::new(api.client())
            .with_audiences(vec!["proxy".to_owned(), "other".to_owned()]);
        let review = reviewer.review(&secret()).await;
        assert_eq!(api.last().1["spec"]["audiences"], json!(["proxy", "other"]));
        review
    };
    let yes = |audiences: &[&str]| json!({"authenticated": true, "user": {"username": "ci"}, "audiences": audiences});
    assert!(matches!(
        ask(yes(&["other"])).await,
        Review::Authenticated(_)
    ));
    assert!(matches!(ask(yes(&["third"])).await, Review::Denied));
    assert!(matches!(ask(yes(&[])).await, Review::Denied));
}

#[tokio::test(start_paused = true)]
async fn silent_server_is_given_up_in_time() {
    let begin = Instant::now();
    let error = failure(Reply::yes("late").after(Duration::from_secs(3600))).await;
    assert_eq!(error.reason(), "timeout");
    assert_eq!(begin.elapsed().as_secs(), REVIEW_DEADLINE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn reviews_at_once_are_bounded() {
    let api = FakeApi::always(Reply::no().after(Duration::from_secs(3)));
    let reviewer = TokenReviewer::new(api.client());
    let tasks: Vec<_> = (0..MAX_CONCURRENT_REVIEWS + 8)
        .map(|number| {
            let reviewer = reviewer.clone();
            tokio::spawn(async move { reviewer.review(&token(&format!("t{number}"))).await })
        })
        .collect();
    let (mut denied, mut overloaded) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Review::Denied => denied += 1,
            Review::Failed(ReviewError::Overloaded) => overloaded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((denied, overloaded), (MAX_CONCURRENT_REVIEWS, 8));
    assert_eq!(api.most_in_flight(), MAX_CONCURRENT_REVIEWS);
}

#[tokio::test]
async fn nothing_prints_the_token() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("the log is heard");
    for reply in [
        Reply::yes("ci"),
        Reply::no(),
        Reply::review(&json!("not a status")),
        Reply::raw(
            StatusCode::CREATED,
            format!("{{\"spec\":{{\"token\":{SECRET:?}}}"),
        ),
        Reply::raw(StatusCode::FORBIDDEN, SECRET),
        Reply::status(StatusCode::INTERNAL_SERVER_ERROR, "boom"),
    ] {
        let review = review(reply).await;
        let text = match &review {
            Review::Failed(error) => format!("{error} {review:?}"),
            Review::Authenticated(_) | Review::Denied => format!("{review:?}"),
        };
        assert!(!text.contains(SECRET), "{text}");
    }
    let reviewer = TokenReviewer::new(FakeApi::always(Reply::no()).client());
    assert!(!format!("{reviewer:?} {:?}", secret()).contains(SECRET));
    let log = log.text();
    assert!(log.contains("the log is heard"));
    assert!(!log.contains(SECRET), "{log}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
