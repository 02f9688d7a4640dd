//! Request targets as the bytes that came.
//!
//! Routing, authorization and the outgoing request all look at these same bytes: nothing is decoded,
//! joined or normalised, so no two of them can read a target differently (CVE-2026-40912).

use bytes::Bytes;
use http::header::HOST;
use http::uri::{self, Authority, InvalidUri, PathAndQuery, Scheme};
use http::{Request, Uri};

/// Splits `/first/rest?query` into `first` and `/rest?query`; the rest of `/first` is empty and
/// that of `/first?query` is `?query`. `None` for a target that does not begin with `/`.
pub fn split_first_segment(target: &PathAndQuery) -> Option<(&str, &str)> {
    let target = target.as_str().strip_prefix('/')?;
    let end = target.find(['/', '?']).unwrap_or(target.len());
    Some(target.split_at(end))
}

/// The host that a client asked for, if it can be read.
pub fn client_authority<B>(request: &Request<B>) -> Option<Authority> {
    request.uri().authority().cloned().or_else(|| {
        let host = request.headers().get(HOST)?;
        Authority::try_from(host.as_bytes()).ok()
    })
}

/// A URI for [`Pool`](crate::Pool): the target, and the host to name instead of the pool's own.
pub fn with_authority(target: PathAndQuery, authority: Option<Authority>) -> Uri {
    let mut parts = uri::Parts::default();
    // Without a scheme an authority may stand with no path only.
    parts.scheme = authority.is_some().then_some(Scheme::HTTPS);
    parts.authority = authority;
    parts.path_and_query = Some(target.clone());
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from(target))
}

/// Makes a target of what [`split_first_segment`] left. What has no path gets `/`.
///
/// # Errors
/// When `rest` cannot be a target; what was split off one always can.
pub fn from_rest(rest: &str) -> Result<PathAndQuery, InvalidUri> {
    let bytes = if rest.starts_with('/') {
        Bytes::copy_from_slice(rest.as_bytes())
    } else {
        let mut rooted = Vec::with_capacity(rest.len() + 1);
        rooted.push(b'/');
        rooted.extend_from_slice(rest.as_bytes());
        Bytes::from(rooted)
    };
    PathAndQuery::from_maybe_shared(bytes)
}

/// Whether the query sets `name` to true, as Go's `strconv.ParseBool` and Kubernetes' own parameters
/// read it; `name` alone counts too. The first occurrence decides.
///
/// This chooses a connection and a time-out, nothing else: what the query means is the
/// destination's business.
pub fn query_flag(target: &PathAndQuery, name: &str) -> bool {
    let mut pairs = target.query().unwrap_or_default().split('&');
    let value = pairs.find_map(|pair| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some("true"),
    });
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(target: &str) -> (String, String) {
        let target: PathAndQuery = target.parse().expect("test target");
        let (first, rest) = split_first_segment(&target).expect("begins with a slash");
        let rest = from_rest(rest).expect("was part of a target");
        (first.to_owned(), rest.as_str().to_owned())
    }

    #[test]
    fn the_rest_keeps_its_bytes() {
        for rest in [
            "/api/v1/pods",
            "/",
            "//",
            "//api///v1/",
            "/a%2Fb/%2e%2e/../.%2E/;x=1",
            "/a\\b",
            "/%zz%",
            "/caf\u{e9}",
            "/?",
            "/a?",
            "/a??b=/c/../d&e=%00;f",
            "/a\"{}?x={}",
        ] {
            let (first, kept) = split(&format!("/managed{rest}"));
            assert_eq!((first.as_str(), kept.as_str()), ("managed", rest));
        }
    }

    #[test]
    fn a_first_segment_alone_leaves_the_root() {
        assert_eq!(split("/managed"), ("managed".to_owned(), "/".to_owned()));
        assert_eq!(
            split("/managed?a=b"),
            ("managed".to_owned(), "/?a=b".to_owned())
        );
        assert_eq!(split("/"), (String::new(), "/".to_owned()));
        assert_eq!(split("//x"), (String::new(), "/x".to_owned()));
        assert_eq!(
            split("/%6danaged/x"),
            ("%6danaged".to_owned(), "/x".to_owned())
        );
    }

    #[test]
    fn a_target_without_a_slash_has_no_segment() {
        assert_eq!(split_first_segment(&PathAndQuery::from_static("*")), None);
    }

    #[test]
    fn query_flags_are_read_as_go_does() {
        let flag = |target: &'static str| query_flag(&PathAndQuery::from_static(target), "watch");
        for on in [
            "/a?watch=true",
            "/a?x=1&watch=1",
            "/a?watch",
            "/a?watch=True&watch=0",
        ] {
            assert!(flag(on), "{on}");
        }
        for off in [
            "/a",
            "/a?",
            "/a?watch=false",
            "/a?watch=0",
            "/a?watch=",
            "/a?watchx=1",
        ] {
            assert!(!flag(off), "{off}");
        }
    }
}
