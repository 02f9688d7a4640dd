//! What a tunnel user asks for: `host:port`, as in the authority of a CONNECT request
//! (RFC 9110 section 9.3.6).
//!
//! Parsed once, strictly and with a bounded length, so that what is compared, routed, logged and
//! dialled are the same bytes. Nothing is normalised: [`Target::host_is`] compares without
//! regard to case.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use cluster_proxy_identity::{SERVICE_PROXY_PORT, TunnelHost};

/// A host and a port to be dialled at the far end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Name(String),
    V6(Ipv6Addr),
}

impl Target {
    /// A target from a host (a name, an IPv4 address or an IPv6 address without brackets) and a
    /// port.
    ///
    /// # Errors
    ///
    /// When `host` is no host, or `port` is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, TargetError> {
        if port == 0 {
            return Err(TargetError::Port);
        }
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => Host::V6(address),
            Err(_) => Host::Name(checked_name(host)?),
        };
        Ok(Self { host, port })
    }

    /// The service-proxy of the cluster whose tunnel host is `host`.
    #[must_use]
    pub fn service_proxy(host: &TunnelHost) -> Self {
        Self {
            host: Host::Name(host.as_str().to_owned()),
            port: SERVICE_PROXY_PORT,
        }
    }

    /// The host, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::V6(address) => address.to_string(),
        }
    }

    /// Whether the host is `name`, without regard to case (RFC 4343).
    #[must_use]
    pub fn host_is(&self, name: &str) -> bool {
        matches!(&self.host, Host::Name(own) if own.eq_ignore_ascii_case(name))
    }

    /// The host as an address, when it is one and no name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Name(name) => name.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Host::V6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(authority: &str) -> Result<Self, Self::Err> {
        if authority.len() > MAX_AUTHORITY_LENGTH {
            return Err(TargetError::TooLong);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(TargetError::Port)?;
        let port = checked_port(port)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').ok_or(TargetError::Host)?;
                Host::V6(address.parse().map_err(|_| TargetError::Host)?)
            }
            None => Host::Name(checked_name(host)?),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

/// Why a text names no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Longer than any host name with a port.
    #[error("longer than {MAX_AUTHORITY_LENGTH} bytes")]
    TooLong,
    /// The host is no host name, IPv4 address or bracketed IPv6 address.
    #[error("the host is neither a host name nor an address (IPv6 goes in brackets)")]
    Host,
    /// The port is missing or not from 1 to 65535.
    #[error("the port is missing or not a number from 1 to 65535")]
    Port,
}

/// The longest host name (RFC 1035) in text form.
const MAX_HOST_LENGTH: usize = 253;

/// A host name, a colon and five digits.
const MAX_AUTHORITY_LENGTH: usize = MAX_HOST_LENGTH + 6;

/// Letters, digits, `-`, `.` and `_` (which some DNS names have): nothing that a URL, a header or
/// a log line could read as a separator.
fn checked_name(name: &str) -> Result<String, TargetError> {
    let valid = !name.is_empty()
        && name.len() <= MAX_HOST_LENGTH
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if valid {
        Ok(name.to_owned())
    } else {
        Err(TargetError::Host)
    }
}

/// Digits only: `u16::from_str` alone would take `+80`, and leading zeros would make two
/// spellings of one port.
fn checked_port(port: &str) -> Result<u16, TargetError> {
    let canonical = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    if canonical {
        port.parse().map_err(|_| TargetError::Port)
    } else {
        Err(TargetError::Port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_what_a_connect_request_names() {
        for text in [
            "a:1",
            "Managed.example_1.com:65535",
            "127.0.0.1:80",
            "[::1]:443",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        let v6: Target = "[2001:DB8::1]:443".parse().unwrap();
        assert_eq!((v6.host().as_str(), v6.port()), ("2001:db8::1", 443));
        assert_eq!(Target::new("2001:db8::1", 443), Ok(v6));
        assert_eq!(Target::new("x", 0), Err(TargetError::Port));
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for bad in [
            "",
            ":",
            "a",
            "a:",
            ":80",
            "a:0",
            "a:080",
            "a:+80",
            "a:65536",
            "a:80 ",
            "a b:80",
            "user@a:80",
            "a/b:80",
            "a:80/",
            "::1:80",
            "[::1]",
            "[::1:80",
            "[a]:80",
            "[fe80::1%0]:8",
            "a%2e:80",
            "ü:80",
            "a\0:80",
            "a\n:80",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?} was taken");
        }
        let long = format!("{}:80", "a".repeat(MAX_HOST_LENGTH + 1));
        assert_eq!(long.parse::<Target>(), Err(TargetError::Host));
        assert_eq!(
            "a".repeat(1 << 20).parse::<Target>(),
            Err(TargetError::TooLong)
        );
    }

    #[test]
    fn hosts_compare_without_regard_to_case() {
        let host = TunnelHost::of(&"managed".parse().unwrap());
        let target: Target = format!("{}:7443", host.as_str().to_uppercase())
            .parse()
            .unwrap();
        assert!(target.host_is(host.as_str()));
        assert!(Target::service_proxy(&host).host_is(host.as_str()));
        assert!(!target.host_is("managed"));
        assert_eq!(
            "10.0.0.1:1".parse::<Target>().unwrap().ip(),
            Some([10, 0, 0, 1].into())
        );
        assert_eq!(target.ip(), None);
    }
}
