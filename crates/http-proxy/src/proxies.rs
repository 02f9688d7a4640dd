//! Which proxy a target is reached through.

use std::path::PathBuf;
use std::sync::Arc;

use cluster_proxy_runtime::error::StartError;

use crate::no_proxy::NoProxy;
use crate::proxy::Proxy;
use crate::proxy_url::{ProxyUrl, ProxyUrlError};

/// The proxy for everything that speaks TLS, what is reached without it, and whom to trust as
/// that proxy. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    no_proxy: Arc<NoProxy>,
}

impl Proxies {
    /// No proxy for anything.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// As the environment of this process says: `HTTPS_PROXY` and `NO_PROXY`, or, where one of
    /// them is unset or empty, the same in lower case; `ROOT_CA_CERT`, a file with CAs that may
    /// have signed an https:// proxy's certificate, beside those of this machine.
    ///
    /// # Errors
    /// [`VariableError`] for a proxy's URL that is none.
    pub fn from_environment() -> Result<Self, VariableError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same, from variables that `value` gives.
    ///
    /// # Errors
    /// As [`Self::from_environment`].
    pub fn from_variables(value: impl Fn(&str) -> Option<String>) -> Result<Self, VariableError> {
        let first = |names: [&'static str; 2]| {
            names
                .into_iter()
                .find_map(|name| Some((name, value(name).filter(|value| !value.is_empty())?)))
        };
        let Some((name, url)) = first(HTTPS_PROXY) else {
            return Ok(Self::none());
        };
        let url = ProxyUrl::parse(&url).map_err(|cause| VariableError { name, cause })?;
        let no_proxy = first(NO_PROXY).map(|(_, list)| NoProxy::parse(&list));
        let mut proxies = Self {
            proxy: Some(Proxy::new(url)),
            no_proxy: Arc::new(no_proxy.unwrap_or_default()),
        };
        if let Some(file) = value(ROOT_CA_CERT).filter(|file| !file.is_empty()) {
            proxies = proxies.trusting(file.into());
        }
        Ok(proxies)
    }

    /// Trusts the CAs of one more file as signers of an https:// proxy's certificate. The file is
    /// read at each connection.
    #[must_use]
    pub fn trusting(self, ca: PathBuf) -> Self {
        Self {
            proxy: self.proxy.map(|proxy| proxy.trusting_file(ca)),
            no_proxy: self.no_proxy,
        }
    }

    /// The proxy that leads to `host` (a name, or an address without brackets) at `port`; none if
    /// it is reached directly.
    #[must_use]
    pub fn towards(&self, host: &str, port: u16) -> Option<&Proxy> {
        self.proxy
            .as_ref()
            .filter(|_| !self.no_proxy.covers(host, port))
    }
}

/// A variable of the environment that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {}", self.problem())]
pub struct VariableError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong with its value.
    pub cause: ProxyUrlError,
}

impl VariableError {
    fn problem(&self) -> String {
        format!("the URL of the HTTP proxy cannot be used: {}", self.cause)
    }
}

/// Wrong wherever the program runs.
impl From<VariableError> for StartError {
    fn from(error: VariableError) -> Self {
        Self::usage(error.name, error.problem())
    }
}

/// By preference, as in Go.
const HTTPS_PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Set in the agent's pod; the file holds `proxyConfig.caBundle`.
const ROOT_CA_CERT: &str = "ROOT_CA_CERT";

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, VariableError> {
        let variables = variables.to_vec();
        Proxies::from_variables(move |name| {
            let mut found = variables.iter().filter(|(own, _)| *own == name);
            found.next().map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_and_their_order() {
        for (variables, proxy) in [
            (&[][..], None),
            (&[("HTTP_PROXY", "plain:1"), ("ALL_PROXY", "all:1")], None),
            (&[("HTTPS_PROXY", "up:1")], Some("http://up:1")),
            (&[("https_proxy", "low:1")], Some("http://low:1")),
            (
                &[("https_proxy", "low:1"), ("HTTPS_PROXY", "up:1")],
                Some("http://up:1"),
            ),
            (
                &[("https_proxy", "low:1"), ("HTTPS_PROXY", "")],
                Some("http://low:1"),
            ),
            (
                &[("HTTPS_PROXY", "up:1"), ("NO_PROXY", "example.com:443")],
                None,
            ),
            (
                &[("HTTPS_PROXY", "up:1"), ("no_proxy", "example.com")],
                None,
            ),
            (
                &[
                    ("HTTPS_PROXY", "up:1"),
                    ("no_proxy", "*"),
                    ("NO_PROXY", "other"),
                ],
                Some("http://up:1"),
            ),
        ] {
            let proxies = proxies(variables).unwrap();
            let chosen = proxies.towards("hub.example.com", 443);
            let chosen = chosen.map(|proxy| proxy.url().to_string());
            assert_eq!(chosen.as_deref(), proxy, "{variables:?}");
            assert!(proxies.towards("localhost", 443).is_none());
        }
    }

    #[test]
    fn a_malformed_url_is_named_by_its_variable() {
        let error = proxies(&[("https_proxy", "http://user:s3cret@proxy:port")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "https_proxy: the URL of the HTTP proxy cannot be used: its port is none: \
             http://[user:password@]host[:port] is needed"
        );
    }
}
