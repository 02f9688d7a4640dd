//! `NO_PROXY`: what is reached directly.
//!
//! The rules are those of `golang.org/x/net/http/httpproxy`, an address in brackets without a port
//! being the one addition. An entry that means nothing is passed over, as there.

use std::net::IpAddr;

use cluster_proxy_runtime::flags::HostPort;

/// A parsed `NO_PROXY`. `localhost` and loopback addresses are always in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy {
    everything: bool,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    host: Host,
    /// Any port, if there is none.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Network {
        address: IpAddr,
        bits: u8,
    },
    Domain {
        /// With its leading dot, in lower case.
        suffix: String,
        /// Whether the name without the dot is meant too.
        itself: bool,
    },
}

impl NoProxy {
    /// Parses a list with commas: `*`, `example.com` (and what is below it), `.example.com` and
    /// `*.example.com` (only what is below it), addresses, networks (`10.0.0.0/8`); each but a
    /// network may have a `:port`, before which an IPv6 address stands in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for entry in text.split(',').map(str::trim) {
            if entry == "*" {
                parsed.everything = true;
            } else if let Some(entry) = Entry::parse(&entry.to_ascii_lowercase()) {
                parsed.entries.push(entry);
            }
        }
        parsed
    }

    /// Whether `host` (a name, or an address without brackets) is reached directly. A name is
    /// compared as it is and never resolved.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim().to_ascii_lowercase();
        let address = host
            .parse()
            .ok()
            .map(|address: IpAddr| address.to_canonical());
        self.everything
            || host == "localhost"
            || address.is_some_and(|address| address.is_loopback())
            || self
                .entries
                .iter()
                .filter(|entry| entry.port.is_none_or(|only| only == port))
                .any(|entry| entry.host.matches(&host, address))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        if let Some(host) = network(text) {
            return Some(Self { host, port: None });
        }
        let (host, port) = match text.parse::<HostPort>() {
            Ok(HostPort { host, port }) => (host, Some(port)),
            Err(_) => (unbracketed(text).to_owned(), None),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self {
                host: Host::Address(address.to_canonical()),
                port,
            });
        }
        let (domain, itself) = match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
            Some(domain) => (domain, false),
            None => (host.as_str(), true),
        };
        // What is left of a damaged network or of `:port` matches no name.
        if domain.is_empty() || domain.contains(['/', ':']) {
            return None;
        }
        Some(Self {
            host: Host::Domain {
                suffix: format!(".{domain}"),
                itself,
            },
            port,
        })
    }
}

impl Host {
    fn matches(&self, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Address(own) => address == Some(*own),
            Self::Network {
                address: network,
                bits,
            } => address.is_some_and(|address| is_within(address, *network, *bits)),
            Self::Domain { suffix, itself } => {
                host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..])
            }
        }
    }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text)
}

fn network(text: &str) -> Option<Host> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    // `u8::from_str` takes a plus sign.
    let bits = bits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| bits.parse::<u8>().ok())??;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some(Host::Network { address, bits })
}

/// Whether both are of one kind and begin with the same `bits`.
fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |difference: u128, width: u32| {
        let ignored = width.saturating_sub(u32::from(bits));
        difference.checked_shr(ignored).unwrap_or_default() == 0
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            same(u128::from(address.to_bits() ^ network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            same(address.to_bits() ^ network.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered() {
        for (list, host, port, covered) in [
            ("", "hub.example.com", 443, false),
            ("*", "hub.example.com", 443, true),
            ("a, * ,b", "10.0.0.1", 443, true),
            ("hub.example.com", "hub.example.com", 443, true),
            ("HUB.example.com", "hub.EXAMPLE.com", 443, true),
            ("example.com", "hub.example.com", 443, true),
            ("example.com", "hubexample.com", 443, false),
            ("example.com", "example.com.evil", 443, false),
            (".example.com", "hub.example.com", 443, true),
            (".example.com", "example.com", 443, false),
            ("*.example.com", "a.hub.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*example.com", "hub.example.com", 443, false),
            ("hub.example.com:6443", "hub.example.com", 6443, true),
            ("hub.example.com:6443", "hub.example.com", 443, false),
            (".example.com:6443", "hub.example.com", 6443, true),
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("10.1.2.3", "10.1.2.33", 443, false),
            ("10.1.2.3:80", "10.1.2.3", 443, false),
            ("10.1.2.3:80", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "10.200.0.1", 443, true),
            ("10.0.0.0/8", "11.0.0.1", 443, false),
            // Go ignores the bits beyond the mask.
            ("10.9.9.9/8", "10.200.0.1", 443, true),
            ("10.0.0.0/0", "11.0.0.1", 443, true),
            ("10.0.0.1/32", "10.0.0.1", 443, true),
            ("10.0.0.1/32", "10.0.0.2", 443, false),
            ("10.0.0.0/33", "10.0.0.0", 443, false),
            ("10.0.0.0/+8", "10.0.0.0", 443, false),
            ("10.0.0.0/8", "10.example.com", 443, false),
            ("10.0.0.0/8", "fd00::1", 443, false),
            ("fd00::/8", "fd12::1", 443, true),
            ("fd00::/8", "fe12::1", 443, false),
            ("::/0", "fe12::1", 443, true),
            ("fd00::1", "FD00:0::1", 443, true),
            ("[fd00::1]", "fd00::1", 443, true),
            ("[fd00::1]:6443", "fd00::1", 6443, true),
            ("[fd00::1]:6443", "fd00::1", 443, false),
            ("10.1.2.3", "::ffff:10.1.2.3", 443, true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", 443, true),
            (":443", "hub.example.com", 443, false),
            (",,.,*.,", "hub.example.com", 443, false),
            ("", "localhost", 443, true),
            ("", "LOCALHOST", 443, true),
            ("", "127.0.0.1", 443, true),
            ("", "127.9.9.9", 443, true),
            ("", "::1", 443, true),
            ("", "::ffff:127.0.0.1", 443, true),
            ("", "localhost.example.com", 443, false),
        ] {
            let answer = NoProxy::parse(list).covers(host, port);
            assert_eq!(answer, covered, "{list:?} and {host}:{port}");
        }
    }
}
