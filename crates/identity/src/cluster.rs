//! Names of managed clusters, and the host name under which each is reached in the tunnel.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// What every tunnel host ends with.
pub const TUNNEL_HOST_SUFFIX: &str = ".open-cluster-management.proxy";

/// The port of the service-proxy behind every tunnel host.
pub const SERVICE_PROXY_PORT: u16 = 7443;

/// Hex digits of the SHA-256 of the cluster's name that go into its tunnel host: with
/// `cluster-` before them the first label stays within the 63 characters of RFC 1035.
const TUNNEL_HOST_HEX_DIGITS: usize = 48;

/// The longest name Kubernetes gives an object (RFC 1123 subdomain).
const MAX_NAME_LENGTH: usize = 253;

/// The name of a ManagedCluster: an RFC 1123 subdomain, as Kubernetes checks object names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() {
            return Err(ClusterNameError::Empty);
        }
        if name.len() > MAX_NAME_LENGTH {
            return Err(ClusterNameError::TooLong);
        }
        if !name.split('.').all(is_label) {
            return Err(ClusterNameError::NotASubdomain);
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterName({})", self.0)
    }
}

/// Why a text is not the name of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClusterNameError {
    /// Nothing there.
    #[error("a cluster name cannot be empty")]
    Empty,
    /// More than 253 characters.
    #[error("a cluster name has at most {MAX_NAME_LENGTH} characters")]
    TooLong,
    /// Characters that a Kubernetes object name cannot have.
    #[error(
        "a cluster name consists of lower case letters, digits, '-' and '.', and each part begins \
         and ends with a letter or digit"
    )]
    NotASubdomain,
}

/// The host name of a cluster's service-proxy inside the tunnel:
/// `cluster-<48 hex digits of sha256(name)>.open-cluster-management.proxy`.
///
/// It names exactly one cluster, carries no separator a name could smuggle in, and is what the
/// service-proxy's certificate is issued for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelHost(String);

impl TunnelHost {
    /// The tunnel host of `cluster`.
    #[must_use]
    pub fn of(cluster: &ClusterName) -> Self {
        let digest = Sha256::digest(cluster.as_str().as_bytes());
        let mut host = String::from("cluster-");
        for byte in digest.iter().take(TUNNEL_HOST_HEX_DIGITS / 2) {
            host.push(hex_digit(byte >> 4));
            host.push(hex_digit(byte & 0x0f));
        }
        host.push_str(TUNNEL_HOST_SUFFIX);
        Self(host)
    }

    /// The host in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TunnelHost {
    type Err = TunnelHostError;

    /// Host names are compared without regard to case (RFC 4343); the result is in lower case.
    fn from_str(host: &str) -> Result<Self, Self::Err> {
        let host = host.to_ascii_lowercase();
        let digits = host
            .strip_suffix(TUNNEL_HOST_SUFFIX)
            .and_then(|label| label.strip_prefix("cluster-"))
            .ok_or(TunnelHostError)?;
        if digits.len() != TUNNEL_HOST_HEX_DIGITS
            || !digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(TunnelHostError);
        }
        Ok(Self(host))
    }
}

impl fmt::Display for TunnelHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TunnelHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelHost({})", self.0)
    }
}

/// The text is not a cluster's tunnel host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form cluster-<48 hex digits>{TUNNEL_HOST_SUFFIX}")]
pub struct TunnelHostError;

/// Whether `label` is an RFC 1123 label, without its limit of 63 characters: Kubernetes has none
/// for the parts of an object's name.
pub(crate) fn is_label(label: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            alphanumeric(first)
                && alphanumeric(last)
                && bytes.iter().all(|&b| alphanumeric(b) || b == b'-')
        }
        _ => false,
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_are_kubernetes_object_names() {
        for good in ["managed", "1st", "eu-west.prod.7", &"a".repeat(253)] {
            assert_eq!(good.parse::<ClusterName>().unwrap().as_str(), good);
        }
        for bad in [
            "", "-a", "a-", "A", "a..b", ".a", "a/b", "a%2fb", "a b", "ü", "a_b", "a@b",
        ] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?} was taken");
        }
        assert_eq!(
            "a".repeat(254).parse::<ClusterName>(),
            Err(ClusterNameError::TooLong)
        );
    }

    #[test]
    fn tunnel_host_is_the_one_upstream_computes() {
        let host = TunnelHost::of(&"managed".parse().unwrap());
        // printf managed | sha256sum | cut -c1-48
        assert_eq!(
            host.as_str(),
            "cluster-7fdfda5f50a433ae127a784fc143105fb6d93fedec7601dd.open-cluster-management.proxy"
        );
        assert_eq!(host.as_str().split('.').next().unwrap().len(), 56);
    }

    #[test]
    fn tunnel_host_parses_in_any_case_and_nothing_else() {
        let host = TunnelHost::of(&"managed".parse().unwrap());
        assert_eq!(
            host.as_str().to_uppercase().parse::<TunnelHost>().unwrap(),
            host
        );
        for bad in [
            "",
            "managed",
            "cluster-.open-cluster-management.proxy",
            "x.open-cluster-management.proxy",
        ] {
            assert!(bad.parse::<TunnelHost>().is_err());
        }
        assert!(
            host.as_str()
                .replace("cluster-", "cluster-g")
                .parse::<TunnelHost>()
                .is_err()
        );
        assert!(format!("{host}.").parse::<TunnelHost>().is_err());
    }
}
