//! How an error tells of a proxy on the way.

use std::fmt;
use std::io;

use rustls::CertificateError;

use crate::proxy::Proxy;

/// The URL, without credentials, of an HTTP proxy on the way, if there is one. Displayed, it
/// follows the name of what was reached: ` through the HTTP proxy http://…`, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Via(Option<String>);

impl Via {
    /// The way through this proxy, or the direct one.
    #[must_use]
    pub fn of(proxy: Option<&Proxy>) -> Self {
        Self(proxy.map(|proxy| proxy.url().to_string()))
    }

    /// Whether there is a proxy.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a failed TLS handshake with what lies behind the proxy looks as if the proxy had
    /// answered it: the certificate is of a CA that is not trusted.
    #[must_use]
    pub fn inspects(&self, error: &io::Error) -> bool {
        self.is_proxy() && is_of_unknown_ca(error)
    }
}

/// Two CAs of one name differ in their signatures only.
pub(crate) fn is_of_unknown_ca(error: &io::Error) -> bool {
    use CertificateError::{BadSignature, UnknownIssuer};
    matches!(
        tls_error(error),
        Some(rustls::Error::InvalidCertificate(
            UnknownIssuer | BadSignature
        ))
    )
}

pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(proxy) => write!(f, " through the HTTP proxy {proxy}"),
            None => Ok(()),
        }
    }
}
