//! `X-Remote-*` headers: a user survives being written and read, and stripping leaves none.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use cluster_proxy_fuzz::headers;
use cluster_proxy_identity::{User, strip_remote_headers};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    /// Names without their prefix, which a fuzzer would be long in finding.
    fields: Vec<(Kind, Vec<u8>)>,
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    User,
    Group,
    Uid,
    Extra(Vec<u8>),
    Other(Vec<u8>),
}

impl Kind {
    fn name(&self) -> Vec<u8> {
        match self {
            Self::User => b"X-Remote-User".to_vec(),
            Self::Group => b"x-remote-group".to_vec(),
            Self::Uid => b"X-REMOTE-UID".to_vec(),
            Self::Extra(key) => [b"x-remote-extra-", key.as_slice()].concat(),
            Self::Other(rest) => [b"x-remote-", rest.as_slice()].concat(),
        }
    }
}

fuzz_target!(|input: Input| {
    let fields: Vec<_> = input
        .fields
        .iter()
        .map(|(kind, value)| (kind.name(), value.clone()))
        .collect();
    let mut received = headers(&fields);
    if let Ok(Some(user)) = User::from_remote_headers(&received) {
        check(&user);
    }
    strip_remote_headers(&mut received);
    assert!(received.is_empty(), "{received:?}");

    check(&User {
        name: input.name,
        uid: input.uid,
        groups: input.groups,
        // A key without a value is not stated at all.
        extra: input
            .extra
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .collect(),
    });
});

/// Written over what a client may have sent, a user is read as itself. What nobody is called is
/// refused, when it is written or when it is read.
fn check(user: &User) {
    let mut headers = HeaderMap::new();
    headers.insert("x-remote-user", HeaderValue::from_static("intruder"));
    headers.insert("x-remote-extra-scopes", HeaderValue::from_static("all"));
    if user.to_remote_headers(&mut headers).is_err() {
        return;
    }
    // A hop over HTTP/1 cuts off space around a value (RFC 9110 section 5.5): " system:masters"
    // would pass every check on the way and arrive as another group.
    for value in headers.values() {
        assert_eq!(
            value.as_bytes(),
            value.as_bytes().trim_ascii(),
            "{headers:?}"
        );
    }
    let nobody = user.name.is_empty()
        || user.uid.as_deref() == Some("")
        || user.extra.keys().any(String::is_empty);
    match User::from_remote_headers(&headers) {
        Ok(Some(read)) => assert_eq!(read, *user, "{headers:?}"),
        Ok(None) => panic!("nobody was read: {headers:?}"),
        Err(error) => assert!(nobody, "{error}: {headers:?}"),
    }
}
