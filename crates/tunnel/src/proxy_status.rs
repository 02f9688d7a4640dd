//! The `Proxy-Status` header (RFC 9209), as far as a CONNECT answer needs it:
//! `proxy-agent; error=connection_refused; details="…"`.
//!
//! Both directions are bounded and keep to one printable line: the details may come from another
//! trust domain and end up in logs.

use http::{HeaderName, HeaderValue};

pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Longest details sent or taken: one line of a log.
const MAX_DETAILS: usize = 256;

/// Longest header read at all: names, a token and escaped details.
const MAX_HEADER: usize = 1024;

/// A `Proxy-Status` of one member. What is not printable ASCII becomes `?`.
pub(crate) fn encode(proxy: &str, error: &str, details: &str) -> HeaderValue {
    let mut value = format!("{proxy}; error={error}; details=\"");
    for character in details.chars().take(MAX_DETAILS) {
        match character {
            '"' | '\\' => value.extend(['\\', character]),
            ' '..='~' => value.push(character),
            _ => value.push('?'),
        }
    }
    value.push('"');
    HeaderValue::from_str(&value).expect("only printable ASCII was written")
}

/// The error token and details of the first member of the list, which is the proxy nearest to
/// the target (RFC 9209 section 2). `None` when the header is not understood.
pub(crate) fn decode(value: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.len() <= MAX_HEADER)?;
    let mut error = String::new();
    let mut details = String::new();
    for parameter in first_member(text)? {
        match parameter.split_once('=') {
            Some(("error", token)) => error = token.to_owned(),
            Some(("details", quoted)) => details = unquote(quoted)?,
            _ => {}
        }
    }
    let token = |b: u8| b.is_ascii_lowercase() || b == b'_';
    (!error.is_empty() && error.bytes().all(token)).then_some((error, details))
}

/// The parts of the first list member: what stands between `;` outside quoted strings, trimmed.
/// `None` when a quoted string does not end.
fn first_member(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            b',' if !quoted => {
                parts.push(text[start..at].trim());
                return Some(parts);
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    (!quoted).then_some(parts)
}

/// The content of an sf-string (RFC 9651 section 3.3.3), bounded and printable.
fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut content = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(mut character) = characters.next() {
        if character == '\\' {
            character = characters.next()?;
        }
        if !(' '..='~').contains(&character) {
            return None;
        }
        content.push(character);
    }
    content.truncate(MAX_DETAILS);
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<(String, String)> {
        decode(text.as_bytes())
    }

    #[test]
    fn details_travel_as_one_printable_line() {
        let value = encode("proxy-agent", "dns_error", "a\"b\\c; d\r\nSet-Cookie: ü");
        let text = value.to_str().unwrap();
        assert_eq!(
            text,
            r#"proxy-agent; error=dns_error; details="a\"b\\c; d??Set-Cookie: ?""#
        );
        assert_eq!(
            decoded(text),
            Some((
                "dns_error".to_owned(),
                "a\"b\\c; d??Set-Cookie: ?".to_owned()
            ))
        );
        let long = encode("p", "dns_error", &"\"".repeat(10_000));
        assert_eq!(decode(long.as_bytes()).unwrap().1.len(), MAX_DETAILS);
    }

    #[test]
    fn the_proxy_nearest_to_the_target_is_believed() {
        let text = r#"a; error=connection_timeout; details="x, y; error=z", b;error=dns_error"#;
        let expected = ("connection_timeout".to_owned(), "x, y; error=z".to_owned());
        assert_eq!(decoded(text), Some(expected));
    }

    #[test]
    fn what_is_not_understood_is_no_error() {
        for text in [
            "",
            "proxy",
            "proxy; error=",
            "proxy; error=\"dns_error\"",
            "proxy; error=DNS error",
            "proxy; error=dns_error; details=\"open",
            "proxy; error=dns_error; details=\"a\u{7}\"",
            "proxy; error=dns_error; details=bare",
        ] {
            assert_eq!(decoded(text), None, "{text:?}");
        }
        assert_eq!(decode(&[0xff; 8]), None);
        assert_eq!(decode("x".repeat(MAX_HEADER + 1).as_bytes()), None);
    }
}
