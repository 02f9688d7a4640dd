//! The answer to a TokenReview: a yes only where the answer says yes, a no only where it says no.

#![no_main]

use arbitrary::Arbitrary;
use cluster_proxy_authentication::{Review, TokenReviewer};
use cluster_proxy_fuzz::{apiserver, run};
use cluster_proxy_identity::Token;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    Raw(u16, &'a [u8]),
    Json(&'a [u8]),
    Status {
        authenticated: Option<bool>,
        name: Option<&'a str>,
        error: Option<&'a str>,
    },
    /// An error made of real phrases and others.
    Phrases(Vec<Phrase<'a>>),
}

#[derive(Debug, Arbitrary)]
enum Phrase<'a> {
    Invalid,
    Expired,
    Audience(&'a str, &'a str),
    NotFound(&'a str),
    Webhook,
    Other(&'a str),
}

impl Phrase<'_> {
    fn text(&self) -> String {
        match self {
            Self::Invalid => "invalid bearer token".to_owned(),
            Self::Expired => "service account token has expired".to_owned(),
            Self::Audience(one, two) => {
                format!("token audiences [{one:?}] is invalid for the target audiences [{two:?}]")
            }
            Self::NotFound(name) => format!("serviceaccounts \"{name}\" not found"),
            Self::Webhook => "Post \"https://w\": connect: connection refused".to_owned(),
            Self::Other(text) => (*text).to_owned(),
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut webhook_failed = false;
    let (code, body) = match &input {
        Input::Raw(code, body) => (
            StatusCode::from_u16(*code).unwrap_or(StatusCode::CREATED),
            body.to_vec(),
        ),
        Input::Json(body) => (StatusCode::CREATED, body.to_vec()),
        Input::Status {
            authenticated,
            name,
            error,
        } => {
            let status = json!({
                "authenticated": authenticated, "user": {"username": name}, "error": error,
            });
            (
                StatusCode::CREATED,
                json!({ "status": status }).to_string().into_bytes(),
            )
        }
        Input::Phrases(phrases) => {
            // The last one is looked at with nothing after it that could swallow it.
            webhook_failed = matches!(phrases.last(), Some(Phrase::Webhook));
            let joined = phrases
                .iter()
                .map(Phrase::text)
                .collect::<Vec<_>>()
                .join(", ");
            let error = if phrases.len() == 1 {
                joined
            } else {
                format!("[{joined}]")
            };
            let body = json!({"status": {"authenticated": false, "error": error}});
            (StatusCode::CREATED, body.to_string().into_bytes())
        }
    };
    let token = Token::parse("token").expect("a token");
    let review = run(async {
        let client = apiserver(code, body.clone());
        TokenReviewer::new(client).review(&token).await
    });
    let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let says_yes = answer["status"]["authenticated"] == json!(true);
    match review {
        Review::Authenticated(user) => {
            assert!(code.is_success() && says_yes);
            assert!(!user.name.is_empty());
        }
        Review::Denied => {
            assert!(code.is_success() && answer["status"].is_object());
            assert!(!says_yes || answer["status"]["user"]["username"] == "system:anonymous");
            assert!(!webhook_failed, "a failure was taken for a no: {answer}");
        }
        Review::Failed(error) => assert!(!error.reason().is_empty()),
    }
});
