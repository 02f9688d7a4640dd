//! What an HTTP proxy answers to CONNECT: an answer ends where its head ends, however it arrives.

#![no_main]

use cluster_proxy_http_proxy::{ConnectAnswer, MAX_ANSWER};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match ConnectAnswer::parse(bytes) {
        Ok(Some((answer, head))) => {
            assert!(head <= bytes.len() && head <= MAX_ANSWER);
            assert!(!answer.status.is_informational());
            assert!(answer.reason.chars().count() <= 80);
            for shown in answer.schemes.iter().chain([&answer.reason]) {
                assert!(!shown.contains(char::is_control), "{shown:?}");
            }
            // No more and no less than the head is needed.
            assert_eq!(
                ConnectAnswer::parse(&bytes[..head]),
                Ok(Some((answer, head)))
            );
            assert_eq!(ConnectAnswer::parse(&bytes[..head - 1]), Ok(None));
        }
        Ok(None) => assert!(bytes.len() < MAX_ANSWER),
        Err(error) => {
            let line = error.to_string();
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
});
