//! What an agent announces of itself, as against what its certificate proves.
//!
//! The `agentidentifiers` header of konnectivity: a URL query such as
//! `host=a&host=b&ipv4=1.2.3.4&ipv6=…&cidr=10.0.0.0/8&default-route=true`. Unknown kinds are
//! ignored, as konnectivity's server does.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest header taken; an agent announces a handful of names.
const MAX_BYTES: usize = 16 * 1024;

/// The most identifiers taken from one agent.
const MAX_IDENTIFIERS: usize = 256;

/// Names and addresses under which an agent says it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnouncedIdentifiers {
    /// Host names, in lower case: they are looked up without regard to case.
    pub hosts: Vec<String>,
    /// IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// Networks, as announced.
    pub cidrs: Vec<String>,
    /// Whether the agent takes what no other agent is announced for.
    pub default_route: bool,
}

impl FromStr for AnnouncedIdentifiers {
    type Err = AnnouncedIdentifiersError;

    fn from_str(query: &str) -> Result<Self, Self::Err> {
        if query.len() > MAX_BYTES {
            return Err(AnnouncedIdentifiersError::TooLong);
        }
        let mut announced = Self::default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        for (count, pair) in pairs.enumerate() {
            if count >= MAX_IDENTIFIERS {
                return Err(AnnouncedIdentifiersError::TooMany);
            }
            let (kind, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value).ok_or(AnnouncedIdentifiersError::Escape)?;
            let invalid = |kind| AnnouncedIdentifiersError::Value { kind };
            match kind {
                "host" if is_host(&value) => announced.hosts.push(value.to_ascii_lowercase()),
                "host" => return Err(invalid("host")),
                "ipv4" => announced
                    .ipv4
                    .push(value.parse().map_err(|_| invalid("ipv4"))?),
                "ipv6" => announced
                    .ipv6
                    .push(value.parse().map_err(|_| invalid("ipv6"))?),
                "cidr" => announced.cidrs.push(value),
                "default-route" => announced.default_route = value == "true",
                _ => {}
            }
        }
        Ok(announced)
    }
}

impl fmt::Display for AnnouncedIdentifiers {
    /// The query string that parses to the same identifiers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> = Vec::new();
        pairs.extend(
            self.hosts
                .iter()
                .map(|host| format!("host={}", escape(host))),
        );
        pairs.extend(self.ipv4.iter().map(|ip| format!("ipv4={ip}")));
        pairs.extend(
            self.ipv6
                .iter()
                .map(|ip| format!("ipv6={}", escape(&ip.to_string()))),
        );
        pairs.extend(
            self.cidrs
                .iter()
                .map(|cidr| format!("cidr={}", escape(cidr))),
        );
        if self.default_route {
            pairs.push("default-route=true".to_owned());
        }
        f.write_str(&pairs.join("&"))
    }
}

/// Why announced identifiers cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncedIdentifiersError {
    /// More than 16 KiB.
    #[error("agent identifiers longer than {MAX_BYTES} bytes")]
    TooLong,
    /// More than 256.
    #[error("more than {MAX_IDENTIFIERS} agent identifiers")]
    TooMany,
    /// A broken percent escape.
    #[error("agent identifiers with a broken percent escape")]
    Escape,
    /// A value that is not of its kind.
    #[error("an agent identifier is not a valid {kind}")]
    Value {
        /// `host`, `ipv4` or `ipv6`.
        kind: &'static str,
    },
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_konnectivity_agents_send() {
        let announced: AnnouncedIdentifiers =
            "host=a&host=B.c&ipv4=1.2.3.4&ipv6=%3A%3A1&cidr=10.0.0.0%2F8&default-route=true&new=1"
                .parse()
                .unwrap();
        assert_eq!(announced.hosts, ["a", "b.c"]);
        assert_eq!(announced.ipv4, [Ipv4Addr::new(1, 2, 3, 4)]);
        assert_eq!(announced.ipv6, [Ipv6Addr::LOCALHOST]);
        assert_eq!(announced.cidrs, ["10.0.0.0/8"]);
        assert!(announced.default_route);
        assert_eq!(announced.to_string().parse(), Ok(announced));
        assert_eq!("".parse(), Ok(AnnouncedIdentifiers::default()));
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        for bad in [
            "host=",
            "host=a%2",
            "host=a b",
            "host=a%0ab",
            "ipv4=::1",
            "ipv6=1.2.3.4",
        ] {
            assert!(bad.parse::<AnnouncedIdentifiers>().is_err(), "{bad}");
        }
        assert_eq!(
            "host=a&"
                .repeat(MAX_IDENTIFIERS + 1)
                .parse::<AnnouncedIdentifiers>(),
            Err(AnnouncedIdentifiersError::TooMany)
        );
        assert_eq!(
            "x".repeat(MAX_BYTES + 1).parse::<AnnouncedIdentifiers>(),
            Err(AnnouncedIdentifiersError::TooLong)
        );
    }
}
