//! What a request wants to reach in a managed cluster: a Service, the kube-apiserver among them.

use std::fmt;
use std::str::FromStr;

use crate::cluster::is_label;

/// Labels of DNS names have at most 63 characters (RFC 1035), names of Services and Namespaces
/// likewise.
const MAX_LABEL_LENGTH: usize = 63;

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl FromStr for Scheme {
    type Err = ServiceTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(ServiceTargetError::Scheme),
        }
    }
}

/// Which port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServicePort {
    /// By its number.
    Number(u16),
    /// By its name, a DNS label.
    Name(String),
    /// The only one it has.
    Only,
}

impl ServicePort {
    /// The port's number, if that is how it is given.
    #[must_use]
    pub fn number(&self) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(_) | Self::Only => None,
        }
    }
}

/// Number or name as in URLs and headers; empty for the only port.
impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Only => Ok(()),
        }
    }
}

impl FromStr for ServicePort {
    type Err = ServiceTargetError;

    /// Digits alone are a number: `u16::from_str` would take a leading `+`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::Only);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            let number = text.parse().ok().filter(|&port| port != 0);
            return number.map(Self::Number).ok_or(ServiceTargetError::Port);
        }
        let is_name = text.len() <= MAX_LABEL_LENGTH && is_label(text);
        is_name
            .then(|| Self::Name(text.to_owned()))
            .ok_or(ServiceTargetError::Port)
    }
}

/// One Service of a managed cluster. Its parts can only be labels and a port, so that no name
/// leaves its place in the host name made of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceTarget {
    scheme: Scheme,
    namespace: String,
    service: String,
    port: ServicePort,
}

impl ServiceTarget {
    /// Parses the four parts as they come in a URL or in headers.
    ///
    /// # Errors
    /// [`ServiceTargetError`] names the part that is not what it must be.
    pub fn parse(
        scheme: &str,
        namespace: &str,
        service: &str,
        port: &str,
    ) -> Result<Self, ServiceTargetError> {
        let target = Self {
            scheme: scheme.parse()?,
            namespace: label(namespace).ok_or(ServiceTargetError::Namespace)?,
            service: label(service).ok_or(ServiceTargetError::Service)?,
            port: port.parse()?,
        };
        Ok(if target.names_kubernetes_default() {
            Self::kube_apiserver()
        } else {
            target
        })
    }

    /// `https://kubernetes.default.svc:443`.
    #[must_use]
    pub fn kube_apiserver() -> Self {
        Self {
            scheme: Scheme::Https,
            namespace: "default".to_owned(),
            service: "kubernetes".to_owned(),
            port: ServicePort::Number(443),
        }
    }

    /// Whether this is the kube-apiserver: the Service `kubernetes` in the Namespace `default`,
    /// in whatever case, scheme or port it was asked for. Every spelling parses to
    /// [`Self::kube_apiserver`], so that none goes without authentication.
    #[must_use]
    pub fn is_kube_apiserver(&self) -> bool {
        self.names_kubernetes_default()
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The Service's Namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Service's name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Which of the Service's ports.
    #[must_use]
    pub fn port(&self) -> &ServicePort {
        &self.port
    }

    /// The same Service by another port.
    #[must_use]
    pub fn with_port(self, port: ServicePort) -> Self {
        if self.is_kube_apiserver() {
            return self;
        }
        Self { port, ..self }
    }

    /// `<service>.<namespace>.svc`, the name to dial and to verify.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    fn names_kubernetes_default(&self) -> bool {
        self.service == "kubernetes" && self.namespace == "default"
    }
}

impl fmt::Display for ServiceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host())?;
        match &self.port {
            ServicePort::Only => Ok(()),
            port => write!(f, ":{port}"),
        }
    }
}

/// The part of a target that cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTargetError {
    /// Neither `http` nor `https`.
    #[error("the scheme is neither http nor https")]
    Scheme,
    /// Not a DNS label.
    #[error("the namespace is not a DNS label of at most {MAX_LABEL_LENGTH} characters")]
    Namespace,
    /// Not a DNS label.
    #[error("the service name is not a DNS label of at most {MAX_LABEL_LENGTH} characters")]
    Service,
    /// Neither a number from 1 to 65535 nor a DNS label.
    #[error("the port is neither a number from 1 to 65535 nor the name of a port")]
    Port,
}

/// DNS names know no case, so a spelling in capitals is the same Service.
fn label(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    (text.len() <= MAX_LABEL_LENGTH && is_label(&text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_kube_apiserver_is_it() {
        for (scheme, namespace, service, port) in [
            ("https", "default", "kubernetes", "443"),
            ("http", "default", "kubernetes", "80"),
            ("https", "DEFAULT", "Kubernetes", "6443"),
        ] {
            let target = ServiceTarget::parse(scheme, namespace, service, port).unwrap();
            assert_eq!(target, ServiceTarget::kube_apiserver());
            assert!(target.is_kube_apiserver());
        }
    }

    #[test]
    fn no_part_leaves_its_place() {
        for bad in [
            "..",
            "a.b",
            "x@y",
            "[::1]",
            "",
            "a/b",
            "a:1",
            "a%2e",
            "kubernetes.default.svc",
        ] {
            assert!(
                ServiceTarget::parse("https", "ns", bad, "1").is_err(),
                "{bad}"
            );
            assert!(
                ServiceTarget::parse("https", bad, "svc", "1").is_err(),
                "{bad}"
            );
        }
        for bad in [
            "0", "+5", "65536", "5+", " 1", "a.b", "HTTPS", "-a", "a:1", "[::1]",
        ] {
            assert_eq!(
                ServiceTarget::parse("https", "ns", "svc", bad),
                Err(ServiceTargetError::Port)
            );
        }
        assert_eq!(
            ServiceTarget::parse("ftp", "ns", "svc", "1"),
            Err(ServiceTargetError::Scheme)
        );
        for (port, shown) in [("8080", ":8080"), ("metrics", ":metrics"), ("", "")] {
            let web = ServiceTarget::parse("http", "shop", "web", port).unwrap();
            assert_eq!(web.to_string(), format!("http://web.shop.svc{shown}"));
            assert_eq!(web.port().to_string(), port);
        }
    }
}
