//! Cookies that clusters set.
//!
//! All clusters share the user-server's origin, so a cookie for `/` would be sent to every one of
//! them, and one with a `Domain` to other servers too. A cookie therefore comes back only to the
//! kube-apiserver or Service that set it: its `Domain` goes, its `Path` is the beginning of the URLs
//! that lead there (RFC 6265 section 5.2).

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

/// Confines the cookies in an answer to the URLs that begin with `prefix`, which has no character
/// that ends an attribute.
pub(crate) fn confine(headers: &mut HeaderMap, prefix: &str) {
    if !headers.contains_key(SET_COOKIE) {
        return;
    }
    let confined: Vec<_> = headers
        .get_all(SET_COOKIE)
        .iter()
        .map(|cookie| confined(cookie, prefix))
        .collect();
    headers.remove(SET_COOKIE);
    for cookie in confined {
        headers.append(SET_COOKIE, cookie);
    }
}

fn confined(cookie: &HeaderValue, prefix: &str) -> HeaderValue {
    let mut parts = cookie.as_bytes().split(|byte| *byte == b';');
    let mut confined = parts.next().unwrap_or_default().to_vec();
    for attribute in parts.filter(|attribute| !sets_scope(attribute)) {
        confined.push(b';');
        confined.extend_from_slice(attribute);
    }
    confined.extend_from_slice(format!("; Path={prefix}").as_bytes());
    HeaderValue::from_bytes(&confined).expect("parts of a header value make one")
}

fn sets_scope(attribute: &[u8]) -> bool {
    let name = attribute
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    name.eq_ignore_ascii_case(b"domain") || name.eq_ignore_ascii_case(b"path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_case_46_a_cookie_comes_back_to_its_origin_only() {
        for (set, expected) in [
            ("a=b", "a=b; Path=/managed/"),
            ("a=b; Path=/", "a=b; Path=/managed/"),
            (
                "a=b; DOMAIN=hub.example;path=/other/ ; Secure;\tDomain = x; HttpOnly; Path",
                "a=b; Secure; HttpOnly; Path=/managed/",
            ),
            ("path=x; Max-Age=5", "path=x; Max-Age=5; Path=/managed/"),
            ("", "; Path=/managed/"),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, HeaderValue::from_static(set));
            headers.append(SET_COOKIE, HeaderValue::from_static("second=1"));
            confine(&mut headers, "/managed/");
            let all: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
            assert_eq!(all, [expected, "second=1; Path=/managed/"]);
        }
    }
}
