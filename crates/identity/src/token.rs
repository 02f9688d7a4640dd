//! Bearer tokens: taken from a request once, never printed.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

/// The longest token taken. Service account tokens are about 1 KiB and OIDC tokens with many
/// groups some 10 KiB; the kube-apiserver itself takes no more than 1 MiB of all headers.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A bearer token (RFC 6750). It cannot be displayed, and `Debug` shows no byte of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from a file or a TokenRequest; surrounding white space goes.
    ///
    /// # Errors
    /// [`TokenError`] when it is empty, too long, or has characters that no header may carry.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::Malformed);
        }
        Ok(Self(text.to_owned()))
    }

    /// The token of a request: `None` when there is no `Authorization` header at all.
    ///
    /// # Errors
    /// [`TokenError`] for anything else that is not exactly one `Authorization: Bearer <token>`
    /// (the scheme in any case): two headers, another scheme, an empty or malformed token.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, TokenError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(TokenError::Repeated);
        }
        let value = value.to_str().map_err(|_| TokenError::Malformed)?.trim();
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if value.is_empty() {
            return Err(TokenError::Empty);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::OtherScheme);
        }
        Self::parse(token).map(Some)
    }

    /// The token itself, for the one place that sends it on.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the token: a key for caches that must not hold the token.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why an `Authorization` header or a file holds no usable bearer token. No variant carries any
/// part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing after `Bearer`, or an empty header or file.
    #[error("the bearer token is empty")]
    Empty,
    /// More than 64 KiB.
    #[error("the bearer token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// White space, control characters or bytes beyond ASCII.
    #[error("the bearer token has characters that a token cannot have")]
    Malformed,
    /// More than one `Authorization` header.
    #[error("the request has more than one Authorization header")]
    Repeated,
    /// Not `Bearer`.
    #[error("the Authorization header has a scheme other than Bearer")]
    OtherScheme,
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn exactly_one_bearer_token_is_taken() {
        assert_eq!(Token::from_headers(&HeaderMap::new()), Ok(None));
        for spelling in [
            &b"Bearer abc.def"[..],
            b"bearer abc.def",
            b"BEARER   abc.def",
        ] {
            let token = Token::from_headers(&with(&[spelling])).unwrap().unwrap();
            assert_eq!(token.expose(), "abc.def");
        }
        for (value, error) in [
            (&b""[..], TokenError::Empty),
            (b"   ", TokenError::Empty),
            (b"Bearer", TokenError::Empty),
            (b"Bearer ", TokenError::Empty),
            (b"Basic abc", TokenError::OtherScheme),
            (b"abc", TokenError::OtherScheme),
            (b"Bearer a b", TokenError::Malformed),
            (b"Bearer a\tb", TokenError::Malformed),
            (b"Bearer \xff", TokenError::Malformed),
        ] {
            assert_eq!(
                Token::from_headers(&with(&[value])),
                Err(error),
                "{value:?}"
            );
        }
        assert_eq!(
            Token::from_headers(&with(&[b"Bearer a", b"Bearer a"])),
            Err(TokenError::Repeated)
        );
        assert_eq!(
            Token::parse(&"a".repeat(MAX_TOKEN_BYTES + 1)),
            Err(TokenError::TooLong)
        );
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", Token::parse("s3cret").unwrap()),
            "Token(redacted)"
        );
    }
}
