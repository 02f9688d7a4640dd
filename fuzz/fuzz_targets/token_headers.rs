//! `Authorization` headers: a token comes out of exactly one of them, and is never printed.

#![no_main]

use cluster_proxy_fuzz::headers;
use cluster_proxy_identity::Token;
use http::header::AUTHORIZATION;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|values: Vec<Vec<u8>>| {
    let fields: Vec<_> = values
        .into_iter()
        .map(|value| (AUTHORIZATION.as_str().as_bytes().to_vec(), value))
        .collect();
    let headers = headers(&fields);
    let found = Token::from_headers(&headers);
    let count = headers.get_all(AUTHORIZATION).iter().count();
    match &found {
        Ok(None) => assert_eq!(count, 0),
        Ok(Some(token)) => {
            assert_eq!(count, 1);
            let text = token.expose();
            assert!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()));
            let value = headers[AUTHORIZATION].to_str().expect("graphic text");
            let (scheme, rest) = value.trim().split_once(' ').expect("a scheme and a token");
            assert!(scheme.eq_ignore_ascii_case("bearer"));
            assert_eq!(rest.trim(), text);
            assert_eq!(format!("{token:?}"), "Token(redacted)");
        }
        Err(_) => assert!(count > 0),
    }
});
