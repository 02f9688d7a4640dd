//! Header hygiene at a hop (RFC 9110 section 7.6.1).
//!
//! What belongs to one connection ends there: the fields known by name, and every field that a
//! `Connection` header names. The order is the safety: hop-by-hop removal runs on what came in,
//! before this hop sets anything of its own, so no spelling of `Connection` can take away a field
//! that we set afterwards (CVE-2021-31999, CVE-2022-23652, CVE-2026-29054).
//!
//! `X-Forwarded-For` grows by the address of the client as every proxy's does, which
//! kube-apiserver writes into its audit log; `X-Forwarded-Host`, `X-Forwarded-Proto` and
//! `Forwarded` pass as they came.

use std::net::IpAddr;

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Version};

/// What the removed fields asked of this hop.
#[derive(Debug, Default)]
pub struct HopRequest {
    /// The protocol of a wanted upgrade: `Upgrade`, when `Connection` named it too.
    pub upgrade: Option<HeaderValue>,
    /// The client reads trailers (`TE: trailers`).
    pub trailers: bool,
}

/// Removes the hop-by-hop fields and reports what they asked for.
///
/// `Trailer` stays: hyper's HTTP/1 side sends only trailers that it names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) -> HopRequest {
    let mut asked = HopRequest {
        upgrade: None,
        trailers: wants_trailers(headers),
    };

    // The common request has no `Connection` header and pays for nothing more than looking.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(connection_tokens)
        .collect();
    let framed_by_transfer_encoding = headers.contains_key(TRANSFER_ENCODING);
    if named.contains(&UPGRADE) {
        asked.upgrade = headers.get(UPGRADE).cloned();
    }
    for name in &named {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if framed_by_transfer_encoding {
        // A length beside Transfer-Encoding is wrong (RFC 9112 section 6.3) and must not describe
        // the body to the next hop.
        headers.remove(CONTENT_LENGTH);
    }
    asked
}

/// Whether the client waits for a stream of events, which stays open (the `EventSource` of HTML).
pub fn wants_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"))
}

/// Says to the next hop that trailers are read here; the value is ours, not the client's.
pub fn set_te_trailers(headers: &mut HeaderMap) {
    headers.insert(TE, HeaderValue::from_static("trailers"));
}

/// Marks a request or answer as switching protocols.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The upgrade that a request asks for, if this hop can carry it: HTTP/1.1 only, and never a
/// change of the HTTP version or of encryption, which would hide the requests that follow.
pub fn carried_upgrade(asked: &HopRequest, version: Version) -> Option<HeaderValue> {
    if version != Version::HTTP_11 {
        return None;
    }
    let protocol = asked.upgrade.clone()?;
    let text = protocol.to_str().ok()?;
    let refused = text.split(',').any(|one| {
        let name = one.trim().split('/').next().unwrap_or_default();
        NEVER_UPGRADED_TO
            .iter()
            .any(|refused| name.eq_ignore_ascii_case(refused))
    });
    (!refused && !text.trim().is_empty()).then_some(protocol)
}

/// Appends the client's address to `X-Forwarded-For`.
pub fn append_forwarded_for(headers: &mut HeaderMap, client: IpAddr) {
    if let Ok(value) = HeaderValue::from_str(&client.to_canonical().to_string()) {
        headers.append(X_FORWARDED_FOR, value);
    }
}

/// Takes the tokens that `unwanted` knows out of a list header; a list that is empty then goes.
pub fn remove_tokens(headers: &mut HeaderMap, name: &HeaderName, unwanted: impl Fn(&[u8]) -> bool) {
    let is_unwanted = |token: &&[u8]| unwanted(token.trim_ascii());
    let tokens = |value: &HeaderValue| -> Vec<Vec<u8>> {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::to_vec)
            .collect()
    };
    let hit = headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| is_unwanted(&token))
    });
    if !hit {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| {
            let kept: Vec<_> = tokens(value)
                .into_iter()
                .filter(|token| !is_unwanted(&token.as_slice()))
                .collect();
            let joined = kept.join(&b',');
            let value = HeaderValue::from_bytes(joined.trim_ascii()).ok()?;
            (!value.is_empty()).then_some(value)
        })
        .collect();
    headers.remove(name);
    for value in kept {
        headers.append(name, value);
    }
}

/// The names in one `Connection` value. A token that is no header name can name no header.
fn connection_tokens(value: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|coding| {
            let name = coding
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"trailers")
        })
    })
}

/// Fields of one connection, by name (RFC 9110 section 7.6.1; `Keep-Alive` and `Proxy-Connection`
/// are older customs).
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

const NEVER_UPGRADED_TO: [&str; 4] = ["h2c", "h2", "tls", "http"];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests;
