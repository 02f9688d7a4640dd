//! `NAMESPACE/NAME` of a service account.

use std::fmt;
use std::str::FromStr;

/// A service account of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceAccountName {
    namespace: String,
    name: String,
}

impl ServiceAccountName {
    /// Where it is.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How it is called there.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for ServiceAccountName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "not of the form NAMESPACE/NAME, as tools/viewer".to_owned();
        let (namespace, name) = text.split_once('/').ok_or_else(wrong)?;
        let fits = |text: &str, limit: usize| {
            text.len() <= limit
                && text.split('.').all(|label| {
                    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
                    !label.is_empty()
                        && label.bytes().all(inner)
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                })
        };
        if namespace.contains('.') || !fits(namespace, MAX_LABEL) || !fits(name, MAX_SUBDOMAIN) {
            return Err(wrong());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for ServiceAccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Of a namespace's name (RFC 1123 label).
const MAX_LABEL: usize = 63;

/// Of an object's name (RFC 1123 subdomain).
const MAX_SUBDOMAIN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_are_those_of_kubernetes_objects() {
        let account: ServiceAccountName = "tools/viewer.v1".parse().expect("an account");
        assert_eq!(
            (account.namespace(), account.name()),
            ("tools", "viewer.v1")
        );
        assert_eq!(account.to_string(), "tools/viewer.v1");
        for bad in [
            "", "viewer", "/viewer", "tools/", "a/b/c", "A/b", "a.b/c", "a/-b", "a/..", "a/b?c",
        ] {
            assert!(bad.parse::<ServiceAccountName>().is_err(), "{bad}");
        }
    }
}
