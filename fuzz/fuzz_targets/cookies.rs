//! `Set-Cookie` headers of a cluster: each comes out once, for that cluster's URLs alone.

#![no_main]

use cluster_proxy_fuzz::headers;
use cluster_proxy_identity::ClusterName;
use http::header::SET_COOKIE;
use libfuzzer_sys::fuzz_target;

/// Compiled here from its source, since nobody outside the user-server has a use for it.
#[path = "../../crates/user-server/src/cookies.rs"]
mod cookies;

fuzz_target!(|values: Vec<Vec<u8>>| {
    let cluster: ClusterName = "managed".parse().expect("a name");
    let fields: Vec<_> = values
        .into_iter()
        .map(|value| (SET_COOKIE.as_str().as_bytes().to_vec(), value))
        .collect();
    let mut headers = headers(&fields);
    let count = headers.len();
    cookies::confine(&mut headers, &cluster);
    assert_eq!(headers.len(), count);
    for cookie in headers.get_all(SET_COOKIE) {
        // As a browser reads it (RFC 6265 section 5.2): attributes behind the first semicolon,
        // names without regard to case and to space around them, the last one of a name counts.
        let mut path = None;
        for attribute in cookie.as_bytes().split(|byte| *byte == b';').skip(1) {
            let end = attribute
                .iter()
                .position(|byte| *byte == b'=')
                .unwrap_or(attribute.len());
            let (name, value) = attribute.split_at(end);
            match name.trim_ascii().to_ascii_lowercase().as_slice() {
                b"domain" => panic!("a domain is left: {cookie:?}"),
                b"path" => path = value.strip_prefix(b"="),
                _ => {}
            }
        }
        assert_eq!(path, Some(&b"/managed/"[..]), "{cookie:?}");
    }
});
