//! A user that a hub authenticated, and how the user-server states it to the service-proxy.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

const REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
const REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const REMOTE_UID: HeaderName = HeaderName::from_static("x-remote-uid");
const REMOTE_EXTRA_PREFIX: &str = "x-remote-extra-";

/// A Kubernetes user: what a TokenReview says of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// The user's name, e.g. `system:serviceaccount:default:robot`.
    pub name: String,
    /// The uid, where the authenticator knows one.
    pub uid: Option<String>,
    /// Group names, in the authenticator's order.
    pub groups: Vec<String>,
    /// Extra attributes, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Sets the `X-Remote-*` headers of Kubernetes' front proxy convention; whatever stood there
    /// is gone. Keys of extra are percent-encoded, as the kube-apiserver's
    /// `--requestheader-extra-headers-prefix` expects them.
    ///
    /// # Errors
    /// [`RemoteUserError`] when a value cannot be a header's (control characters).
    pub fn to_remote_headers(&self, headers: &mut HeaderMap) -> Result<(), RemoteUserError> {
        strip_remote_headers(headers);
        headers.insert(REMOTE_USER, value(&self.name)?);
        if let Some(uid) = &self.uid {
            headers.insert(REMOTE_UID, value(uid)?);
        }
        for group in &self.groups {
            headers.append(REMOTE_GROUP, value(group)?);
        }
        for (key, values) in &self.extra {
            let name = format!("{REMOTE_EXTRA_PREFIX}{}", encode_key(key));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                RemoteUserError::Malformed {
                    what: "key of extra",
                }
            })?;
            for text in values {
                headers.append(name.clone(), value(text)?);
            }
        }
        Ok(())
    }

    /// Reads the `X-Remote-*` headers: `None` when there is no `X-Remote-User`.
    ///
    /// # Errors
    /// [`RemoteUserError`] when the user or uid is empty or stated twice, when groups or extra
    /// come without a user, or when a value is not UTF-8.
    pub fn from_remote_headers(headers: &HeaderMap) -> Result<Option<Self>, RemoteUserError> {
        let Some(name) = at_most_one(headers, &REMOTE_USER, "user")? else {
            let stray = headers.keys().any(is_remote_header);
            return if stray {
                Err(RemoteUserError::WithoutUser)
            } else {
                Ok(None)
            };
        };
        let uid = at_most_one(headers, &REMOTE_UID, "uid")?;
        let groups = headers
            .get_all(REMOTE_GROUP)
            .iter()
            .map(|group| text(group, "group"))
            .collect::<Result<_, _>>()?;
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for (name, content) in headers {
            if let Some(key) = name.as_str().strip_prefix(REMOTE_EXTRA_PREFIX) {
                let key = decode_key(key).ok_or(RemoteUserError::Malformed {
                    what: "key of extra",
                })?;
                extra.entry(key).or_default().push(text(content, "extra")?);
            }
        }
        Ok(Some(Self {
            name,
            uid,
            groups,
            extra,
        }))
    }
}

/// Removes every `X-Remote-*` header.
pub fn strip_remote_headers(headers: &mut HeaderMap) {
    let remote: Vec<_> = headers
        .keys()
        .filter(|name| is_remote_header(name))
        .cloned()
        .collect();
    for name in remote {
        headers.remove(name);
    }
}

/// Why headers do not state a user, or a user cannot be stated in headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteUserError {
    /// A part that is empty or not text.
    #[error("the {what} cannot be carried in a header")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// A part that can be there only once.
    #[error("the {what} is stated more than once")]
    Repeated {
        /// Which part.
        what: &'static str,
    },
    /// Groups, uid or extra of nobody.
    #[error("X-Remote-* headers without X-Remote-User")]
    WithoutUser,
}

fn is_remote_header(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-remote-")
}

/// UTF-8 goes as bytes, as Go's net/http sends it.
fn value(text: &str) -> Result<HeaderValue, RemoteUserError> {
    let malformed = RemoteUserError::Malformed { what: "value" };
    if is_padded(text.as_bytes()) {
        return Err(malformed);
    }
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| malformed)
}

fn text(value: &HeaderValue, what: &'static str) -> Result<String, RemoteUserError> {
    let malformed = RemoteUserError::Malformed { what };
    if is_padded(value.as_bytes()) {
        return Err(malformed);
    }
    String::from_utf8(value.as_bytes().to_vec()).map_err(|_| malformed)
}

/// Whether white space stands around a value. HTTP/2 keeps it and HTTP/1.1 drops it (RFC 9110
/// section 5.5), so ` system:masters` would pass a check here and arrive as `system:masters`.
fn is_padded(value: &[u8]) -> bool {
    value.trim_ascii().len() != value.len()
}

fn at_most_one(
    headers: &HeaderMap,
    name: &HeaderName,
    what: &'static str,
) -> Result<Option<String>, RemoteUserError> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(RemoteUserError::Repeated { what });
    }
    let text = text(first, what)?;
    if text.is_empty() {
        return Err(RemoteUserError::Malformed { what });
    }
    Ok(Some(text))
}

/// Percent-encodes what a header name cannot carry, upper case letters (header names have no
/// case) and `%` itself.
fn encode_key(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        let plain = byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~".contains(&byte);
        if plain {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02x}"));
        }
    }
    encoded
}

fn decode_key(key: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(key.len());
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded)
        .ok()
        .filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_survives_the_hop() {
        let user = User {
            name: "system:serviceaccount:hub:tëst".to_owned(),
            uid: Some("u-1".to_owned()),
            groups: vec!["a".to_owned(), "system:authenticated".to_owned()],
            extra: BTreeMap::from([
                (
                    "authentication.kubernetes.io/credential-id".to_owned(),
                    vec!["JTI=1".to_owned()],
                ),
                ("Scopes%".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
            ]),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-group", HeaderValue::from_static("system:masters"));
        user.to_remote_headers(&mut headers).unwrap();
        assert!(
            headers.contains_key("x-remote-extra-authentication.kubernetes.io%2fcredential-id")
        );
        assert_eq!(User::from_remote_headers(&headers).unwrap(), Some(user));
        strip_remote_headers(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn values_in_white_space_are_not_written() {
        for name in [" system:masters", "system:masters\t"] {
            let padded = User {
                name: name.to_owned(),
                ..User::default()
            };
            assert!(padded.to_remote_headers(&mut HeaderMap::new()).is_err());
            let groups = vec![name.to_owned()];
            let padded = User {
                name: "a".to_owned(),
                groups,
                ..User::default()
            };
            assert!(padded.to_remote_headers(&mut HeaderMap::new()).is_err());
        }
    }

    #[test]
    fn doubtful_statements_are_refused() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.append(*name, HeaderValue::from_static(value));
            }
            User::from_remote_headers(&map)
        };
        assert_eq!(headers(&[("accept", "*/*")]), Ok(None));
        assert_eq!(
            headers(&[("x-remote-group", "g")]),
            Err(RemoteUserError::WithoutUser)
        );
        assert_eq!(
            headers(&[("x-remote-user", "a"), ("x-remote-user", "b")]),
            Err(RemoteUserError::Repeated { what: "user" })
        );
        assert!(headers(&[("x-remote-user", "")]).is_err());
        assert!(headers(&[("x-remote-user", "a "), ("x-remote-group", "g")]).is_err());
        assert!(
            headers(&[
                ("x-remote-user", "a"),
                ("x-remote-group", "\tsystem:masters")
            ])
            .is_err()
        );
        assert!(headers(&[("x-remote-user", "a"), ("x-remote-uid", " 1")]).is_err());
        assert!(headers(&[("x-remote-user", "a"), ("x-remote-extra-k", " v")]).is_err());
        assert!(headers(&[("x-remote-user", "a"), ("x-remote-extra-%zz", "b")]).is_err());
    }
}
